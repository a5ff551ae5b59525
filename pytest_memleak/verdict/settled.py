"""The settled part of a level over time, in figures: rates with intervals, quarters, falls.

Pure. `drift` gives the verdict on them. Medians of batches take out the outliers and most of the autocorrelation,
Theil and Sen's slope is the rate, and its interval is widened by the autocorrelation that is left.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pytest_memleak.model_soak import Estimate

Floats: TypeAlias = npt.NDArray[np.float64]

_MOST_BATCHES: Final = 32
"""Batch means are used with 10 to 30 batches (Schmeiser 1982): more would hang together again, fewer leave the
halves of the window, which are judged too, with less than 16."""

LEAST_BATCHES: Final = 12
"""Three for each quarter. Sen's interval at 99 % is finite from 6 points on, which is what half of them are."""

_PER_BATCH: Final = 3
"""The fewest readings whose median drops an outlier."""

_OUTSIDE: Final = 0.01
"""What an interval at 99 % leaves out, on both sides together."""

Z_99: Final = 2.576
"""The normal distribution's two-sided 99 %: what turns the half-width of an interval into a standard error."""

# The warm-up is searched on a finer grid than the batches of the verdict: 2.5 % of the run each.
_CUTS: Final = 40

# Cutting k of m batches off a line that fits everywhere raises the criterion by (m / (m - k))^3. Chance lowers it to
# 0.79 in one run of 1,000 (white noise, measured), to 0.48 in one of 100 where 40 readings are AR noise (phi = 0.9).
_WARM_UP_GAIN: Final = 0.5

# Where the cut lies, the last of the warm-up is below the noise of a batch, not gone: a quarter of its time more.
_WARM_UP_MORE: Final = 1.25

# A warm-up that takes more of the run than this, and grows until its end, cannot be told from a cache that fills.
_LONG_WARM_UP: Final = 0.25

# A gain between batches that is none of noise's: 5 spreads happen to 31 of them in one run of 50,000. More than one
# step in six batches is no step that stands out.
_STEP_SPREADS: Final = 5
_BATCHES_PER_STEP: Final = 6

# Medians a tenth below the highest are those of the same step.
_FLAT_TOP: Final = 0.1

# The standard deviation over the median absolute deviation, of a normal distribution.
_MAD: Final = 1.4826

# Beyond this, 32 batches cannot tell AR noise from a random walk, which no interval covers: the quarters and the
# falls have to refuse it. The interval is six times as wide then.
_MOST_CORRELATED: Final = 0.95

# Growth that stops within the last tenth leaves the level 5 % of the window's gain below the line through what was
# before: said when it lost a fifth of what the last quarter should have brought, and more than 2 noises.
_STALLED_SHARE: Final = 0.8
_STALLED_NOISES: Final = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The settled part of a run: what the verdict is made of. Rates are per second, levels in their own unit.

    `gained` is from its first sixteenth to its last, about 5 % less than a steady leak keeps in the whole.
    """

    start: int
    """The first reading that belongs to it."""

    span_s: float
    rate: Estimate
    early: Estimate
    late: Estimate
    end: Estimate
    """The last third."""

    quarters: Floats
    """The rate of each quarter."""

    quarter_error: float
    """The standard error of each, by the scatter."""

    gained: float
    fall: float
    """The deepest fall from an earlier peak, of the whole run: a level that came back may come back again."""

    scatter: float
    """The standard deviation of a batch's median about its neighbours: slow movements do not enter it."""

    stalled: bool
    """Whether the last readings fall behind the line through those before."""

    before: float | None
    """The rate of what came just before, where the part cut off was long; else None."""

    settled: bool
    """Whether the warm-up was over before the half of the run, where the search for its end gives up."""

    @property
    def faded(self) -> bool:
        """Whether the part cut off was long, and grew faster: the warm-up may be a cache that still fills."""
        return self.before is not None and self.before > self.rate.value


