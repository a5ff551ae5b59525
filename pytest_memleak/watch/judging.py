"""From what was seen to its result: pure, the same for a watch that runs, ended, or is read back."""

from __future__ import annotations

from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_watch import Forecast, Track, TrackVerdict, WatchResult
from pytest_memleak.units import MB, counted, format_bytes
from pytest_memleak.verdict.watched import judge_track, judge_tracks
from pytest_memleak.watch.limits import Limit
from pytest_memleak.watch.plan import Plan
from pytest_memleak.watch.seen import Seen

# Beyond a year, "at this rate" is said of a service that will have been deployed anew long before.
_MOST_FORECAST_S: Final = 366 * 24 * 3600.0

_WORTH_A_NOTE: Final = 0.05
"""Of the final memory: below it, what came later explains nothing."""

_IDLE_CORES: Final = 0.005
"""uvicorn without a request uses 0.2 % of a core."""

_SHOWN_PROCESSES: Final = 500
"""Lives judged one by one: those that changed most. The tree as a whole has them all."""


def judge(
    seen: Seen,
    plan: Plan,
    *,
    target: str,
    limit: Limit | None = None,
    made_of: tuple[tuple[str, float], ...] = (),
    ended_early: str = "",
    notes: tuple[str, ...] = (),
) -> WatchResult:
    """The result of what was seen until now."""
    tracks = seen.tracks()
    verdict = judge_tracks(target, tracks, plan.thresholds)
    more = (f"{seen.more_events} more processes began or ended",) if seen.more_events else ()
    began, held = seen.later()
    if began and held >= _WORTH_A_NOTE * seen.final_bytes:
        late = f"{counted(began, 'process', 'processes')} began meanwhile and hold"
        notes = (
            *notes,
            f"{late}{'' if began > 1 else 's'} {format_bytes(held)} of the final RSS: not growth of the others",
        )
    cores = seen.cores
    if verdict.outcome is Outcome.CLEAN and cores is not None and cores < _IDLE_CORES:
        idle = f"it used {cores:.1%} of a core meanwhile: if nobody called it, no leak could show"
        notes = (*notes, f"{idle}; watch it under its traffic")
    return WatchResult(
        target=target,
        verdict=verdict,
        limit_mb_per_min=plan.thresholds.medium,
        initial_bytes=seen.initial_bytes,
        final_bytes=seen.final_bytes,
        seconds=seen.seconds,
        wanted_seconds=plan.duration_s,
        interval_s=plan.interval_s,
        cores=cores,
        basis="RSS",
        processes=tuple(judge_track(track, plan.thresholds) for track in _most_changed(tracks)),
        made_of=made_of,
        forecast=forecast(verdict, seen.final_bytes, limit),
        curves=(seen.curve(),),
        events=(*seen.events, *more),
        notes=notes,
        ended_early=ended_early,
        folder=plan.folder,
    )


def forecast(verdict: TrackVerdict, level: float, limit: Limit | None) -> Forecast | None:
    """When a leak meets the limit, at the rate that was measured; None for what is no leak, or takes over a year."""
    if limit is None or verdict.outcome is not Outcome.LEAK or verdict.rate.value <= 0:
        return None
    used = level if limit.used is None else max(level, float(limit.used))
    seconds = max(0.0, limit.limit_bytes - used) / (verdict.rate.value * MB / 60)
    if seconds > _MOST_FORECAST_S:
        return None
    return Forecast(limit_bytes=float(limit.limit_bytes), whose=limit.whose, seconds=seconds)


def _most_changed(tracks: list[Track]) -> list[Track]:
    """All of them, or those whose level moved most, in their order."""
    if len(tracks) <= _SHOWN_PROCESSES:
        return tracks
    order = sorted(range(len(tracks)), key=lambda at: -abs(tracks[at].levels[-1] - tracks[at].levels[0]))
    return [tracks[at] for at in sorted(order[:_SHOWN_PROCESSES])]
