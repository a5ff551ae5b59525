"""A watch's result as text: the contract's figures first, then what the growth is made of, and where it leads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Forecast, Severity, WatchResult
from pytest_memleak.reports.chart import bars
from pytest_memleak.reports.text import FIGURE_WIDTH, field, figure, wrapped
from pytest_memleak.units import MB, format_rate, format_seconds

VERDICTS: Final = {
    Outcome.LEAK: "LEAK DETECTED",
    Outcome.CLEAN: "NO LEAK",
    Outcome.INCONCLUSIVE: "INCONCLUSIVE",
}

_CHART_WIDTH: Final = 60
_SHOWN_PROCESSES: Final = 12
_SHOWN_EVENTS: Final = 12

_LEAST_SHARE: Final = 0.01
"""Of the tree's memory: what a kind gained below that is not worth a line."""

_NEXT: Final = {
    Outcome.LEAK: "memleak track-objects shows which types accumulate, memleak scan-code which lines may keep them",
    Outcome.INCONCLUSIVE: "watch longer, under load: memleak detect 1800 10",
}


def explain(result: WatchResult, *, width: int) -> str:
    """The whole report, wrapped to `width` columns."""
    verdict = result.verdict
    severity = f", severity {verdict.severity.value}" if verdict.severity is not Severity.NONE else ""
    lines = [*wrapped(f"{VERDICTS[verdict.outcome]} in {result.target}{severity}", width)]
    lines += [*wrapped(verdict.why, width, first="  ", rest="  "), ""]
    lines += [line for name, words in _figures(result) for line in figure(name, words, width)]
    lines += _chart(result, width)
    lines += _processes(result, width)
    if result.forecast is not None:
        lines += ["", *wrapped(forecast_words(result.forecast), width)]
    if result.ended_early:
        span = f"{format_seconds(result.seconds)} of {format_seconds(result.wanted_seconds)}"
        lines += ["", *wrapped(f"It ended after {span}: {result.ended_early}.", width)]
    lines.append("")
    lines += [line for note in result.notes for line in field("note", note, width)]
    lines += _events(result, width)
    if verdict.outcome in _NEXT:
        lines += field("next", _NEXT[verdict.outcome], width)
    if result.folder:
        lines += field("kept", f"{result.folder} (memleak report, memleak verify)", width, wrap=False)
    return "\n".join(lines).rstrip()


def forecast_words(forecast: Forecast) -> str:
    """When the limit is met, as a sentence."""
    limit = gib(forecast.limit_bytes)
    if not forecast.seconds:
        return f"{forecast.whose[:1].upper()}{forecast.whose[1:]} of {limit} is reached."
    return f"At this rate {forecast.whose} of {limit} is reached in {format_seconds(forecast.seconds)}."


def gib(size: float) -> str:
    """A limit as its owner wrote it: `2 GiB`, `512 MiB`."""
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= factor:
            return f"{format_rate(size / factor)} {unit}"
    return f"{size:.0f} B"


def rate_words(rate: Estimate) -> str:
    """MB/min with its interval, as far as it is known."""
    if abs(rate.low) == float("inf") or abs(rate.high) == float("inf"):
        return f"{format_rate(rate.value)} MB/min (no interval)"
    return f"{format_rate(rate.value)} MB/min [{format_rate(rate.low)}, {format_rate(rate.high)}] (99 %)"


def verdict_words(shape: str, outcome: Outcome) -> str:
    """The verdict on one process or series; nothing is judged by a handful of readings."""
    return "too short" if shape == "too short" else VERDICTS[outcome]


def _figures(result: WatchResult) -> Iterator[tuple[str, str]]:
    grown = result.final_bytes - result.initial_bytes
    yield "initial RSS", _mb(result.initial_bytes)
    yield "final RSS", _mb(result.final_bytes)
    yield "total growth", f"{_mb(grown)}{_share(grown, result.initial_bytes)}"
    yield "growth rate", f"{rate_words(result.verdict.rate)}, limit {format_rate(result.limit_mb_per_min)}"
    wanted = "" if not result.ended_early else f" of {format_seconds(result.wanted_seconds)}"
    yield "duration", f"{format_seconds(result.seconds)}{wanted}, a reading each {format_seconds(result.interval_s)}"
    yield "verdict", VERDICTS[result.verdict.outcome]
    yield "severity", result.verdict.severity.value
    least = _LEAST_SHARE * max(result.initial_bytes, result.final_bytes)
    told = [(kind, size) for kind, size in result.made_of if abs(size) >= least]
    if told:
        words = ", ".join(f"{kind} {_signed(size)}" for kind, size in sorted(told, key=lambda pair: -abs(pair[1])))
        yield "made of", words


def _chart(result: WatchResult, width: int) -> Iterator[str]:
    for curve in result.curves:
        line = bars(curve.levels, min(_CHART_WIDTH, width - 4))
        if line:
            yield f"  {curve.name + ':':<{FIGURE_WIDTH}}{line}"[:width]


def _processes(result: WatchResult, width: int) -> Iterator[str]:
    """One line per process, the fastest first, where there is more than one."""
    if len(result.processes) < 2:
        return
    order = sorted(result.processes, key=lambda one: (one.outcome is not Outcome.LEAK, -one.rate.value))
    room = min(max(len(one.name) for one in order[:_SHOWN_PROCESSES]), max(16, width - 48))
    yield ""
    yield f"  {'process':<{room}} {'grew':>10} {'MB/min':>10}  verdict"
    for one in order[:_SHOWN_PROCESSES]:
        name = one.name if len(one.name) <= room else one.name[: room - 1] + "…"
        rate, words = format_rate(one.rate.value), verdict_words(one.shape, one.outcome)
        yield f"  {name:<{room}} {_mb(one.gained):>10} {rate:>10}  {words}"
    if len(order) > _SHOWN_PROCESSES:
        yield f"  and {len(order) - _SHOWN_PROCESSES} more (--json has them)"


def _events(result: WatchResult, width: int) -> Iterator[str]:
    for event in result.events[:_SHOWN_EVENTS]:
        yield from field("event", event, width)
    if len(result.events) > _SHOWN_EVENTS:
        yield from field("event", f"and {len(result.events) - _SHOWN_EVENTS} more (--json has them)", width)


def _mb(size: float) -> str:
    """Always in MB, as the contract has it: figures that are compared have one unit."""
    return f"{size / MB:,.1f} MB"


def _signed(size: float) -> str:
    return f"{size / MB:+,.1f} MB"


def _share(grown: float, initial: float) -> str:
    return f" ({grown / initial:+.1%})" if initial else ""
