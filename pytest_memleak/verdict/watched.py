"""What one process, or several that belong together, did while they were watched from outside.

Pure. `drift` judges a long series by what each part of it shows alone. Where it has no answer, or too few readings
for one, whole shapes are compared (`apart`), and what `drift` convicts has to stand that comparison too. Several lives
are laid end to end: each from its own settled level on, so that a restart is no fall and its warm-up no growth.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Severity, Thresholds, Track, TrackVerdict
from pytest_memleak.units import MB, format_rate, format_seconds
from pytest_memleak.verdict import drift, rivals
from pytest_memleak.verdict.apart import apart, doubt, ends_above
from pytest_memleak.verdict.settled import Floats, warm_up

LEAST_READINGS: Final = 16
"""Four for each quarter of the time: no shape shows in fewer."""

LEAST_LIFE: Final = 12
"""Readings of a life among several: it gives its first quarter for the warm-up, and the others help to judge it."""

_WARM_UP: Final = 0.25
"""Of a life that is too short to see where its warm-up ends."""

_SOON: Final = 0.1
"""Of any life: what a process loads first is no growth, however slight."""

_END: Final = 3
"""Readings whose median is a life's first or last level."""

_MOST_TIMES: Final = 2_000
"""Of lives added up: more would be batched again at once."""

_REASONS: Final = {
    "fading": "the growth fades towards the end, as that of a cache that fills",
    "late": "the growth began, or rose, late in that time",
    "step": "the growth is a few steps, and nobody knows whether more follow",
    "sawtooth": "the level rises and falls, and too few falls were seen to tell what stays",
    "unclear": "the scatter hides whether the growth goes on",
    "flat": "the scatter hides whether that is growth above the limit",
    "linear": "the scatter hides whether that is above the limit",
    "too short": "the readings are too few",
}
"""Why there is no answer, by shape."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """A verdict on a series in bytes and seconds; `why` where the shape alone does not say it."""

    outcome: Outcome
    rate: Estimate
    gained: float
    shape: str
    why: str = ""


def judge_track(track: Track, thresholds: Thresholds) -> TrackVerdict:
    """Judge one life against `thresholds.medium`. Readings that are no numbers are passed over."""
    return judge_tracks(track.name, (track,), thresholds)


def judge_tracks(name: str, tracks: Sequence[Track], thresholds: Thresholds) -> TrackVerdict:
    """Judge lives that belong together, beside or after each other, by the growth of all while they lived.

    Lives of fewer than LEAST_LIFE readings are left out, unless there is but one.
    """
    lives = [_readings(track) for track in tracks]
    limit = thresholds.medium * MB / 60
    found = _opinion(*lives[0], limit) if len(lives) == 1 else _together(lives, limit)
    leaks = found.outcome is Outcome.LEAK
    rate = found.rate.times(60 / MB)
    times = [float(t) for times, _ in lives if times.size for t in (times[0], times[-1])]
    seconds = max(times) - min(times) if times else 0.0
    return TrackVerdict(
        name=name,
        outcome=found.outcome,
        severity=thresholds.severity(rate.value) if leaks else Severity.NONE,
        rate=rate,
        gained=found.gained,
        shape=found.shape,
        why=_sentence(found, rate, thresholds, seconds),
        lives=len(tracks),
        readings=sum(times.size for times, _ in lives),
        seconds=seconds,
    )


def _readings(track: Track) -> tuple[Floats, Floats]:
    """The readings that are numbers, in the order of time, one for each time: of several, their median."""
    times, values = np.asarray(track.times_s, dtype=np.float64), np.asarray(track.levels, dtype=np.float64)
    if times.shape != values.shape:
        raise ValueError(f"{times.size} times for {values.size} levels of {track.name}")
    kept = np.isfinite(times) & np.isfinite(values)
    times, values = times[kept], values[kept]
    unique, which = np.unique(times, return_inverse=True)
    if unique.size == times.size:
        order = np.argsort(times)
        return times[order], values[order]
    return unique, np.array([np.median(values[which == at]) for at in range(unique.size)])


def _opinion(times: Floats, values: Floats, limit_per_s: float) -> Opinion:
    """One series against a limit."""
    first = drift.judge(times.tolist(), values.tolist(), limit_per_s)
    found = Opinion(
        outcome=first.outcome, rate=first.rate, gained=first.gained, shape=first.shape, why=first.why
    )  # fmt: skip
    if times.size < LEAST_READINGS:
        why = f"{times.size} readings are too few to tell growth from chance: it takes {LEAST_READINGS}, better 30"
        return dataclasses.replace(found, why=why)
    if float(np.ptp(values)) == 0:
        nothing = Estimate(value=0.0, low=0.0, high=0.0)
        return Opinion(outcome=Outcome.CLEAN, rate=nothing, gained=0.0, shape="flat")
    length_s = float(times[-1] - times[0])
    parts = apart(*rivals.points(times, values))
    allowed = limit_per_s * length_s
    if first.outcome is Outcome.LEAK:
        shape = doubt(parts, again=True)
        return dataclasses.replace(found, outcome=Outcome.INCONCLUSIVE, shape=shape, why="") if shape else found
    late = ends_above(parts, allowed)
    if first.outcome is Outcome.CLEAN:
        return dataclasses.replace(found, outcome=Outcome.INCONCLUSIVE, shape="late", why="") if late else found
    ends = np.median(parts.rest[-_END:]) - np.median(parts.rest[:_END])
    second = dataclasses.replace(found, rate=parts.slope.times(1 / length_s), gained=float(ends), why="")
    if parts.slope.high <= allowed and not late:
        return dataclasses.replace(second, outcome=Outcome.CLEAN, shape="flat")
    if parts.slope.low <= allowed:
        unclear = dataclasses.replace(second, outcome=Outcome.INCONCLUSIVE, shape="unclear")
        return unclear if first.shape == "too short" else found
    shape = doubt(parts)
    outcome = Outcome.INCONCLUSIVE if shape else Outcome.LEAK
    return dataclasses.replace(second, outcome=outcome, shape=shape or "linear")


def _together(lives: Sequence[tuple[Floats, Floats]], limit_per_s: float) -> Opinion:
    """Lives that come and go, as the sum of what each grew after its warm-up."""
    settled = [_settled(*life) for life in lives if life[0].size >= LEAST_LIFE]
    if not settled:
        most = max((times.size for times, _ in lives), default=0)
        why = f"no life lasted longer than {most} readings: it takes {LEAST_LIFE} of one to tell growth from chance"
        nothing = Estimate(value=0.0, low=-math.inf, high=math.inf)
        return Opinion(outcome=Outcome.INCONCLUSIVE, rate=nothing, gained=0.0, shape="too short", why=why)
    times, total = _added(settled)
    found = _opinion(times, total, limit_per_s)
    if found.outcome is not Outcome.LEAK:
        return found
    # Caches that fill again in every life add up to growth without an end.
    alone = [
        (_opinion(*life, 0.0), float(life[0][-1] - life[0][0])) for life in lives if life[0].size >= LEAST_READINGS
    ]
    fading = sum(length for one, length in alone if one.shape == "fading")
    if 2 * fading > sum(length for _, length in alone) > 0:
        return dataclasses.replace(found, outcome=Outcome.INCONCLUSIVE, shape="fading", why="")
    return found


def _settled(times: Floats, values: Floats) -> tuple[Floats, Floats]:
    """A life without its warm-up."""
    start = math.ceil(_WARM_UP * times.size)
    if times.size >= drift.MIN_READINGS:
        start = max(math.ceil(_SOON * times.size), warm_up(times, values)[0])
    return times[start:], values[start:]


def _added(lives: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The growth of all lives over the time in which at least one of them was there.

    What a life had grown stays when it ends: that it gave all back is no answer to whether it leaked.
    """
    times = np.unique(np.concatenate([life[0] for life in lives]))
    there = np.zeros(times.size, dtype=bool)
    for begin, end in ((life[0][0], life[0][-1]) for life in lives):
        there |= (times >= begin) & (times <= end)
    total = np.zeros(times.size)
    for at, level in lives:
        first, last = np.median(level[:_END]), np.median(level[-_END:])
        grown = np.interp(times, at, level - first)
        total += np.where(times < at[0], 0.0, np.where(times > at[-1], last - first, grown))
    steps = np.diff(times)
    covered = np.zeros(steps.size, dtype=bool)
    for begin, end in ((life[0][0], life[0][-1]) for life in lives):
        covered |= (times[:-1] >= begin) & (times[1:] <= end)
    usual = float(np.median(steps[covered]))
    clock = np.concatenate([[0.0], np.cumsum(np.where(covered, steps, np.minimum(steps, usual)))])
    thin = np.unique(np.linspace(0, times.size - 1, min(times.size, _MOST_TIMES)).round().astype(int))
    return clock[thin], total[thin]


