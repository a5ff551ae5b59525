"""A level over time as one line of bars, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"


def bars(levels: Sequence[float], room: int) -> str:
    """The levels from the lowest to the highest in at most `room` columns; empty for fewer than two."""
    if len(levels) < 2:
        return ""
    low, high = min(levels), max(levels)
    span = high - low
    return "".join(
        _BARS[round((level - low) / span * (len(_BARS) - 1)) if span else 0] for level in _spread(levels, room)
    )


def _spread(levels: Sequence[float], room: int) -> list[float]:
    if len(levels) <= room:
        return list(levels)
    if room < 2:
        return [levels[-1]]
    return [levels[round(index * (len(levels) - 1) / (room - 1))] for index in range(room)]
