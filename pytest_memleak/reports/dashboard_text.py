"""The dashboard as lines of text that fill a terminal: pure, so that every size can be looked at in a test."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Final, Protocol

from pytest_memleak.model_watch import Severity, TrackVerdict
from pytest_memleak.reports.chart import bars
from pytest_memleak.reports.watch_text import VERDICTS, rate_words
from pytest_memleak.units import MB, counted

KEYS: Final = "p pause · n next process · s save · q quit"
GROWTH: Final = "▲"

_FIXED_LINES: Final = 9
"""Title, figures, slope, chart, two headings, two blank lines, keys."""

_LEAST_ROWS: Final = 3
_NAME: Final = 24


class RowLike(Protocol):
    """A reading; see `watch.panel.Row`."""

    @property
    def t(self) -> float: ...
    @property
    def rss(self) -> int: ...
    @property
    def vms(self) -> int: ...
    @property
    def share(self) -> float: ...
    @property
    def threads(self) -> int: ...
    @property
    def fds(self) -> int: ...
    @property
    def change(self) -> int: ...
    @property
    def grew(self) -> bool: ...


class ProcessLike(Protocol):
    """A process; see `watch.panel.ProcessRow`."""

    @property
    def pid(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def rss(self) -> int: ...
    @property
    def levels(self) -> tuple[float, ...]: ...
    @property
    def grew(self) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """All that is shown. `clock_s` added to a reading's time is the time of day as `time.time` has it."""

    target: str
    elapsed: str
    rows: Sequence[RowLike]
    processes: Sequence[ProcessLike]
    verdict: TrackVerdict | None
    clock_s: float
    chosen: int = 0
    paused: bool = False
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line, and what it is for the eye: "title", "growth", "leak", "quiet" or ""."""

    text: str
    style: str = ""


def lines(screen: Screen, *, width: int, height: int) -> list[Line]:
    """The screen in at most `height` lines of at most `width` columns."""
    found = [_title(screen, width)]
    if screen.rows:
        found += [Line(text=_figures(screen.rows[-1])), _slope(screen.verdict)]
        found.append(Line(text=bars([row.rss for row in screen.rows], width - 1), style="quiet"))
    room = height - _FIXED_LINES
    shown_processes = min(len(screen.processes), max(_LEAST_ROWS, room // 3)) if len(screen.processes) > 1 else 0
    history = max(_LEAST_ROWS, room - shown_processes if shown_processes else room + 2)
    found += [Line(text=""), Line(text=heading(), style="quiet")]
    found += [
        Line(text=row_text(row, screen.clock_s), style="growth" if row.grew else "") for row in screen.rows[-history:]
    ]
    if shown_processes:
        found += [Line(text=""), Line(text=f"  {'process':<{_NAME}} {'RSS MB':>10}", style="quiet")]
        found += [_process(one, screen.chosen, width) for one in _around(screen, shown_processes)]
    found = found[: height - 1]
    found += [Line(text="")] * (height - 1 - len(found))
    found.append(Line(text=screen.message or KEYS, style="quiet"))
    return [dataclasses.replace(line, text=_cut(line.text, width)) for line in found]


def heading() -> str:
    """The names of the columns of `row_text`."""
    return f"  {'time':<9} {'RSS MB':>10} {'change':>9}   {'VMS MB':>10} {'% mem':>6} {'threads':>8} {'fds':>6}"


def row_text(row: RowLike, clock_s: float) -> str:
    """One reading as a line; growth is marked."""
    clock = time.strftime("%H:%M:%S", time.localtime(row.t + clock_s))
    mark = GROWTH if row.grew else " "
    fds = "-" if row.fds < 0 else f"{row.fds}"
    return (
        f"  {clock:<9} {row.rss / MB:>10,.1f} {row.change / MB:>+9,.1f} {mark} {row.vms / MB:>10,.1f} "
        f"{100 * row.share:>6.1f} {row.threads:>8} {fds:>6}"
    )


def _title(screen: Screen, width: int) -> Line:
    what = f"process {screen.chosen} of {screen.target}" if screen.chosen else screen.target
    right = f" paused · {screen.elapsed}" if screen.paused else f" {screen.elapsed}"
    left = _cut(f"memleak · {what}", width - len(right))
    return Line(text=f"{left:<{width - len(right)}}{right}", style="title")


def _figures(row: RowLike) -> str:
    threads = counted(row.threads, "thread")
    fds = "" if row.fds < 0 else f"   {row.fds} fds"
    return (
        f"RSS {row.rss / MB:,.1f} MB   VMS {row.vms / MB:,.1f} MB   {100 * row.share:.1f} % of memory   {threads}{fds}"
    )


def _slope(verdict: TrackVerdict | None) -> Line:
    if verdict is None or verdict.shape == "too short":
        return Line(text="slope: not known yet", style="quiet")
    is_leak = verdict.severity is not Severity.NONE
    severity = f", severity {verdict.severity.value}" if is_leak else ""
    return Line(
        text=f"slope {rate_words(verdict.rate)} · {VERDICTS[verdict.outcome]}{severity}",
        style="leak" if is_leak else "",
    )


def _around(screen: Screen, count: int) -> Sequence[ProcessLike]:
    """The largest processes, with the chosen one among them."""
    at = next((index for index, one in enumerate(screen.processes) if one.pid == screen.chosen), 0)
    first = max(0, at - count + 1)
    return screen.processes[first : first + count]


def _process(one: ProcessLike, chosen: int, width: int) -> Line:
    pointer = ">" if one.pid == chosen else " "
    name = _cut(f"{one.pid} {one.name}", _NAME)
    mark = GROWTH if one.grew else " "
    line = bars(one.levels, max(8, width - _NAME - 18))
    return Line(
        text=f"{pointer} {name:<{_NAME}} {one.rss / MB:>10,.1f} {mark} {line}", style="growth" if one.grew else ""
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
