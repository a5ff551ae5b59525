"""Blocks of bytes in, lives and deaths out: what is kept does not grow with the log."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.logs import deaths, figures, records, tables, whose
from pytest_memleak.logs.aftermath import Deaths, Told
from pytest_memleak.logs.candidates import Candidates
from pytest_memleak.logs.own_patterns import MOST_LINE as MOST_OWN
from pytest_memleak.logs.own_patterns import Found, OwnPattern
from pytest_memleak.logs.series import Book, SeriesName
from pytest_memleak.logs.times import Clock, parse_time

MOST_LINE: Final = 1_000_000
"""Bytes of a line: of a longer one the first 4,096 are read, as text."""

_BACK: Final = 3
"""Lines before one without a time in which it is looked for: a record of several lines has it in its first."""

# Bytes before such a line in which they are looked for.
_BEFORE: Final = 2048

# After as many lines without a time before them, a log is taken to have none.
_VAIN: Final = 200

# What `date` prints between two tables is shorter.
_SHORT: Final = 80


@dataclasses.dataclass(slots=True)
class _Where:
    """The line that is read: its block, where it begins there, and its number before the block."""

    block: bytes = b""
    start: int = 0
    lines_before: int = 0


class LogReading:
    """Takes the blocks of one log after the other. `bare` is the unit of figures without one, in bytes."""

    def __init__(self, *, year: int, bare: float | None = None, patterns: Sequence[OwnPattern] = ()) -> None:
        self.book = Book()
        self.deaths = Deaths(self.book)
        self.size = 0
        self.lines = 0
        self.broken = 0
        self.unitless = 0
        self.long_lines = 0
        self.forms: collections.Counter[str] = collections.Counter()
        self._year, self._bare, self._patterns = year, bare, patterns
        self._candidates = Candidates()
        self._clocks: dict[str, Clock] = {}
        self._clock = Clock(year)
        self._source = self._file = ""
        self._carry = self._tail = b""
        self._is_skipping = self._is_table = self._is_headless = self._is_new = False
        self._where = _Where()
        self._vain = 0

    def open(self, source: str, file: str = "") -> None:
        """Begin a file of a log; the files of one log share its name."""
        self._source, self._file = source, file or source
        self._clock = self._clocks.setdefault(source, Clock(self._year))
        self._carry = self._tail = b""
        self._is_skipping = self._is_table = self._is_headless = False
        self._is_new = True
        self.file_lines = 0

    def feed(self, block: bytes) -> None:
        """Take the next bytes, which need not end with a line."""
        self.size += len(block)
        if self._is_skipping:
            at = block.find(b"\n") + 1
            if not at:
                return
            self._is_skipping, block = False, block[at:]
        if self._carry:
            block = self._carry + block
        end = block.rfind(b"\n") + 1
        self._carry = block[end:]
        if end:
            self._lines(block if end == len(block) else block[:end])
        if len(self._carry) > MOST_LINE:
            self.long_lines += 1
            self._is_skipping = True
            self._lines(self._carry[: figures.MOST_TEXT] + b"\n")
            self._carry = b""

    def close(self) -> None:
        """The file is over: its last line may have had no end."""
        if self._carry:
            self._lines(self._carry + b"\n")
        self._carry = b""

    def _lines(self, block: bytes) -> None:
        if self._is_new:
            self._is_headless = tables.is_headless(block[:65536])
            self._is_new = False
        self._where = _Where(block, 0, self.file_lines)
        done = self._rows(block, 0) if self._is_table else 0
        for start, end in self._candidates.spans(block) if not self._patterns else self._every(block):
            if start < done:
                continue
            self._where.start = start
            self._line(block[start:end])
            if self._is_table:
                done = self._rows(block, end + 1)
        if self._is_headless and not self._patterns:
            for start, end in _spans(block):
                line = block[start:end]
                if not self._row(line) and len(line) < _SHORT:
                    self._clock.read(line)
        self._tail = block[-_BEFORE:]
        count = block.count(b"\n")
        self.lines += count
        self.file_lines += count

    def _every(self, block: bytes) -> Iterator[tuple[int, int]]:
        """The user's patterns on all lines; yields the lines that may tell of a death."""
        wanted = {start for start, _ in self._candidates.spans(block)}
        searches = [(pattern.search, pattern) for pattern in self._patterns]
        at = 0
        for line in block.split(b"\n"):
            for search, pattern in searches:
                match = search(line if len(line) <= MOST_OWN else line[:MOST_OWN])
                if match is not None:
                    self._where.start = at
                    self._own(line, pattern.read(match, self._bare))
                    break
            end = at + len(line)
            if at in wanted:
                yield at, end
            at = end + 1

    def _own(self, line: bytes, found: Found | None) -> None:
        if found is not None:
            time_s = parse_time(found.time, self._clock) if found.time else self._time(line)
            self._take("--pattern", found.owner or whose.of_text(line), found.figure, time_s)

    def _line(self, line: bytes) -> None:
        line = line.strip()
        if self._patterns:
            self._event(line[: figures.MOST_TEXT])
            return
        at = 0 if line[:1] == b"{" and line[:2] != b"{'" else line.find(b'{"')
        if at >= 0 and line[-1:] == b"}" and (not at or b"=" not in line[at - 1 : at]):
            self._record(line, at)
        elif line[:1] == b"{" and line[:2] != b"{'":  # that is how Python prints a dict
            self.broken += 1
        else:
            self._text(line[: figures.MOST_TEXT])

    def _record(self, line: bytes, at: int) -> None:
        """A JSON object, behind a container runtime's or a logger's own prefix where `at` is not 0."""
        found = records.parse(line[at:], self._bare)
        if found is None:
            if at:
                self._text(line[: figures.MOST_TEXT])
            else:
                self.broken += 1
            return
        owner = found.owner
        if at and owner == whose.NOBODY:
            owner = whose.of_text(line[:at])
        time_s = parse_time(found.time, self._clock)
        if time_s is not None:
            self._clock.last = time_s
            self._clock.said = str(found.time).encode()
        else:
            time_s = self._clock.read(line[:at]) if at else None
        if found.levels:
            time_s = self._clock.last if time_s is None else time_s
            for whom, figure in found.levels:
                self._take("JSON", whom if whom != whose.NOBODY else owner, figure, time_s)
        elif found.text:
            self._text(found.text.strip().encode("utf-8", "replace")[: figures.MOST_TEXT], owner, time_s)
        elif b"OOMKill" in line:
            self._event(line[: figures.MOST_TEXT])

    def _text(self, line: bytes, owner: whose.Owner = whose.NOBODY, time_s: float | None = None) -> None:
        """A line of text; what was around it (a JSON object) is known better than it can tell."""
        if self._event(line, owner, time_s):
            return
        row = tables.sample(line) or tables.peak(line)
        if row is not None:
            time_s = row.time_s if row.time_s is not None else self._time(line) if time_s is None else time_s
            self._take(
                "GNU time" if row.figure.metric == "peak of a run" else "Prometheus", row.owner, row.figure, time_s
            )
            return
        if tables.is_header(line):
            self._is_table = True
            self._time(line)
            return
        found = figures.find(line, self._bare)
        if not found:
            return
        told = whose.of_text(line)
        owner = whose.Owner(owner.place or told.place, owner.pid or told.pid)
        if time_s is None:
            time_s = self._time(line)
        for figure in found:
            self._take("text", owner, figure, time_s)

    def _rows(self, block: bytes, at: int) -> int:
        """Read a table's rows from `at` on, until a line that is none; gives where that begins."""
        while at < len(block):
            end = block.find(b"\n", at)
            if not self._row(block[at:end]):
                self._is_table = False
                break
            at = end + 1
        return at

    def _row(self, line: bytes) -> bool:
        row = tables.row(tables.plain(line[: figures.MOST_TEXT]))
        if row is not None:
            self._take("kubectl top, docker stats", row.owner, row.figure, self._clock.last)
        return row is not None

    def _take(self, form: str, owner: whose.Owner, figure: figures.Figure, time_s: float | None) -> None:
        if figure.size is None:
            self.unitless += 1
            return
        self.forms[form] += 1
        self.book.add(SeriesName(self._source, owner, figure.metric, figure.rank), time_s, figure.size)

    def _time(self, line: bytes) -> float | None:
        """The line's own time, else that of a line shortly before, else the last one."""
        time_s = self._clock.read(line)
        if time_s is not None or self._vain > _VAIN:
            return time_s if time_s is not None else self._clock.last
        block, start = self._where.block, self._where.start
        before = block[max(0, start - _BEFORE) : start]
        if start < _BEFORE:
            before = self._tail + before
        for earlier in reversed(before.splitlines()[-_BACK:]):
            time_s = self._clock.read(earlier)
            if time_s is not None:
                return time_s
        self._vain += 1
        return self._clock.last

    def _event(self, line: bytes, owner: whose.Owner = whose.NOBODY, time_s: float | None = None) -> bool:
        """Take a death or a birth, if the line tells one."""
        found = deaths.find(line)
        if found is None:
            return False
        if isinstance(found, deaths.Birth):
            for pid, place in ((found.pid, whose.of_text(line).place), (found.pid, owner.place), (found.pid, "")):
                self.book.end(self._source, whose.Owner(place, pid))
            if found.is_alone:
                self.book.end(self._source, whose.Owner(owner.place, 0))
            return True
        if time_s is None:
            self._time(line)
        number = self._where.lines_before + self._where.block.count(b"\n", 0, self._where.start) + 1
        said = self._clock.said.decode("utf-8", "replace").strip("[] ")
        self.deaths.take(Told(found, self._source, self._file, number, said, line[:400].decode("utf-8", "replace")))
        return True


def _spans(block: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    for line in block.split(b"\n"):
        yield start, start + len(line)
        start += len(line) + 1
