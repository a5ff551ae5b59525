"""The objects of a live process as text: the contract's table, then who holds what grows, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_objects import Held, ObjectsResult, TypeGrowth
from pytest_memleak.reports.text import field, wrapped
from pytest_memleak.reports.watch_text import VERDICTS
from pytest_memleak.units import counted, format_count, format_seconds

_COLUMNS: Final = ("current", "baseline", "delta", "growth %")
_WIDTH: Final = 10
_MARK: Final = "LEAK"

_NEXT: Final = {
    Outcome.LEAK: "memleak scan-code shows which lines may keep them, a test with @pytest.mark.no_leak which line does",
    Outcome.INCONCLUSIVE: "read more often, under load: memleak track-objects --interval 10 --samples 6",
}


def explain(result: ObjectsResult, *, width: int, top: int) -> str:
    """The whole report, wrapped to `width` columns, at most `top` types in its table."""
    lines = wrapped(f"{VERDICTS[result.outcome]} in {result.target}", width)
    lines += [*wrapped(result.why, width, first="  ", rest="  "), ""]
    shown = _shown(result.types, top)
    lines += _table(shown, width)
    lines += _more(result, shown, width)
    lines += _holders(result.types, width)
    if result.ended_early:
        lines += [*wrapped(f"It ended after {format_seconds(result.seconds)}: {result.ended_early}.", width), ""]
    lines += _measured(result, width)
    lines += [line for one in shown if one.why for line in field("note", f"{one.name}: {one.why}", width)]
    lines += [line for note in result.notes for line in field("note", note, width)]
    if result.outcome in _NEXT:
        lines += field("next", _NEXT[result.outcome], width)
    return "\n".join(lines).rstrip()


def _shown(types: Sequence[TypeGrowth], top: int) -> list[TypeGrowth]:
    """Those that leak, then those that changed most; what did not change is not worth a line."""
    changed = [one for one in types if one.leaks or one.delta]
    return sorted(changed, key=lambda one: (not one.leaks, -abs(one.delta) if not one.leaks else -one.delta))[:top]


def _table(shown: Sequence[TypeGrowth], width: int) -> Iterator[str]:
    if not shown:
        yield "  no type changed its count"
        return
    rest = (_WIDTH + 1) * len(_COLUMNS) + len(_MARK) + 4
    room = max(16, min(max(len(one.name) for one in shown), width - rest))
    yield f"  {'type':<{room}} " + " ".join(f"{column:>{_WIDTH}}" for column in _COLUMNS)
    for one in shown:
        name = one.name if len(one.name) <= room else "…" + one.name[1 - room :]
        percent = "new" if one.percent is None else f"{one.percent:+.1f}"
        cells = (format_count(one.current), format_count(one.baseline), f"{one.delta:+,}", percent)
        line = f"  {name:<{room}} " + " ".join(f"{cell:>{_WIDTH}}" for cell in cells)
        yield f"{line}  {_MARK}" if one.leaks else line


def _more(result: ObjectsResult, shown: Sequence[TypeGrowth], width: int) -> Iterator[str]:
    hidden = sum(one.leaks for one in result.types) - sum(one.leaks for one in shown)
    if hidden > 0:
        yield from wrapped(f"and {hidden} more that leak (--top, --json)", width, first="  ", rest="  ")
    yield ""


def _holders(types: Sequence[TypeGrowth], width: int) -> Iterator[str]:
    """A sample's path and place, for each type that was looked at."""
    for one in types:
        if one.leaks and one.held is not None:
            yield from wrapped(one.name, width)
            yield from field("held", _held_words(one.held), width)
            if one.held.site:
                yield from field("where", one.held.site, width)
            yield ""


def _held_words(held: Held) -> str:
    if held.is_garbage:
        return "by nothing but themselves"
    if held.path:
        return "by " + " → ".join(held.path)
    return "by what the collector does not see: a running function's variable, a thread's own data, or an extension"


def _measured(result: ObjectsResult, width: int) -> Iterator[str]:
    """How it was read, and how long the process stood still for it."""
    python = f"CPython {result.python}, " if result.python else ""
    objects = f", {format_count(result.objects[-1])} objects" if result.objects else ""
    readings = len(result.times_s)
    words = f"{python}{counted(readings, 'reading')} in {format_seconds(result.seconds)} by "
    yield from field("read", f"{words}{result.way}{objects}", width)
    stops = []
    if result.pauses_s:
        stops.append(f"{_ms(result.pauses_s)} at most for a count")
    if result.look_s is not None:
        stops.append(f"{_ms([result.look_s])} to look for holders")
    if result.attached_s:
        stops.append(f"{_ms(result.attached_s)} at most while gdb was attached ({len(result.attached_s)} times)")
    if stops:
        yield from field("pause", ", ".join(stops), width)


def _ms(seconds: Sequence[float]) -> str:
    return f"{max(seconds) * 1000:.0f} ms"
