"""A fleet's result as text: the sentence, the ranked deployments, what leaks together, what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import Deployment, FleetResult, Replica, Spread
from pytest_memleak.model_soak import Estimate
from pytest_memleak.reports.text import field, wrapped
from pytest_memleak.reports.watch_text import VERDICTS, gib
from pytest_memleak.units import format_bytes, format_count, format_rate, format_seconds

_WIDTHS: Final = (4, 7, 8, 8, 8, 13, 8)
_LEAST_NAME: Final = 12

_HOUR_S: Final = 3600.0
"""A range longer than this is told in MB/h: what matters over days would be a hundredth a minute."""

_USUAL_SCRAPE_S: Final = 15.0
"""Readings closer than this are rarely there."""

_SHOWN_NAMES: Final = 3
_SHOWN_SENTENCES: Final = 10

_TOLD: Final = (Spread.SAME, Spread.DIFFERENT, Spread.UNTOLD, Spread.SOME, Spread.ONE, Spread.NONE)
"""What is told first: where the code itself leaks."""

_NEXT: Final = {
    Outcome.LEAK: "memleak detect or track-objects on the machine of one that leaks, memleak scan-code on its code",
    Outcome.INCONCLUSIVE: "ask for a longer time (--range 24h), or for readings that are closer (--step)",
}


def explain(result: FleetResult, *, width: int, top: int) -> str:
    """The whole report, wrapped to `width` columns; `top` is how many deployments the table shows."""
    per_hour = result.span_s > _HOUR_S
    lines = wrapped(f"{VERDICTS[result.outcome]} in {result.store}", width)
    lines += [*wrapped(f"{result.why}.", width, first="  ", rest="  "), ""]
    lines += _table(result.deployments[:top], per_hour=per_hour, width=width)
    if len(result.deployments) > top:
        lines.append(f"  and {format_count(len(result.deployments) - top)} more (--top, or --json has them)")
    lines.append("")
    order = sorted(result.deployments, key=lambda deployment: _TOLD.index(deployment.spread))
    told = [words for deployment in order for words in _sentences(deployment, per_hour=per_hour)]
    for words in told[:_SHOWN_SENTENCES]:
        lines += [*wrapped(words, width), ""]
    if len(told) > _SHOWN_SENTENCES:
        lines += [f"and {format_count(len(told) - _SHOWN_SENTENCES)} more deployments of which to tell (--json)", ""]
    lines += field("asked", result.query, width)
    lines += field("over", _over(result, per_hour=per_hour), width)
    for note in (*_remarks(result), *result.notes):
        lines += field("note", note, width)
    if result.outcome in _NEXT:
        lines += field("next", _NEXT[result.outcome], width)
    return "\n".join(lines).rstrip()


def span_words(seconds: float) -> str:
    """A time that somebody chose, as they would: `7 d`, `6 h`, `90 min`; else as `format_seconds` has it."""
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return format_seconds(seconds)


def rate_words(rate: Estimate, *, per_hour: bool) -> str:
    """A rate with its interval: `31 MB/h [29, 33]`."""
    shown = rate.times(60) if per_hour else rate
    unit = "MB/h" if per_hour else "MB/min"
    if abs(shown.low) == float("inf") or abs(shown.high) == float("inf"):
        return f"{format_rate(shown.value)} {unit}"
    return f"{format_rate(shown.value)} {unit} [{format_rate(shown.low)}, {format_rate(shown.high)}]"


def _table(deployments: Sequence[Deployment], *, per_hour: bool, width: int) -> Iterator[str]:
    if not deployments:
        return
    heads = ("pods", "leaking", "MB/h" if per_hour else "MB/min", "level", "severity", "verdict", "limit in")
    has_limits = any(deployment.forecast is not None for deployment in deployments)
    used = len(heads) if has_limits else len(heads) - 1
    room = max(_LEAST_NAME, width - sum(_WIDTHS[:used]) - used - 2)
    room = min(room, max(len("deployment"), *(len(deployment.name) for deployment in deployments)))
    yield _line("deployment", heads[:used], room)
    for deployment in deployments:
        forecast = deployment.forecast
        cells = (
            format_count(len(deployment.replicas)),
            format_count(len(deployment.leaking)),
            format_rate(deployment.rate.value * (60 if per_hour else 1)) if deployment.judged else "-",
            format_bytes(deployment.level),
            deployment.severity.value,
            VERDICTS[deployment.outcome] if deployment.judged else "too short",
            "-" if forecast is None else _soon(forecast.seconds),
        )
        yield _line(_cut(deployment.name, room), cells[:used], room)


def _line(name: str, cells: Sequence[str], room: int) -> str:
    row = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
    return f"  {name:<{room}} {row}"


def _soon(seconds: float) -> str:
    """In a cell, where the sentence below has it exactly: `now`, `40 min`, `23 h`, `12 d`."""
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds else "now"


def _cut(name: str, room: int) -> str:
    """Cut in the middle: a deployment's name begins with its namespace and ends with what is its own."""
    if len(name) <= room:
        return name
    tail = room * 2 // 3
    return name[: room - tail - 1] + "…" + name[-tail:]


