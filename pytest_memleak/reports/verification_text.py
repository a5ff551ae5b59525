"""A verification as text: the answer, and each endpoint before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_soak import Estimate, Verification
from pytest_memleak.reports.text import field, wrapped
from pytest_memleak.units import format_bytes, format_bytes_bound, format_rate

_NAME: Final = 24
"""Columns that an endpoint's name has at the least."""


def explain(verification: Verification, *, width: int) -> str:
    """The whole answer, wrapped to `width` columns."""
    lines = [*wrapped(f"{verification.answer.upper()}: {verification.why}", width), ""]
    if verification.before is not None:
        lines += field("was", _rate(verification.before), width)
    lines += [*field("is", _rate(verification.after), width), ""]
    lines += _table(verification, width)
    lines += [line for note in verification.notes for line in field("note", note, width)]
    return "\n".join(lines).rstrip()


def _rate(estimate: Estimate) -> str:
    if abs(estimate.high) == float("inf"):
        return "not known"
    return f"{format_rate(estimate.value)} MB/min [{format_rate(estimate.low)}, {format_rate(estimate.high)}]"


def _table(verification: Verification, width: int) -> Iterator[str]:
    """With intervals where there is room for them."""
    if not verification.endpoints:
        return
    for with_interval in (True, False):
        cells = list(_cells(verification, with_interval=with_interval))
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        room = width - 2 - sum(widths[1:]) - len(widths)
        if room >= min(widths[0], _NAME):
            break
    room = max(_NAME, min(widths[0], room))
    for name, *figures, words in cells:
        shown = name if len(name) <= room else name[: room - 1] + "…"
        columns = " ".join(f"{cell:>{widths[at]}}" for at, cell in enumerate(figures, start=1))
        yield f"  {shown:<{room}} {columns}  {words}".rstrip()
    yield ""


def _cells(verification: Verification, *, with_interval: bool) -> Iterator[tuple[str, ...]]:
    """The heading and the lines: name, before, after, words; without a run before, no such column."""
    is_alone = verification.before is None
    yield ("endpoint", "", "per request", "") if is_alone else ("growth per request", "before", "after", "")
    for change in verification.endpoints:
        before = "" if is_alone else _bytes(change.before, with_interval=with_interval)
        words = change.words.removesuffix(" now") if is_alone else change.words
        yield change.endpoint, before, _bytes(change.after, with_interval=with_interval), words


def _bytes(estimate: Estimate | None, *, with_interval: bool) -> str:
    if estimate is None:
        return "not called"
    if estimate.low > 0:
        interval = f" [{format_bytes(estimate.low)}, {format_bytes(estimate.high)}]" if with_interval else ""
        return f"{format_bytes(estimate.value)}{interval}"
    return "not known" if estimate.high == float("inf") else f"below {format_bytes_bound(estimate.high)}"
