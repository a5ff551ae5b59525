"""A result as the text of a failure: the sentence, the causes, the rounds, and the command that repeats it."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.model import Judgement, Leak, Outcome, Resource, Result, Site
from pytest_memleak.patterns import catalogue
from pytest_memleak.units import format_bytes, format_count, format_rate, mb_per_min

_SHOWN_LEAKS = 4
_MAX_WIDTH = 120

FIGURE_WIDTH: Final = 15
"""Columns for the name of a figure: `growth rate:` and room."""


def sentence(result: Result) -> str:
    """Subject, growth, rule, place and holder in one sentence."""
    if result.outcome is Outcome.INCONCLUSIVE:
        return f"{result.name} is inconclusive: {result.why}"
    parts = [f"{result.name} grew {growth_words(result)} over {result.rounds} rounds ({_budget_words(result)})"]
    if result.leaks:
        leak = result.leaks[0]
        places = []
        if leak.sites:
            places.append(f"allocated at {leak.sites[0].frame}")
        if leak.holder:
            places.append(f"held by {_holder_words(leak, result.unit)}")
        parts += [", ".join(places)] if places else [leak.what]
    return "; ".join(parts)


def growth_words(result: Result) -> str:
    """What grew beyond its budget, per call, as words; for a result that is no leak, its memory."""
    guilty = [judgement for judgement in result.judgements if judgement.outcome is Outcome.LEAK]
    shown = guilty or [judgement for judgement in result.judgements if judgement.resource is Resource.MEMORY]
    words = [_amount(judgement) for judgement in shown]
    return f"{_enumerated(words) or 'nothing'} per {result.unit}"


def _enumerated(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return ", ".join([*words[:-2], " and ".join(words[-2:])])


def explain(result: Result, *, width: int, again: str) -> str:
    """The whole failure of one result, wrapped to `width` columns. `again` is the command that repeats it."""
    lines = [*wrapped(sentence(result), width), ""]
    lines += _causes(result, result.leaks, width)
    lines += _rounds(result)
    lines += _remarks(result, width)
    lines += field("again", again, width, wrap=False)
    return "\n".join(lines)


def explain_all(results: Sequence[Result], *, width: int, again: str) -> str:
    """The failures of several endpoints; a leak that they share is explained once."""
    lines: list[str] = []
    explained: dict[tuple[str, str, str], str] = {}
    for result in results:
        if lines and lines[-1]:
            lines.append("")
        lines += [*wrapped(sentence(result), width), ""]
        fresh = [leak for leak in result.leaks if leak.fingerprint not in explained]
        for leak in result.leaks:
            if leak.fingerprint in explained:
                lines += [f"  same leak as in {explained[leak.fingerprint]}", ""]
        explained.update({leak.fingerprint: result.name for leak in fresh})
        lines += _causes(result, fresh, width)
        lines += _rounds(result)
        lines += _remarks(result, width)
    lines += field("again", again, width, wrap=False)
    return "\n".join(lines)


def canary_missed(result: Result) -> str:
    """The failure of a test whose planted leak was not convicted."""
    return (
        f"{result.name}: a planted leak of the budget's size was not convicted ({result.outcome.value}: {result.why}); "
        "give the test more time (max_time), a budget that its noise allows, or a narrower ignore"
    )


def command_again(nodeid: str) -> str:
    """The command that measures one test again."""
    return f"pytest --memleak {shlex.quote(nodeid)}"


def _amount(judgement: Judgement) -> str:
    growth = judgement.growth.per_call
    if judgement.resource is Resource.MEMORY:
        return format_bytes(growth)
    count = format_rate(growth)
    noun = judgement.resource.value
    return f"{count} {_SINGULAR[judgement.resource] if count == '1' else noun}"


_SINGULAR = {
    Resource.OBJECTS: "object",
    Resource.FDS: "file descriptor",
    Resource.THREADS: "thread",
    Resource.TASKS: "asyncio task",
    Resource.CHILDREN: "child process",
}


def _budget_words(result: Result) -> str:
    """The rule that was broken, of the resource that broke it first."""
    guilty = next((judgement for judgement in result.judgements if judgement.outcome is Outcome.LEAK), None)
    budget = result.budget
    if guilty is None or not guilty.limit:
        return "budget 0"
    if guilty.resource is not Resource.MEMORY:
        noun = guilty.resource.value
        return f"budget {format_rate(guilty.limit)} {noun}{'' if guilty.resource is Resource.OBJECTS else ' in all'}"
    words = f"budget {format_bytes(guilty.limit)}"
    if budget.max_mb_per_min is not None:
        rate = mb_per_min(guilty.growth.per_call, budget.requests_per_s)
        limit = mb_per_min(guilty.limit, budget.requests_per_s)
        words = f"{format_rate(rate)} MB/min at {budget.requests_per_s:g} requests/s, limit {format_rate(limit)}"
    return words


def _causes(result: Result, leaks: Sequence[Leak], width: int) -> list[str]:
    lines: list[str] = []
    for number, leak in enumerate(leaks[:_SHOWN_LEAKS], start=1):
        lines.append(heading(leak, number, len(leaks)))
        lines += cause(leak, result.unit, width)
        lines.append("")
    if len(leaks) > _SHOWN_LEAKS:
        lines += [f"and {len(leaks) - _SHOWN_LEAKS} more (--memleak-json has them all)", ""]
    return lines


def heading(leak: Leak, number: int, count: int) -> str:
    """`leak 2 of 3: unbounded_cache (HIGH)`."""
    title = f"leak {number} of {count}" if count > 1 else "leak"
    return f"{title}: {leak.pattern} ({catalogue.BY_NAME[leak.pattern].severity})" if leak.pattern else title


def cause(leak: Leak, unit: str, width: int) -> Iterator[str]:
    """What grows, where, who holds it, the fix: a field each."""
    amounts = [f"+{format_rate(leak.count_per_call)}"] if leak.count_per_call else []
    amounts += [format_bytes(leak.bytes_per_call)] if leak.bytes_per_call else []
    grown = f": {', '.join(amounts)} per {unit}" if amounts else ""
    yield from field("what", f"{leak.what}{grown}", width)
    for number, site in enumerate(leak.sites):
        yield from _site("where" if number == 0 else "", site, unit, width)
    if leak.holder:
        holder = leak.holder
        yield from field("held", f"by {_holder_words(leak, unit)}{_size_words(leak)}", width)
        if len(holder.path) > 1:
            text = "".join(holder.path)
            start = len("".join(holder.path[: holder.suspect]))
            if len(text) + 8 <= width:
                yield "        " + text
                yield "        " + " " * start + "~" * len(holder.path[holder.suspect])
    for detail in leak.details:
        yield from field("", detail, width)
    if leak.fix:
        yield from field("fix", leak.fix, width)


def _site(label: str, site: Site, unit: str, width: int) -> Iterator[str]:
    frame = site.frame
    amount = ""
    if site.bytes_per_call:
        pieces = _pieces_words(site.count_per_call) if site.count_per_call else ""
        amount = f": {format_bytes(site.bytes_per_call)}{pieces} per {unit}"
    function = f" in {frame.function}" if frame.function else ""
    yield from field(label, f"{frame}{function}{amount}", width)
    if frame.source:
        room = min(width, _MAX_WIDTH) - 12
        yield "            " + (frame.source if len(frame.source) <= room else frame.source[: room - 2] + " …")
    if site.inner:
        yield from field(
            "", f"inside {site.inner}" + (f" in {site.inner.function}" if site.inner.function else ""), width
        )


def _pieces_words(count: float) -> str:
    words = format_rate(count)
    return f" in {words} allocation{'' if words == '1' else 's'}"


def _holder_words(leak: Leak, unit: str) -> str:
    holder = leak.holder
    if holder is None:
        return ""
    if holder.kind == "reference":
        return holder.name
    entries = "entry" if format_rate(holder.entries_per_call) == "1" else "entries"
    return f"{holder.name} ({holder.kind}, +{format_rate(holder.entries_per_call)} {entries} per {unit})"


def _size_words(leak: Leak) -> str:
    if leak.holder is None or not leak.holder.length:
        return ""
    kept = f", about {format_bytes(leak.holder.retained_bytes)}" if leak.holder.retained_bytes else ""
    return f"; {format_count(leak.holder.length)} entries now{kept}"


def _rounds(result: Result) -> list[str]:
    if not result.table:
        return []
    lines = [f"  {'calls':>9} {'blocks':>9} {'objects':>9} {'C heap':>10} {'RSS':>10}   since the first round"]
    lines += [
        f"  {format_count(row.calls):>9} {_count_or_dash(row.blocks):>9} {_count_or_dash(row.objects):>9} "
        f"{_bytes_or_dash(row.native_bytes):>10} {_bytes_or_dash(row.rss_bytes):>10}"
        for row in result.table
    ]
    return [*lines, ""]


def _count_or_dash(count: int | None) -> str:
    return "-" if count is None else f"{count:+,}"


def _bytes_or_dash(size: int | None) -> str:
    return "-" if size is None else format_bytes(size)


def _remarks(result: Result, width: int) -> Iterator[str]:
    if result.reason:
        yield from field("reason", result.reason, width)
    account = result.rss
    if account is not None:
        uss = "" if account.uss_bytes is None else f", USS {format_bytes(account.uss_bytes)}"
        native = "" if account.native_bytes is None else f", the C heap {format_bytes(account.native_bytes)}"
        yield from field("RSS", f"grew {format_bytes(account.rss_bytes)}{uss}{native}", width)
    for note in result.notes:
        yield from field("note", note, width)
    for probe in result.missing_probes:
        yield from field("note", f"not read here: {probe}", width)


def field(label: str, text: str, width: int, *, wrap: bool = True) -> Iterator[str]:
    """`  label text`, continued under the text."""
    # "reason" is one letter longer than the others.
    head = f"  {label:<5} "
    if not wrap:
        yield head + text
        return
    yield from _wrap(text, width, first=head, rest=" " * 8)


def shortened(name: str, room: int) -> str:
    """A name in at most `room` columns. Tests, pods and paths differ at their ends: the middle goes."""
    if len(name) <= room:
        return name
    tail = room * 2 // 3
    return name[: room - tail - 1] + "…" + name[-tail:]


def figure(name: str, words: str, width: int) -> list[str]:
    """One of a report's first figures: its name in a column of its own, then the words, wrapped."""
    label = f"  {name + ':':<{FIGURE_WIDTH}}"
    return wrapped(words, width, first=label, rest=" " * len(label))


def wrapped(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most `width` columns, nothing broken inside a word; `first` and `rest` begin them."""
    return _wrap(text, width, first=first, rest=rest)


# `99 %` and `12 MB` are one word each; textwrap breaks at a no-break space as little as a reader would.
_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|min|h|B|kB|MB|GB)(?![\w/]))")


def _wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    lines = textwrap.wrap(
        _UNIT.sub("\N{NO-BREAK SPACE}", text),
        min(width, _MAX_WIDTH),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