def _sentences(deployment: Deployment, *, per_hour: bool) -> Iterator[str]:
    """How the leak lies among the replicas, and when the first limit is met."""
    leaking, name = deployment.leaking, deployment.name
    if not leaking:
        return
    rate = rate_words(deployment.rate, per_hour=per_hour)
    which = "" if deployment.judged == len(deployment.replicas) else " that could be judged"
    if deployment.spread is Spread.ONE:
        words = f"{_who(leaking)}, the only replica of {name}{which}, leaks {rate}"
    elif deployment.spread is Spread.SOME:
        verb = "leaks" if len(leaking) == 1 else "leak"
        words = f"{format_count(len(leaking))} of {format_count(deployment.judged)} replicas of {name}{which} {verb}, "
        words += f"{_who(leaking)}, at up to {rate}: the leak follows what these do and the others do not"
    else:
        who = "both" if len(leaking) == 2 else f"all {format_count(len(leaking))}"
        words = f"{who[:1].upper()}{who[1:]} replicas of {name}{which} leak"
        words += _compared(deployment, rate, per_hour=per_hour)
    forecast = deployment.forecast
    if forecast is not None:
        first = min(leaking, key=lambda one: one.forecast.seconds if one.forecast else float("inf"))
        when = f"in {format_seconds(forecast.seconds)}" if forecast.seconds else "now"
        words += f"; {first.name} meets its limit of {gib(forecast.limit_bytes)} {when}"
    yield f"{words}."


def _compared(deployment: Deployment, rate: str, *, per_hour: bool) -> str:
    """How the rates of replicas that all leak compare."""
    if deployment.spread is Spread.SAME:
        return f" at the same rate, {rate}: the leak follows the code and not a replica's traffic"
    rates = sorted((replica.verdict.rate for replica in deployment.leaking), key=lambda one: one.value)
    slowest, fastest = (rate_words(one, per_hour=per_hour) for one in (rates[0], rates[-1]))
    words = f", from {slowest} to {fastest}"
    if deployment.spread is Spread.DIFFERENT:
        words += ": the rates differ beyond chance, so that the leak follows a replica's traffic or task"
    return words


def _who(replicas: Sequence[Replica]) -> str:
    names = [replica.name for replica in replicas[:_SHOWN_NAMES]]
    if len(replicas) > _SHOWN_NAMES:
        return f"{', '.join(names)} and {format_count(len(replicas) - _SHOWN_NAMES)} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _over(result: FleetResult, *, per_hour: bool) -> str:
    limit = rate_words(_exact(result.limit_mb_per_min), per_hour=per_hour)
    words = f"the last {span_words(result.span_s)}, a reading each {span_words(result.step_s)}, "
    words += f"{format_count(result.series)} series; limit {limit} a replica"
    shorter = {
        replica.limit_mb_per_min
        for deployment in result.deployments
        for replica in deployment.replicas
        if replica.limit_mb_per_min > result.limit_mb_per_min * 1.05
    }
    return f"{words}, more where one was there for less of it" if shorter else words


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=float("-inf"), high=float("inf"))


def _remarks(result: FleetResult) -> Iterator[str]:
    """What could not be judged, what is in doubt, what was restarted."""
    if result.too_short:
        counted = "1 replica was" if result.too_short == 1 else f"{format_count(result.too_short)} replicas were"
        short = [one for deployment in result.deployments for one in deployment.replicas if not one.is_judged]
        closer = f"; a --step below {result.step_s:g}s gives more" if result.step_s > _USUAL_SCRAPE_S else ""
        yield f"{counted} left out, with too few readings: {_who(short)}{closer}"
    doubtful = [
        f"{deployment.name} {replica.name} ({replica.verdict.why})"
        for deployment in result.deployments
        for replica in deployment.replicas
        if replica.is_doubtful
    ]
    for words in doubtful[:_SHOWN_NAMES]:
        yield f"grew by more than the limit, without a verdict: {words}"
    if len(doubtful) > _SHOWN_NAMES:
        yield f"so did {format_count(len(doubtful) - _SHOWN_NAMES)} more (--json has them)"
    again = [(deployment.name, deployment.restarts) for deployment in result.deployments if deployment.restarts]
    if again:
        shown = ", ".join(f"{name} {format_count(count)}" for name, count in again[:_SHOWN_NAMES])
        more = f" and {format_count(len(again) - _SHOWN_NAMES)} more deployments" if len(again) > _SHOWN_NAMES else ""
        yield f"restarts seen, each a new life and no fall: {shown}{more}"
