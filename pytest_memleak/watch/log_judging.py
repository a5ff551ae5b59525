"""`memleak analyze-logs`: files read, figures sorted into the lives of processes and pods, and those judged."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from pytest_memleak.logs import keys
from pytest_memleak.logs.aftermath import Told
from pytest_memleak.logs.own_patterns import OwnPattern
from pytest_memleak.logs.reading import LogReading
from pytest_memleak.logs.series import MOST_LIVES, Life, SeriesName
from pytest_memleak.model import Outcome
from pytest_memleak.model_logs import Death, LogResult, LogSeries
from pytest_memleak.model_watch import Severity, Thresholds, Track
from pytest_memleak.units import counted, format_count, format_seconds
from pytest_memleak.verdict.watched import judge_track, judge_tracks
from pytest_memleak.watch.log_files import STDIN, STDIN_NAME, LogError, LogFile, blocks

ASSUMED_INTERVAL_S: Final = 10.0
"""Between two readings of a log without times, where the user does not say: what `memleak detect` waits."""

_HOUR_MIN: Final = 60.0
_MB_PER_SPAN: Final = 60.0
_MB_PER_HOUR: Final = 1.0

# The severities of `detect` (1, 5 and 20 MB/min) in proportion to the limit.
_HIGH: Final = 5
_CRITICAL: Final = 20

_KEPT_TRACKS: Final = 20
_KEPT_POINTS: Final = 200

# Of two figures of one process the higher ranked counts, unless it is there only now and then.
_ENOUGH: Final = 0.1

_ORDER: Final = {Outcome.LEAK: 0, Outcome.INCONCLUSIVE: 1, Outcome.CLEAN: 2}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogPlan:
    """What was asked. `interval_s` and `limit_mb_per_min` are None where the user did not say."""

    files: tuple[LogFile, ...]
    year: int
    patterns: tuple[OwnPattern, ...] = ()
    bare: float | None = None
    interval_s: float | None = None
    limit_mb_per_min: float | None = None


def default_limit(seconds: float) -> float:
    """The MB/min that pass over a span: 1 up to an hour, then 60 MB over the whole, but 1 MB an hour always."""
    minutes = max(seconds / 60, _HOUR_MIN)
    return max(_MB_PER_SPAN / minutes, _MB_PER_HOUR / 60)


def _nobody(lines: int) -> None:
    """Who hears of blocks where nobody asked to."""
    del lines


def read(plan: LogPlan, on_block: Callable[[int], None] = _nobody) -> tuple[LogReading, list[str], str]:
    """Read all files; gives the reading, sentences about what went wrong, and why it ended early.

    `on_block` hears of every block: how many lines were read. Raises LogError when no file could be read.
    """
    reading = LogReading(year=plan.year, bare=plan.bare, patterns=plan.patterns)
    notes: list[str] = []
    try:
        for file in plan.files:
            try:
                reading.open(file.log, file.path)
                for block in blocks(file):
                    reading.feed(block)
                    on_block(reading.lines)
            except LogError as error:
                notes.append(str(error))
            reading.close()
    except KeyboardInterrupt:
        return reading, notes, f"stopped by Ctrl-C after {format_count(reading.lines)} lines"
    if not reading.size and notes:
        raise LogError("; ".join(notes))
    return reading, notes, ""


def analyse(plan: LogPlan) -> LogResult:
    """Read and judge. Raises LogError when there is nothing to judge: no file, no bytes, no figure."""
    return conclude(plan, *read(plan))


def conclude(plan: LogPlan, reading: LogReading, notes: Sequence[str], ended_early: str) -> LogResult:
    """Judge what was read. Raises LogError when there is nothing to judge: no bytes, no figure."""
    reading.deaths.finish()
    names = ", ".join(STDIN_NAME if file.path == STDIN else file.path for file in plan.files)
    if not reading.size:
        raise LogError(f"{_few(names)} {'is' if len(plan.files) == 1 else 'are'} empty: nothing to judge")
    if not reading.book.lives and not reading.deaths.told:
        raise LogError(_nothing(_few(names), reading, plan))
    series = sorted(_series(reading, plan), key=_how_bad)
    deaths = tuple(_death(told) for told in reading.deaths.told)
    outcome, why = _overall(series, deaths)
    logs = list(dict.fromkeys(file.log for file in plan.files))
    return LogResult(
        name=logs[0] if len(logs) == 1 else f"{len(logs)} logs",
        outcome=outcome,
        severity=series[0].verdict.severity if series and outcome is Outcome.LEAK else Severity.NONE,
        why=why,
        files=tuple(STDIN_NAME if file.path == STDIN else file.path for file in plan.files),
        size=reading.size,
        lines=reading.lines,
        figures=tuple(reading.forms.most_common()),
        broken=reading.broken,
        series=tuple(series),
        deaths=deaths,
        interval_s=plan.interval_s or ASSUMED_INTERVAL_S,
        notes=(*notes, *_notes(reading, plan, series)),
        ended_early=ended_early,
    )


def _few(names: str) -> str:
    return names if len(names) < 200 else names[:200] + "…"


def _nothing(names: str, reading: LogReading, plan: LogPlan) -> str:
    lines = f"{names}: no figure of memory in {counted(reading.lines, 'line')}"
    if reading.unitless:
        count = format_count(reading.unitless)
        return f"{lines}, but {count} without a unit and too small for bytes: say what they are, such as --unit MB"
    if plan.patterns:
        return f"{lines} that --pattern matches: it is tried on each line as Python's re.search does, without its end"
    return rf"{lines}: if they are there, tell how they look, such as --pattern 'heap (?P<memory>[\d.]+) (?P<unit>\w+)'"


def _series(reading: LogReading, plan: LogPlan) -> Iterator[LogSeries]:
    """The lives of a service's processes together, and of each pod and container; by its best figure."""
    groups: dict[tuple[str, str], dict[tuple[str, int], list[tuple[SeriesName, Life]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for name, lives in reading.book.lives.items():
        for life in filter(lambda life: life.count, lives):
            groups[name.source, name.owner.place][name.metric, name.rank].append((name, life))
    for (log, place), figures in groups.items():
        most = max(_count(lives) for lives in figures.values())
        best = min(rank for (_, rank), lives in figures.items() if _count(lives) >= _ENOUGH * most)
        chosen = {metric: found for (metric, rank), found in figures.items() if rank == best}
        for metric, found in chosen.items():
            yield _one(log, place, metric, found, plan, is_alone=len(chosen) == 1)


def _count(lives: Iterable[tuple[SeriesName, Life]]) -> int:
    return sum(life.count for _, life in lives)


def _one(
    log: str, place: str, metric: str, lives: Sequence[tuple[SeriesName, Life]], plan: LogPlan, *, is_alone: bool
) -> LogSeries:
    """Judge what one service, pod or container did."""
    step = 1.0 if lives[0][1].is_timed else plan.interval_s or ASSUMED_INTERVAL_S
    name = place or log
    name = name if is_alone else f"{name} {metric}"
    tracks = [_track(owner, life, step, name) for owner, life in lives]
    tracks.sort(key=lambda track: track.times_s[0])
    span = max(track.times_s[-1] for track in tracks) - min(track.times_s[0] for track in tracks)
    limit = default_limit(span) if plan.limit_mb_per_min is None else plan.limit_mb_per_min
    thresholds = Thresholds(medium=limit, high=_HIGH * limit, critical=_CRITICAL * limit)
    verdict = judge_tracks(name, tracks, thresholds)
    kept = sorted(tracks, key=lambda track: -len(track.times_s))[:_KEPT_TRACKS]
    kept.sort(key=lambda track: track.times_s[0])
    processes = tuple(judge_track(track, thresholds) for track in kept) if len(tracks) > 1 else ()
    newest = max((life for _, life in lives), key=lambda life: life.last_s)
    return LogSeries(
        name=name,
        log=log,
        metric=metric,
        verdict=verdict,
        limit_mb_per_min=limit,
        readings=_count(lives),
        first=min((life for _, life in lives), key=lambda life: life.first_s).first,
        last=newest.last,
        most=max(life.most for _, life in lives),
        lives=len(tracks),
        is_timed=lives[0][1].is_timed,
        tracks=tuple(_thinned(track) for track in kept),
        processes=processes,
    )


def _track(owner: SeriesName, life: Life, step: float, name: str) -> Track:
    times, levels = life.points()
    words = f"pid {owner.owner.pid}" if owner.owner.pid else name
    words += f", life {life.number}" if life.number > 1 else ""
    return Track(name=words, times_s=tuple(time * step for time in times), levels=levels)


def _thinned(track: Track) -> Track:
    """Enough points for a chart."""
    every = -(-len(track.times_s) // _KEPT_POINTS)
    return dataclasses.replace(track, times_s=track.times_s[::every], levels=track.levels[::every])


def _how_bad(series: LogSeries) -> tuple[int, float]:
    return _ORDER[series.verdict.outcome], -series.verdict.rate.value


def _death(told: Told) -> Death:
    name = ""
    if told.life is not None:
        owner = told.life[0].owner
        name = f"pid {owner.pid}" if owner.pid else owner.place or told.life[0].source
    death = told.death
    return Death(
        kind=death.kind,
        name=death.name,
        pid=death.pid,
        file=told.file,
        line=told.line,
        when=told.when,
        text=told.text,
        killed_at=death.level,
        cgroup=death.cgroup,
        is_limit=death.is_limit,
        series=name,
        readings=told.readings,
        first=told.first,
        last=told.last,
        seconds=told.seconds or 0.0,
    )


def _overall(series: Sequence[LogSeries], deaths: Sequence[Death]) -> tuple[Outcome, str]:
    """The verdict on all, and the sentence: the worst counts; what is too short to judge decides only alone."""
    if not series:
        count = f"{len(deaths)} {'death' if len(deaths) == 1 else 'deaths'}"
        return Outcome.INCONCLUSIVE, f"{count} by want of memory, but no figures over time: a trend cannot be seen"
    judged = [entry for entry in series if entry.verdict.shape != "too short"] or list(series)
    worst = judged[0]
    same = sum(entry.verdict.outcome is worst.verdict.outcome for entry in judged)
    others = f" ({same} of {len(series)} series)" if len(series) > 1 else ""
    subject = f"{worst.name}{others}: " if len(series) > 1 else ""
    return worst.verdict.outcome, f"{subject}{worst.verdict.why}"


def _notes(reading: LogReading, plan: LogPlan, series: Sequence[LogSeries]) -> Iterator[str]:
    """What has to be known about the figures."""
    if any(not entry.is_timed for entry in series):
        apart = f"{format_seconds(plan.interval_s or ASSUMED_INTERVAL_S)} apart"
        words = f"there are no times in the log: its readings count as {apart}, in the order of their lines"
        yield (
            words if plan.interval_s else f"{words}; every rate stands on that: say what is right (--interval SECONDS)"
        )
    if any("GNU time" in form for form in reading.forms):
        yield "a figure of GNU time is the peak of one run: its trend is from run to run"
    elif reading.book.lives and all(name.rank == keys.PEAK for name in reading.book.lives):
        yield "the figures are peaks, which never fall: growth that was given back looks as if it were kept"
    if reading.broken:
        yield f"{format_count(reading.broken)} broken lines of JSON were left out"
    if reading.long_lines:
        yield f"of {format_count(reading.long_lines)} lines longer than 1 MB only the first 4 kB were read"
    if reading.unitless:
        count = format_count(reading.unitless)
        yield f"{count} figures without a unit and too small for bytes were left out (--unit MB)"
    if reading.book.dropped:
        yield (
            f"there are more than {format_count(MOST_LIVES)} processes and pods: "
            f"{format_count(reading.book.dropped)} readings of later ones were left out"
        )
    if reading.book.restarts_seen:
        count = format_count(reading.book.restarts_seen)
        yield f"falls by more than half, back to the start, count as restarts: {count}"
    if reading.deaths.more:
        yield f"{format_count(reading.deaths.more)} more deaths are not listed"
    if plan.patterns:
        yield "--pattern saw the first 4,096 bytes of a line; the built-in forms were not looked for"
