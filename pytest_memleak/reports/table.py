"""The summary at the end of a run: one line per test or endpoint, then footnotes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_memleak.reports.text import shortened
from pytest_memleak.units import format_bytes, format_count, format_rate, mb_per_min

_COLUMNS: Final = ("calls", "memory", "objects", "MB/min", "verdict")
_WIDTHS: Final = (9, 10, 8, 8, 12)


def rows(results: Sequence[Mapping[str, Any]], *, width: int, verbose: bool) -> Iterator[tuple[str, str]]:
    """Lines with the outcome they show (empty for the heading); names are cut in the middle to fit `width`."""
    room = max(16, width - sum(_WIDTHS) - len(_WIDTHS) - 1)
    longest = max(len(_name(result, verbose=verbose)) for result in results)
    room = min(room, max(longest, len("test or endpoint")))
    yield _line("test or endpoint", _COLUMNS, room), ""
    for result in results:
        memory, objects = _growth(result, "memory"), _growth(result, "objects")
        cells = (
            format_count(result["calls"]),
            "-" if memory is None else format_bytes(memory),
            "-" if objects is None else format_rate(objects),
            "-" if memory is None else format_rate(mb_per_min(memory, result["budget"]["requests_per_s"])),
            result["outcome"],
        )
        yield _line(shortened(_name(result, verbose=verbose), room), cells, room), result["outcome"]


def footnotes(results: Sequence[Mapping[str, Any]], *, width: int, fails: bool, verbose: bool) -> Iterator[str]:
    """What the table cannot say, wrapped: what is inconclusive and why, what was left out, what a pass excludes."""
    for note in _footnotes(results, fails=fails, verbose=verbose):
        yield from textwrap.wrap(
            note, width - 1, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )


def _footnotes(results: Sequence[Mapping[str, Any]], *, fails: bool, verbose: bool) -> Iterator[str]:
    rates = sorted({result["budget"]["requests_per_s"] for result in results})
    yield f"growth is per call; MB/min at {', '.join(f'{rate:g}' for rate in rates)} requests/s"
    for result in results:
        if result["outcome"] == "INCONCLUSIVE":
            end = "" if fails else " (--memleak-inconclusive=fail makes this a failure)"
            yield f"INCONCLUSIVE {result['name']}: {result['why']}{end}"
        for note in result["notes"]:
            yield f"{result['name']}: {note}"
        if verbose and result["sensitivity"]:
            yield f"{result['name']}: {result['sensitivity']}"
    missing = sorted({probe for result in results for probe in result["missing_probes"]})
    for probe in missing:
        yield f"not read here: {probe}"


def _growth(result: Mapping[str, Any], resource: str) -> float | None:
    for judgement in result["judgements"]:
        if judgement["resource"] == resource:
            growth = judgement["growth"]
            # What is not told from zero is shown as zero, and so is what passed where nothing may grow: a table of
            # somebody else that was resized meanwhile.
            has_passed = judgement["outcome"] == "CLEAN" and judgement["limit"] == 0
            is_told = not has_passed and (growth["low"] > 0 or (resource == "memory" and result["outcome"] != "CLEAN"))
            return float(growth["per_call"]) if is_told else 0.0
    return None


def _name(result: Mapping[str, Any], *, verbose: bool) -> str:
    test = result["nodeid"]
    name = str(result["name"])
    if not verbose or not test:
        return name
    return test if test.endswith(name) else f"{test} {name}"


def _line(name: str, cells: Sequence[str], room: int) -> str:
    return f"{name:<{room}} " + " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