def settled_window(times: Floats, values: Floats) -> Window:
    """Measure what is left of a run of at least 2 * LEAST_BATCHES readings once its warm-up is cut off."""
    start, settled = warm_up(times, values)
    size = times.size - start
    count = max(LEAST_BATCHES, min(_MOST_BATCHES, size // _PER_BATCH))
    xs, ys = _batches(times[start:], values[start:], count)
    rest = _rest(xs, ys)
    widen = _widening(rest)
    # A cache's bend passes for autocorrelation about one line, and would hide itself.
    halves = slice(0, count // 2), slice(count // 2, count)
    widen_part = min(widen, max(_widening(_rest(xs[half], ys[half])) for half in halves))
    steps = np.diff(rest)
    scatter = _MAD * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2)
    quarters, quarter_error = _quarters(xs, ys, scatter)
    rate = _sen(xs, ys, widen)
    ends = max(1, count // 16)
    everything = _batches(times, values, count * times.size // size)[1]
    return Window(
        start=start,
        span_s=float(times[-1] - times[start]),
        rate=rate,
        early=_sen(xs[halves[0]], ys[halves[0]], widen_part),
        late=_sen(xs[halves[1]], ys[halves[1]], widen_part),
        end=_sen(xs[count - count // 3 :], ys[count - count // 3 :], widen_part),
        quarters=quarters,
        quarter_error=quarter_error,
        gained=float(np.median(ys[-ends:]) - np.median(ys[:ends])),
        fall=float(np.max(np.maximum.accumulate(everything) - everything)),
        scatter=scatter,
        stalled=_stalled(xs, ys),
        before=_rate_before(times, values, start) if start > _LONG_WARM_UP * times.size else None,
        settled=settled,
    )


def without_steps(times: Floats, values: Floats) -> Floats:
    """The level without the steps up that stand out: tables that doubled, single large allocations.

    Only for a conviction: what is left grows less than the level itself. Steps down stay, they make a sawtooth.
    """
    size = max(_PER_BATCH, times.size // _MOST_BATCHES)
    count = times.size // size
    ys = _batches(times, values, count)[1]
    gains = np.diff(ys)
    spread = _MAD * float(np.median(np.abs(gains - np.median(gains))))
    left: Floats = np.array(values)
    for batch in np.argsort(-gains)[: count // _BATCHES_PER_STEP].tolist():
        if gains[batch] - np.median(gains) > _STEP_SPREADS * spread:
            middle = (batch + 1) * times.size // count
            at, height = _step_near(values, middle, size)
            left[at:] -= height
    return left


def _step_near(values: Floats, middle: int, size: int) -> tuple[int, float]:
    """The reading at which the step lies, by the medians of as many readings before and after it, and its height."""
    places = range(max(1, middle - size), min(values.size - 1, middle + size) + 1)
    heights = [float(np.median(values[at : at + size]) - np.median(values[max(0, at - size) : at])) for at in places]
    # A flat top: any place whose medians lie on both sides of the step; the middle of them is the step.
    tops = [at for at, height in zip(places, heights, strict=True) if height >= max(heights) * (1 - _FLAT_TOP)]
    return tops[len(tops) // 2], max(heights)


def standard_error(estimate: Estimate) -> float:
    """Of a rate, out of its 99 % interval."""
    return (estimate.high - estimate.low) / 2 / Z_99


def warm_up(times: Floats, values: Floats) -> tuple[int, bool]:
    """The first reading of the settled part, within the first half, and whether its end was found there.

    MSER (White 1997: cut where the standard error of the mean of the rest is smallest) with a line instead of a
    mean: the squared standard error of the slope is proportional to the residual sum of squares / count^4. As
    with MSER, a cut at the half says that the run was too short to see the end.
    """
    count = min(_CUTS, times.size)
    xs, ys = _batches(times, values, count)
    # What rounding leaves of a line must not choose the cut.
    floor = (1e-9 * float(np.ptp(ys))) ** 2 * count
    scores = [(_about_line(xs[cut:], ys[cut:]) + floor) / (count - cut) ** 4 for cut in range(count // 2 + 1)]
    best = int(np.argmin(scores))
    if best == 0 or scores[best] > _WARM_UP_GAIN * scores[0]:
        return 0, True
    half = count // 2
    return min(half, math.ceil(_WARM_UP_MORE * best)) * times.size // count, best < half


def _rate_before(times: Floats, values: Floats, start: int) -> float:
    """The rate of the part that is cut off, without its own first half: what came just before the window."""
    xs, ys = _batches(times[start // 2 : start], values[start // 2 : start], min(start - start // 2, _CUTS // 4))
    return _slope(xs, ys)


def _about_line(xs: Floats, ys: Floats) -> float:
    """The sum of squares about the line of least squares."""
    x, y = xs - xs.mean(), ys - ys.mean()
    slope = (x @ y) / (x @ x)
    rest = y - slope * x
    return float(rest @ rest)


def _batches(times: Floats, values: Floats, count: int) -> tuple[Floats, Floats]:
    """The mean time and the median level of `count` batches of readings that follow each other."""
    edges = np.linspace(0, times.size, count + 1).astype(int)
    parts = [slice(start, end) for start, end in itertools.pairwise(edges)]
    return np.array([times[part].mean() for part in parts]), np.array([np.median(values[part]) for part in parts])


def _stalled(xs: Floats, ys: Floats) -> bool:
    """Whether the last sixteenth falls behind the line through the first three quarters."""
    cut, last = 3 * xs.size // 4, max(1, xs.size // 16)
    slope = _slope(xs[:cut], ys[:cut])
    rest = ys - slope * xs
    behind = float(np.median(rest[:cut]) - np.mean(rest[-last:]))
    expected = slope * float(xs[-last:].mean() - xs[cut - 1])
    return behind > (1 - _STALLED_SHARE) * expected and behind > _STALLED_NOISES * float(np.std(rest[:cut], ddof=2))


def _slope(xs: Floats, ys: Floats) -> float:
    """Theil and Sen's slope alone: the interval takes twenty times as long."""
    return float(np.median(_slopes(xs, ys)))


def _slopes(xs: Floats, ys: Floats) -> Floats:
    first, second = np.triu_indices(xs.size, 1)
    return np.asarray((ys[second] - ys[first]) / (xs[second] - xs[first]))


def _sen(xs: Floats, ys: Floats, widen: float) -> Estimate:
    """Theil and Sen's slope with Sen's interval (1968), both sides `widen` times as far away.

    `scipy.stats` has it, and costs every watched process 18 MB for it. No two of `xs` are alike; of `ys` some may be.
    """
    slopes = np.sort(_slopes(xs, ys))
    ties = np.unique(ys, return_counts=True)[1]
    whole, tied = ((counts * (counts - 1) * (2 * counts + 5)).sum() for counts in (np.array([xs.size]), ties))
    # Between so many of the slopes, in their order, lies the real one: Kendall's statistic is nearly normal.
    between = -float(ndtri(_OUTSIDE / 2)) * math.sqrt((whole - tied) / 18)
    last = slopes.size - 1
    low = float(slopes[max(round((slopes.size - between) / 2) - 1, 0)])
    high = float(slopes[min(round((slopes.size + between) / 2), last)])
    slope = float(np.median(slopes))
    return Estimate(value=slope, low=slope - widen * (slope - low), high=slope + widen * (high - slope))


def _rest(xs: Floats, ys: Floats) -> Floats:
    """What is left of the line with Theil and Sen's slope."""
    rest = ys - _slope(xs, ys) * xs
    return np.asarray(rest - np.median(rest))


def _widening(rest: Floats) -> float:
    """How much wider autocorrelation makes the interval of a slope: sqrt((1 + r) / (1 - r)) for AR(1) noise.

    That is the effective number of readings of Bayley and Hammersley (1946), by which Hamed and Rao (1998) correct
    the trend test. The autocorrelation of what is left of a line is too small by (2 + 4 r) / count (Shaman and
    Stine 1988); this is taken back, and half a standard error added: the interval grows faster with r than it shrinks.
    """
    squares = float(rest @ rest)
    if squares == 0:
        return 1.0
    count = rest.size
    seen = float(rest[1:] @ rest[:-1]) / squares
    real = (count * seen + 2) / (count - 4)
    real += math.sqrt(max(0.0, 1 - real * real) / count) / 2
    real = min(_MOST_CORRELATED, max(0.0, real))
    return math.sqrt((1 + real) / (1 - real))


def _quarters(xs: Floats, ys: Floats, scatter: float) -> tuple[Floats, float]:
    """The rate of each quarter between medians of an eighth of the batches, and its standard error."""
    count = xs.size
    width = max(1, count // 8)
    starts = [round(part * (count - width) / 4) for part in range(5)]
    at = np.array([xs[start : start + width].mean() for start in starts])
    level = np.array([np.median(ys[start : start + width]) for start in starts])
    spans = np.diff(at)
    return np.diff(level) / spans, scatter * math.sqrt(2 / width) / float(spans.mean())
