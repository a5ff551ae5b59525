"""A soak's result as text: the sentence, the curve, the endpoints, the causes, and what has to be known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Curve, EndpointGrowth, Estimate, SoakResult
from pytest_memleak.reports.chart import bars
from pytest_memleak.reports.text import cause, field, heading, wrapped
from pytest_memleak.units import counted, format_bytes, format_bytes_bound, format_count, format_rate, format_seconds

_CURVE_WIDTH: Final = 60
_SHOWN_ENDPOINTS: Final = 20
_SHOWN_LEAKS: Final = 12
_SHOWN_CULPRITS: Final = 4


def sentence(result: SoakResult) -> str:
    """The verdict in one sentence."""
    return f"{result.outcome.value} {result.name}: {result.why}"


def explain(result: SoakResult, *, width: int) -> str:
    """The whole report, wrapped to `width` columns."""
    lines = [*wrapped(sentence(result), width)]
    if result.failure:
        lines += ["", *_failure(result.failure, width)]
    lines += ["", *_measured(result, width), ""]
    for curve in result.curves:
        lines += _curve(curve, width)
    if result.curves:
        lines.append("")
    lines += _endpoints(result.endpoints, width)
    lines += _leaks(result, width)
    lines += [line for note in result.notes for line in field("note", note, width)]
    lines += [line for event in result.events for line in field("event", _without_log(event), width)]
    if result.folder:
        lines += field("kept", f"{result.folder} (memleak report, memleak verify)", width, wrap=False)
    return "\n".join(lines).rstrip()


def _failure(words: str, width: int) -> Iterator[str]:
    """What failed, and the end of a log line by line as it was."""
    first, *log = words.splitlines()
    yield from wrapped(f"failed: {first}", width)
    for line in log:
        yield f"  {line}"[:width]


def _without_log(event: str) -> str:
    """The log's end is told with the failure."""
    return event.partition("\n")[0].removesuffix("; its log ends:")


def _measured(result: SoakResult, width: int) -> Iterator[str]:
    """How long, how much, by what."""
    wanted = "" if result.seconds >= 0.98 * result.wanted_seconds else f" of {format_seconds(result.wanted_seconds)}"
    words = f"{format_seconds(result.seconds)}{wanted} under load, {counted(result.workers, 'worker')}, "
    words += f"{counted(result.readings, 'reading')} of {result.basis}" if result.readings else "no reading"
    words += f"; the first {format_seconds(result.warm_up_s)} were warm-up" if result.warm_up_s >= 1 else ""
    yield from field("soak", words, width)
    load = result.load
    if load is not None:
        failed = f", {format_count(load.failures)} failed" if load.failures else ""
        words = f"{format_count(load.requests)} requests, {load.requests_per_s:.0f}/s, {counted(load.users, 'user')}"
        yield from field("load", words + failed, width)
        for error in load.errors:
            yield from field("", error, width)
    pauses = result.pauses
    if pauses is not None:
        words = f"{pauses.median_ms:.0f} ms in the median, {pauses.longest_ms:.0f} ms at most"
        words += f", {100 * pauses.share:.1f} % of the time"
        yield from field("pause", words, width)
    for growth in result.resources:
        rate = growth.per_min
        is_told = growth is result.resources[0] or growth.outcome is Outcome.LEAK
        if is_told and abs(rate.high) != float("inf") and abs(rate.low) != float("inf"):
            noun = "MB/min" if growth is result.resources[0] else f"{growth.resource.value} a minute"
            culprits = ", ".join(
                f"{culprit.endpoint} {format_rate(culprit.per_request.value)} per request"
                for culprit in growth.endpoints[:_SHOWN_CULPRITS]
            )
            words = f"{_interval(rate)} {noun}" + (f": {culprits}" if culprits else "")
            yield from field("grew", words, width)
    if result.rss_mb_per_min is not None:
        words = f"{format_rate(result.rss_mb_per_min)} MB/min, seen from outside"
        if result.uss_bytes:
            words += f"; USS from {format_bytes(result.uss_bytes[0])} to {format_bytes(result.uss_bytes[-1])}"
        yield from field("RSS", words, width)


def _interval(estimate: Estimate) -> str:
    return f"{format_rate(estimate.value)} [{format_rate(estimate.low)}, {format_rate(estimate.high)}]"


def _curve(curve: Curve, width: int) -> Iterator[str]:
    """A line of bars from the lowest level to the highest."""
    line = bars(curve.levels, min(_CURVE_WIDTH, width - 12))
    if line:
        yield f"  {curve.name}: {format_bytes(curve.levels[0])} to {format_bytes(curve.levels[-1])}"
        yield f"  {line}"


def _endpoints(growths: Sequence[EndpointGrowth], width: int) -> Iterator[str]:
    """A table, the fastest first; intervals are at 99 % for all endpoints together."""
    if not growths:
        return
    room = max(20, min(max(len(growth.name) for growth in growths), width - 46))
    yield f"  {'endpoint':<{room}} {'requests':>9} {'per request':>22} {'MB/min':>9}"
    for growth in growths[:_SHOWN_ENDPOINTS]:
        name = growth.name if len(growth.name) <= room else growth.name[: room - 1] + "…"
        per_request = growth.bytes_per_request
        if growth.leaks:
            amount = format_bytes(per_request.value)
            bounds = f"{format_bytes(per_request.low)} to {format_bytes(per_request.high)}"
            rate = format_rate(growth.mb_per_min.value)
            yield f"  {name:<{room}} {format_count(growth.requests):>9} {amount:>22} {rate:>9}"
            yield f"  {'':<{room}} {'':>9} {bounds:>22} {'leaks':>9}"
        else:
            is_known = per_request.high != float("inf")
            amount = f"below {format_bytes_bound(per_request.high)}" if is_known else "not known"
            yield f"  {name:<{room}} {format_count(growth.requests):>9} {amount:>22} {'-':>9}"
    if len(growths) > _SHOWN_ENDPOINTS:
        yield f"  and {len(growths) - _SHOWN_ENDPOINTS} more (result.json has them all)"
    yield ""


def _leaks(result: SoakResult, width: int) -> Iterator[str]:
    for number, (leak, endpoint) in enumerate(zip(result.leaks, result.culprits, strict=True), start=1):
        if number > _SHOWN_LEAKS:
            yield f"and {len(result.leaks) - _SHOWN_LEAKS} more (result.json has them all)"
            yield ""
            return
        title = heading(leak, number, len(result.leaks))
        yield from wrapped(f"{title}, in {endpoint}" if endpoint else f"{title}, of the whole load", width)
        yield from cause(leak, "request", width)
        yield ""
    if result.outcome is Outcome.LEAK and not result.leaks and result.endpoints:
        yield from field("note", "no line was found that explains the growth", width)