def _sentence(found: Opinion, rate: Estimate, thresholds: Thresholds, seconds: float) -> str:
    """What it did, how sure that is, by which rule; and what to do where there is no answer."""
    limit = f"limit {format_rate(thresholds.medium)}"
    if not math.isfinite(rate.high - rate.low):
        return found.why or _REASONS["too short"]
    figure = f"{format_rate(rate.value)} MB/min, between {format_rate(rate.low)} and {format_rate(rate.high)} (99 %)"
    if found.outcome is Outcome.LEAK:
        slow = "a slow leak: " if rate.value < thresholds.high else ""
        return f"{slow}grew {figure}, and did not slow down in {format_seconds(seconds)}; {limit}"
    if found.outcome is Outcome.CLEAN and rate.high > thresholds.medium:
        return f"{found.why}; {limit}"
    if found.outcome is Outcome.CLEAN:
        return f"grew no faster than {format_rate(max(0.0, rate.high))} MB/min (99 %); {limit}"
    reason = _REASONS.get(found.shape, _REASONS["unclear"])
    return f"changed by {figure}; {limit}; {reason}: {_advice(found, rate, thresholds.medium, seconds)}"


def _advice(found: Opinion, rate: Estimate, limit: float, seconds: float) -> str:
    """How long to watch. The interval of a slope shrinks with the time to the power of 1.5."""
    gap = abs(rate.value - limit)
    if found.shape in ("flat", "linear", "unclear") and gap > 0:
        more = max(1.5, ((rate.high - rate.low) / 2 / gap) ** (2 / 3))
        if more <= 10:
            return f"watch for {format_seconds(60 * math.ceil(more * seconds / 60))}"
    return f"watch for {format_seconds(60 * math.ceil(3 * seconds / 60))} or longer"
