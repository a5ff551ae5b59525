"""A scan as text: the findings by severity, and a last line that sums up."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.model_scan import Finding, ScanResult, Severity
from pytest_memleak.units import counted, format_count

_SHOWN_ENDPOINTS: Final = 3
_LABEL: Final = 7
"""Columns of `code`, `fix` and the like with the blanks around them."""


def report(result: ScanResult, *, width: int, places: Sequence[str] = ()) -> str:
    """All findings, wrapped to `width` columns. `places` is what was scanned, for the words when it is clean."""
    lines: list[str] = []
    for severity in Severity:
        found = [finding for finding in result.findings if finding.severity is severity]
        if found:
            lines += [f"{severity.value} ({format_count(len(found))})", ""]
            lines += [line for finding in found for line in _finding(finding, width)]
    lines += _wrapped(summary(result, places=places), width)
    return "\n".join(lines)


def summary(result: ScanResult, *, places: Sequence[str] = ()) -> str:
    """How many of what, in how much: `3 findings (1 high, 2 medium) in 12 files, 1,200 lines`."""
    amount = f"{counted(result.files, 'file')}, {counted(result.lines, 'line')}"
    if not result.files and not result.findings:
        unread = any(warning.is_unread for warning in result.warnings)
        where = f" in {' '.join(places)}" if places else ""
        return f"{'nothing could be read' if unread else 'no Python file to scan'}{where}{_unread(result)}"
    if not result.findings:
        where = f"{' '.join(places)} ({amount})" if places else amount
        return f"no leak patterns found in {where}{_unread(result)}"
    by_severity = Counter(finding.severity for finding in result.findings)
    parts = ", ".join(f"{by_severity[each]} {each.value.lower()}" for each in Severity if by_severity[each])
    confirmed = sum(finding.confirmed for finding in result.findings)
    parts += f"; {confirmed} confirmed by a run" if confirmed else ""
    return f"{counted(len(result.findings), 'finding')} ({parts}) in {amount}{_unread(result)}"


def statistics(result: ScanResult) -> str:
    """A table: how many findings of each code and severity."""
    found = Counter((finding.code, finding.pattern) for finding in result.findings)
    room = max([len("pattern"), *(len(pattern) for _, pattern in found)])
    lines = [f"{'code':<6}  {'pattern':<{room}}  {'high':>6} {'medium':>6} {'low':>6} {'all':>6}"]
    for (code, pattern), count in sorted(found.items()):
        each = Counter(finding.severity for finding in result.findings if finding.code == code)
        cells = " ".join(f"{format_count(number):>6}" for number in (*(each[one] for one in Severity), count))
        lines.append(f"{code:<6}  {pattern:<{room}}  {cells}")
    return "\n".join(lines)


def place(finding: Finding) -> str:
    """`app/cache.py:17:5`; of a notebook, the cell too."""
    cell = f":cell {finding.cell}" if finding.cell is not None else ""
    return f"{finding.path}{cell}:{finding.line}:{finding.column}"


def _unread(result: ScanResult) -> str:
    """What could not be read must not look as if it were clean."""
    return f"; {counted(len(result.warnings), 'warning')}" if result.warnings else ""


def _finding(finding: Finding, width: int) -> Iterator[str]:
    """The place on a line that editors can follow: never wrapped. Then the issue, the code and the fix."""
    sure = f"confidence {finding.confidence.value.lower()}"
    sure += ", confirmed by a run" if finding.confirmed else ""
    head = f"{place(finding)} {finding.code} {finding.pattern}"
    if len(head) + len(sure) + 3 <= width:
        yield f"{head} ({sure})"
    else:
        yield head
        yield from _field("", f"({sure})", width)
    yield from _field("issue", finding.message, width)
    if finding.endpoints:
        named = ", ".join(finding.endpoints[:_SHOWN_ENDPOINTS])
        more = len(finding.endpoints) - _SHOWN_ENDPOINTS
        yield from _field("", f"reached from {named}" + (f" and {more} more" if more > 0 else ""), width)
    if finding.source:
        room = width - _LABEL - 2
        source = finding.source if len(finding.source) <= room else finding.source[: room - 1] + "…"
        yield f"  {'code':<{_LABEL}}{source}"
    yield from _field("fix", finding.fix + _mended_by(finding), width)
    yield ""


def _mended_by(finding: Finding) -> str:
    """How to have it rewritten. What drops entries is not done without being asked for."""
    if not finding.fixable:
        return ""
    return " (--fix does it)" if finding.pattern == "file_handle" else " (--fix --fix-bounds does it)"


def _field(label: str, words: str, width: int) -> Iterator[str]:
    lines = textwrap.wrap(words, max(20, width - _LABEL - 2), break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield f"  {label if number == 0 else '':<{_LABEL}}{line}"


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
