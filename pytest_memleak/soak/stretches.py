"""The series to judge: what the service as a whole held over each stretch of measured time.

Workers that served throughout are added up. A worker that was restarted begins low again: that is no fall, and
its warm-up no growth. So where workers come and go each life is a stretch of its own, with its share of the limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pytest_memleak.soak.lives import Life, Recorded

Floats = npt.NDArray[np.float64]

# A worker that served for so much of the window is there throughout.
_THROUGHOUT: Final = 0.8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Times (seconds since the run's start) and levels by column; `share` of the service that these lives are."""

    times_s: Floats
    levels: dict[str, Floats]
    share: float
    lives: tuple[Life, ...]

    @property
    def length_s(self) -> float:
        """From the first reading to the last."""
        return float(self.times_s[-1] - self.times_s[0]) if len(self.times_s) else 0.0


def stretches(recorded: Recorded, columns: Sequence[str]) -> list[Stretch]:
    """The stretches of all windows, in their order; empty where no agent spoke."""
    found: list[Stretch] = []
    for begin, end in recorded.windows:
        until = recorded.latest_s if end is None else end
        # By time, not by segment: one that failed before its load has no window.
        found += _of_window(recorded.serving(), begin, until, columns)
    return found


def _of_window(lives: Sequence[Life], begin: float, end: float, columns: Sequence[str]) -> list[Stretch]:
    rows = {id(life): inside(life, begin, end) for life in lives}
    present = [life for life in lives if rows[id(life)].sum() > 1]
    if not present or end <= begin:
        return []
    spans = {id(life): float(np.ptp(np.asarray(life.times_s)[rows[id(life)]])) for life in present}
    steady = [life for life in present if spans[id(life)] >= _THROUGHOUT * (end - begin)]
    served = sum(spans.values())
    throughout = sum(spans[id(life)] for life in steady)
    if throughout >= _THROUGHOUT * served:
        return [dataclasses.replace(_together(steady, rows, columns), share=throughout / served)]
    at_once = max(1.0, served / (end - begin))
    return [dataclasses.replace(_together([life], rows, columns), share=1 / at_once) for life in present]


def inside(life: Life, begin: float, end: float) -> npt.NDArray[np.bool_]:
    """Which of a life's readings lie within a time."""
    times = np.asarray(life.times_s)
    return (times >= begin) & (times <= end)


def _together(lives: Sequence[Life], rows: dict[int, Any], columns: Sequence[str]) -> Stretch:
    """Lives added up, at the times of the one that was read most often."""
    own = [(np.asarray(life.times_s)[rows[id(life)]], life) for life in lives]
    most = max((times for times, _ in own), key=len)
    first = max(times[0] for times, _ in own)
    last = min(times[-1] for times, _ in own)
    grid = most[(most >= first) & (most <= last)]
    if len(grid) < 2:
        # A run that ended after two or three readings: none of one worker lies between those of the others.
        grid = np.array([first, last])
    levels = {
        name: np.sum(
            [np.interp(grid, times, np.asarray(life.columns[name])[rows[id(life)]]) for times, life in own], axis=0
        )
        for name in columns
    }
    return Stretch(times_s=grid, levels=levels, share=1.0, lives=tuple(lives))
