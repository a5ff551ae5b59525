"""Logs as text, read as `memleak analyze-logs` reads them."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_memleak.logs.own_patterns import OwnPattern
from pytest_memleak.logs.reading import LogReading

YEAR = 2026


def read(text: str | bytes, *, unit: float | None = None, patterns: Sequence[str] = (), block: int = 0) -> LogReading:
    """One log, given in blocks of `block` bytes where it is not 0."""
    data = text.encode() if isinstance(text, str) else text
    reading = LogReading(year=YEAR, bare=unit, patterns=tuple(OwnPattern(pattern) for pattern in patterns))
    reading.open("app.log")
    for start in range(0, len(data), block or len(data) or 1):
        reading.feed(data[start : start + (block or len(data))])
    reading.close()
    reading.deaths.finish()
    return reading


def levels(reading: LogReading) -> list[tuple[str, str, list[float]]]:
    """Whose, what, and the levels of each life in MB, kept points only."""
    return [
        (str(name.owner), name.metric, [round(level / 1e6, 3) for level in life.points()[1]])
        for name, lives in reading.book.lives.items()
        for life in lives
    ]


def figures(line: str, *, unit: float | None = None) -> list[tuple[str, str, float]]:
    """Whose, what, and how many MB a single line tells."""
    return [(owner, metric, found[-1]) for owner, metric, found in levels(read(line, unit=unit))]
