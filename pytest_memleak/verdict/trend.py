"""How a level moves with the number of calls: slope, interval, and whether the growth lasts.

Pure. A level is the sum of what the calls keep (proportional to calls) and of jitter that never
accumulates (worker threads that finish a little later, free lists, warm caches). The slope is ordinary
least squares over the later rounds; what makes it trustworthy is the shape test beside it: a leak grows in
every quarter of the window and as fast at its end as at its start, while a step, a cache that fills and a
sawtooth do not.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Final

from pytest_memleak.model import Growth

MIN_ROUNDS: Final = 7
"""Readings that a window needs: four quarters of at least one round, and five degrees of freedom."""

# Student's t, two-sided 99 %, by degrees of freedom (standard table); beyond 30 the normal value serves
# with the margin of the last row.
_T_99: Final = {
    1: 63.66, 2: 9.92, 3: 5.84, 4: 4.60, 5: 4.03, 6: 3.71, 7: 3.50, 8: 3.36, 9: 3.25, 10: 3.17, 12: 3.05,
    15: 2.95, 20: 2.85, 30: 2.75,
}  # fmt: skip

# A Poisson process that showed nothing in n calls has, at 99 %, a rate below -ln(0.01)/n = 4.6/n.
UNSEEN_UNITS: Final = -math.log(0.01)

# Each quarter of the window must grow at least half as fast as the whole: one quarter without growth (a
# step, the flat part of a fill) never passes, Poisson noise is allowed for beside it.
_QUARTER_SHARE: Final = 0.5

# A filling cache with random keys falls off exponentially: a window of half its time constant has a second
# half that grows 0.78 times as fast as the first. A leak's halves differ by jitter only; where chance makes
# a leak look as if it faded, more calls show that it does not.
_FADING_SHARE: Final = 0.92
_FADING_NOISES: Final = 1.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How one signal moved over a window of `calls` calls.

    `bounded`: the level rises and falls, and its later half leaves the bounds of the earlier one on neither
    side. `gained` is the level's rise over the window in the signal's unit, `deviation` the standard deviation of
    the readings about their line. `sustained` and `fading` are the shape test; both false means irregular.
    """

    growth: Growth
    gained: float
    deviation: float
    calls: int
    sustained: bool
    fading: bool
    bounded: bool


def trend(calls: Sequence[int], levels: Sequence[int], unit: float) -> Trend | None:
    """Judge the movement of `levels` (one per round) over cumulative `calls`.

    `unit` is the smallest amount that a leak can keep (1 object, 16 B of malloc); with `n` calls and no
    growth the interval still ends at 4.6 units / n. None when there are fewer than MIN_ROUNDS readings or
    no calls between them.
    """
    count = len(calls)
    span = calls[-1] - calls[0] if count else 0
    if count < MIN_ROUNDS or span <= 0:
        return None
    slope, deviation, spread = _least_squares(calls, levels)
    half = _t99(count - 2) * deviation / math.sqrt(spread) + UNSEEN_UNITS * unit / span
    return Trend(
        growth=Growth(per_call=slope, low=slope - half, high=slope + half),
        gained=levels[-1] - levels[0],
        deviation=deviation,
        calls=span,
        sustained=_sustained(calls, levels, slope, unit),
        fading=_fading(calls, levels, unit),
        bounded=_bounded(levels),
    )


def window(length: int) -> int:
    """The first row to judge of `length` rows: the first third is taken as warm-up, whatever happened in it."""
    return min(length // 3, max(0, length - MIN_ROUNDS))


def _least_squares(calls: Sequence[int], levels: Sequence[int]) -> tuple[float, float, float]:
    """Slope, standard deviation of the residuals, and the sum of squares of calls about their mean."""
    count = len(calls)
    mean_x = sum(calls) / count
    mean_y = sum(levels) / count
    spread = sum((x - mean_x) ** 2 for x in calls)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(calls, levels, strict=True)) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(calls, levels, strict=True))
    return slope, math.sqrt(residual / (count - 2)), spread


def _t99(freedom: int) -> float:
    return next((_T_99[known] for known in sorted(_T_99, reverse=True) if known <= freedom), _T_99[1])


def _sustained(calls: Sequence[int], levels: Sequence[int], slope: float, unit: float) -> bool:
    last = len(calls) - 1
    cuts = [round(quarter * last / 4) for quarter in range(5)]
    for start, end in itertools.pairwise(cuts):
        expected = slope * (calls[end] - calls[start])
        gained = levels[end] - levels[start]
        if gained <= 0 or gained < _QUARTER_SHARE * expected - 2 * math.sqrt(max(0.0, unit * expected)):
            return False
    return True


def _fading(calls: Sequence[int], levels: Sequence[int], unit: float) -> bool:
    middle = len(calls) // 2
    early = (levels[middle] - levels[0]) / max(1, calls[middle] - calls[0])
    late_calls = calls[-1] - calls[middle]
    late = levels[-1] - levels[middle]
    expected = early * late_calls
    # What chance does to two halves, and jitter to the readings at their ends.
    noise = _FADING_NOISES * (
        math.sqrt(max(0.0, 2 * unit * expected)) + _deviation_from_bend(calls, levels) * math.sqrt(2)
    )
    return expected > 0 and late < _FADING_SHARE * expected - noise


# With fewer readings the two halves of a leak that scatters lie within each other's bounds by chance.
_BOUNDED_ROUNDS: Final = 12


def _bounded(levels: Sequence[int]) -> bool:
    """A sawtooth (a cache that evicts in batches) comes back to where it was; a leak beneath it would not."""
    middle = len(levels) // 2
    early, late = levels[:middle], levels[middle:]
    return len(levels) >= _BOUNDED_ROUNDS and max(late) <= max(early) and min(late) <= min(early)


def _deviation_from_bend(calls: Sequence[int], levels: Sequence[int]) -> float:
    """The standard deviation of the readings about a parabola.

    A filling cache bends, and about a line its own bend would pass for jitter and hide it. Least squares on
    polynomials that are orthogonal over the calls.
    """
    count = len(calls)
    middle = sum(calls) / count
    half = max(1, calls[-1] - calls[0]) / 2
    xs = [(call - middle) / half for call in calls]
    mean = sum(levels) / count
    ys = [level - mean for level in levels]
    squares = sum(x * x for x in xs)
    line = sum(x * y for x, y in zip(xs, ys, strict=True)) / squares
    skew = sum(x**3 for x in xs) / squares
    bends = [x * x - squares / count - skew * x for x in xs]
    bend_squares = sum(bend * bend for bend in bends)
    bend = sum(b * y for b, y in zip(bends, ys, strict=True)) / bend_squares if bend_squares else 0.0
    rest = sum((y - line * x - bend * b) ** 2 for x, y, b in zip(xs, ys, bends, strict=True))
    return math.sqrt(rest / (count - 3))
