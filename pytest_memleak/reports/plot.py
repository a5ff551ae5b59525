"""A curve of several rows for a terminal: levels over time, each life of a process one after the other or together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_memleak.model_watch import Track
from pytest_memleak.units import format_bytes, format_seconds

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_ROWS: Final = 8
_LEAST_COLUMNS: Final = 20

# Lines of the axis at the left: "1.06 GB ┤"
_AXIS: Final = 9


def plot(tracks: Sequence[Track], *, width: int, is_timed: bool, rows: int = _ROWS) -> list[str]:
    """The tracks' mean level in each column of time, in blocks of an eighth of a row; empty where nothing moves.

    The lowest row begins a little below the lowest level, so that growth shows; the axis tells what it stands for.
    A column without a reading is left empty.
    """
    columns = width - _AXIS - 4
    points = [pair for track in tracks for pair in zip(track.times_s, track.levels, strict=True)]
    if len(points) < 2 or columns < _LEAST_COLUMNS:
        return []
    begin, end = min(points)[0], max(points)[0]
    if end <= begin:
        return []
    columns = min(columns, max(_LEAST_COLUMNS, len(points)))
    levels = _columns(points, begin, end, columns)
    known = [level for level in levels if level is not None]
    high, low = max(known), min(known)
    floor = max(0.0, low - (high - low or high) / rows)
    unit = (high - floor) / (8 * rows) or 1.0
    heights = [0 if level is None else max(1, round((level - floor) / unit)) for level in levels]
    lines = []
    for row in reversed(range(rows)):
        bar = "".join(_EIGHTHS[min(8, max(0, height - 8 * row))] for height in heights)
        label = format_bytes(high) if row == rows - 1 else format_bytes(floor) if row == 0 else ""
        lines.append(f"  {label:>{_AXIS}} {'┤' if label else '│'}{bar}".rstrip())
    last = f"+{format_seconds(end - begin)}" if is_timed else f"+{format_seconds(end - begin)} (assumed)"
    lines.append(f"  {'':>{_AXIS}} └{'─' * columns}")
    lines.append(f"  {'':>{_AXIS}}  0{last:>{columns - 1}}")
    return lines


def _columns(points: Sequence[tuple[float, float]], begin: float, end: float, columns: int) -> list[float | None]:
    """The mean level of each column; one without a reading takes that before it, unless the gap is a wide one."""
    sums, counts = [0.0] * columns, [0] * columns
    for time_s, level in points:
        at = min(columns - 1, int((time_s - begin) / (end - begin) * columns))
        sums[at] += level
        counts[at] += 1
    levels: list[float | None] = []
    gap = 0
    widest = 3 * columns / len(points) + 2
    for total, count in zip(sums, counts, strict=True):
        gap = 0 if count else gap + 1
        if count:
            levels.append(total / count)
        else:
            levels.append(levels[-1] if levels and gap <= widest else None)
    return levels
