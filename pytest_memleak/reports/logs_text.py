"""What logs tell as text: the verdict, the series, the worst one's curve, the deaths, and what has to be known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_logs import Death, LogResult, LogSeries
from pytest_memleak.model_watch import Severity
from pytest_memleak.reports.plot import plot
from pytest_memleak.reports.text import field, figure, shortened, wrapped
from pytest_memleak.reports.watch_text import VERDICTS, rate_words, verdict_words
from pytest_memleak.units import counted, format_bytes, format_count, format_rate, format_seconds

_SHOWN_SERIES: Final = 20
_SHOWN_PROCESSES: Final = 8
_SHOWN_DEATHS: Final = 10
_SHOWN_FILES: Final = 4
_COLUMNS: Final = 58
"""What a row of the table takes beside the name."""

_NEXT: Final = {
    Outcome.LEAK: "memleak detect --pid PID watches the process itself, memleak scan-code shows what may keep it",
    Outcome.INCONCLUSIVE: "a longer log tells more, and memleak detect watches the process itself",
}


def explain(result: LogResult, *, width: int) -> str:
    """The whole report, wrapped to `width` columns."""
    severity = f", severity {result.severity.value}" if result.severity is not Severity.NONE else ""
    lines = [*wrapped(f"{VERDICTS[result.outcome]} in {result.name}{severity}", width)]
    lines += [*wrapped(result.why, width, first="  ", rest="  "), ""]
    lines += [line for name, words in _figures(result) for line in figure(name, words, width)]
    if len(result.series) > 1:
        lines += ["", *_table(result, width)]
    if result.series:
        lines += _curve(result, width)
    lines += _deaths(result, width)
    lines.append("")
    if result.ended_early:
        lines += field("note", result.ended_early, width)
    lines += [line for note in result.notes for line in field("note", note, width)]
    if result.outcome in _NEXT:
        lines += field("next", _NEXT[result.outcome], width)
    return "\n".join(lines).rstrip()


def _figures(result: LogResult) -> Iterator[tuple[str, str]]:
    names = ", ".join(result.files[:_SHOWN_FILES])
    more = len(result.files) - _SHOWN_FILES
    yield "read", f"{names}{f' and {more} more' if more > 0 else ''}: {_lines(result)}"
    if result.figures:
        yield "figures", ", ".join(f"{format_count(count)} of {form}" for form, count in result.figures)
    if len(result.series) == 1:
        only = result.series[0]
        yield "series", f"{only.metric}, {counted(only.readings, 'reading')}, {counted(only.lives, 'life', 'lives')}"
        if only.lives == 1:
            yield "first", format_bytes(only.first)
            yield "last", f"{format_bytes(only.last)}, at most {format_bytes(only.most)}"
            yield "total growth", format_bytes(only.last - only.first)
        else:
            yield "levels", f"{format_bytes(only.first)} first, {format_bytes(only.most)} at most"
            yield "total growth", f"{format_bytes(only.verdict.gained)} in all lives"
        yield "growth rate", f"{rate_words(only.verdict.rate)}, limit {format_rate(only.limit_mb_per_min)}"
    if result.series:
        seconds = _span(result.series[0])
        assumed = "" if result.series[0].is_timed else f", at {format_seconds(result.interval_s)} a reading"
        yield "duration", format_seconds(seconds) + assumed
    yield "verdict", VERDICTS[result.outcome]
    yield "severity", result.severity.value


def _lines(result: LogResult) -> str:
    return f"{counted(result.lines, 'line')}, {format_bytes(result.size)}"


def _span(series: LogSeries) -> float:
    ends = [track.times_s[-1] for track in series.tracks]
    return max(ends) - min(track.times_s[0] for track in series.tracks) if ends else 0.0


def _table(result: LogResult, width: int) -> Iterator[str]:
    """One line per series, the worst first."""
    shown = result.series[:_SHOWN_SERIES]
    room = max(len("series"), min(max(len(one.name) for one in shown), width - _COLUMNS))
    yield f"  {'series':<{room}} {'readings':>8} {'first':>8} {'last':>8} {'MB/min':>7} {'limit':>6}  verdict"
    for one in shown:
        yield (
            f"  {shortened(one.name, room):<{room}} {format_count(one.readings):>8} {format_bytes(one.first):>8} "
            f"{format_bytes(one.last):>8} {format_rate(one.verdict.rate.value):>7} "
            f"{format_rate(one.limit_mb_per_min):>6}  {verdict_words(one.verdict.shape, one.verdict.outcome)}"
        )
    if len(result.series) > _SHOWN_SERIES:
        yield f"  and {len(result.series) - _SHOWN_SERIES} more (--json has them)"


def _curve(result: LogResult, width: int) -> Iterator[str]:
    """The worst series' levels over time, and its processes."""
    worst = result.series[0]
    lines = plot(worst.tracks, width=width, is_timed=worst.is_timed)
    if lines:
        yield ""
        lives = f", {counted(worst.lives, 'life', 'lives')}" if worst.lives > 1 else ""
        mean = ", the mean of its processes" if len(worst.tracks) > 1 else ""
        yield f"  {worst.name}: {worst.metric}{lives}{mean}"[:width]
        yield from lines
    if len(worst.processes) > 1:
        order = sorted(worst.processes, key=lambda one: (one.outcome is not Outcome.LEAK, -one.rate.value))
        room = min(max(len(one.name) for one in order), width - 40)
        yield ""
        yield f"  {'process':<{room}} {'grew':>9} {'MB/min':>8}  verdict"
        for one in order[:_SHOWN_PROCESSES]:
            rate = format_rate(one.rate.value)
            words = verdict_words(one.shape, one.outcome)
            yield f"  {shortened(one.name, room):<{room}} {format_bytes(one.gained):>9} {rate:>8}  {words}"
        if worst.lives > min(len(order), _SHOWN_PROCESSES):
            yield f"  and {worst.lives - min(len(order), _SHOWN_PROCESSES)} more"


def _deaths(result: LogResult, width: int) -> Iterator[str]:
    if not result.deaths:
        return
    yield ""
    yield f"{counted(len(result.deaths), 'death')} by want of memory"
    for death in result.deaths[:_SHOWN_DEATHS]:
        yield from wrapped(death_words(death), width, first="  ", rest="    ")
    if len(result.deaths) > _SHOWN_DEATHS:
        yield f"  and {len(result.deaths) - _SHOWN_DEATHS} more (--json has them)"


def death_words(death: Death) -> str:
    """Who died, of what, and what preceded it, in one sentence."""
    pid = f"pid {death.pid}" if death.pid else ""
    who = f"{death.name} ({pid})" if death.name and pid else death.name or pid or "a container"
    words = f"{death.when + ': ' if death.when else ''}{who} {death.kind}"
    if death.is_limit and "kernel" in death.kind:
        words += " at its container's limit"
    if death.killed_at:
        words += f", with {format_bytes(death.killed_at)} resident"
    if death.readings:
        grown = death.last - death.first
        over = f" over {format_seconds(death.seconds)}" if death.seconds else ""
        change = f"{'grown' if grown >= 0 else 'fallen'} by {format_bytes(abs(grown))}"
        words += f"; before it {death.series} had {format_bytes(death.last)}, {change}{over}"
        words += f" ({counted(death.readings, 'reading')})"
    else:
        words += "; no figure of it before"
    return f"{words}; {death.file}:{death.line}"
