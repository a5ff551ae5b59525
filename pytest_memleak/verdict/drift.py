"""Whether a level that is read from outside drifts: the statistical judge of a real server under load.

Pure. The readings scatter, hang together in time, move in steps and have outliers. `settled` cuts off the warm-up and
measures the rest; a conviction needs more than a slope whose interval lies above the limit: each quarter of the
settled time must grow, and its second half as fast as its first. A step, a plateau, a sawtooth and a cache that
fills do not. Whatever is neither that nor within the limit is INCONCLUSIVE.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Estimate
from pytest_memleak.verdict.settled import (
    LEAST_BATCHES,
    Z_99,
    Floats,
    Window,
    settled_window,
    standard_error,
    without_steps,
)

Shape: TypeAlias = Literal["linear", "fading", "late", "step", "sawtooth", "flat", "unclear", "too short"]

MIN_READINGS: Final = 2 * LEAST_BATCHES
"""Half of the readings may be warm-up, and the rest must fill the fewest batches."""

# Every quarter grows at least this share of the whole: a step or a plateau leaves one at zero. A leak that gains 12
# times the noise of a batch's median fails by chance in 7 runs of 100, one that gains 16 times that in 2 (measured).
_QUARTER_SHARE: Final = 0.4

# A cache that fills exponentially, seen for T of its time constant, has halves of ratio exp(-T/2): 0.61 after one
# constant and 0.78 after half of one. To convict, the ratio has to lie above 0.65 beyond doubt (95 %): a leak
# that gains 20 times the noise of a batch's median shows that in 86 runs of 100 (measured).
_LATE_SHARE: Final = 0.65
_LATE_SURE: Final = 1.645

# Fading is said when the second half is slower than this, which stands for what a leak's pace varies, and more so than
# chance does in one run of 20.
_FADING_SHARE: Final = 0.9
_FADING_SURE: Final = 1.645

# A fill of one time constant or more has a last quarter of less than half the first: exp(-3/4). Two errors between
# each of the four are asked for beside, since a straight line has the order by chance in one run of 24.
_BENT_SHARE: Final = 0.5
_BENT_ERRORS: Final = 2

# A fall from a peak by more than half of the gain is none that a leak's noise makes: its gain is 20 times the noise
# (above), and the deepest fall of noise alone is 6 times that (below).
_SAWTOOTH_SHARE: Final = 0.5

# Among 32 batches of noise the deepest fall is 4 noises in the median, and 6 in one run of 100.
_FALL_NOISES: Final = 6

# One quarter that holds three quarters of all movement, instead of one quarter of it, is a step, if it is none that
# noise makes: 5 errors, since the largest of four is looked at and the error comes from a few batches.
_STEP_SHARE: Final = 0.75
_STEP_ERRORS: Final = 5

_LEAK: Final = "grew in every quarter of {span}, and in the second half as fast as in the first"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a level did over time, in the level's own unit (bytes, or a count) and seconds.

    `rate` is per second over the settled window with its 99 % interval, `gained` the rise from that window's start
    to its end. `settled_s` is the time, on the clock of `times_s`, at which the warm-up was over. `early` and
    `late` are the rates of the window's two halves; None when it is too short. `why` speaks of shape, percentages
    and seconds only: amounts are the caller's to format.
    """

    outcome: Outcome
    rate: Estimate
    settled_s: float
    gained: float
    shape: Shape
    why: str
    early: Estimate | None = None
    late: Estimate | None = None


def judge(times_s: Sequence[float], levels: Sequence[float], limit_per_s: float, *, least: float = 0.0) -> Drift:
    """Judge the growth of `levels`, read at the increasing `times_s`, against `limit_per_s` (>= 0).

    Where steps up (tables that double) hide whether growth lasts, it is convicted by what is left without them.
    `least` is the smallest gain over the settled window that is worth a conviction, in the level's unit. Raises
    ValueError when the two sequences differ in length, the times do not increase, a level is not finite, or
    the limit is negative.
    """
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(levels, dtype=np.float64)
    if times.shape != values.shape or times.ndim != 1:
        raise ValueError(f"{times.size} times for {values.size} levels")
    if limit_per_s < 0:
        raise ValueError(f"the limit is {limit_per_s}, and cannot be below 0")
    if not np.all(np.diff(times) > 0):
        raise ValueError("the times do not increase")
    if not np.all(np.isfinite(values)):
        raise ValueError("a level is not a number")
    if times.size < MIN_READINGS:
        return _too_short(times, values)
    window = settled_window(times, values)
    outcome, shape, why = _verdict(window, limit_per_s, least)
    if outcome is Outcome.INCONCLUSIVE and window.gained > 0:
        smooth = settled_window(times, without_steps(times, values))
        if _verdict(smooth, limit_per_s, least)[0] is Outcome.LEAK and window.fall <= _SAWTOOTH_SHARE * window.gained:
            # What the steps add can only raise the rate.
            rate = dataclasses.replace(window.rate, low=min(smooth.rate.low, window.rate.value))
            window = dataclasses.replace(window, rate=rate)
            outcome, shape, why = Outcome.LEAK, "linear", _LEAK.format(span=f"{smooth.span_s:.0f} s, steps left out")
    return Drift(
        outcome=outcome, rate=window.rate, settled_s=float(times[window.start]), gained=window.gained,
        shape=shape, why=why, early=window.early, late=window.late,
    )  # fmt: skip


def _too_short(times: Floats, values: Floats) -> Drift:
    gained = float(values[-1] - values[0]) if values.size else 0.0
    value = gained / float(times[-1] - times[0]) if values.size > 1 else 0.0
    return Drift(
        outcome=Outcome.INCONCLUSIVE,
        rate=Estimate(value=value, low=-math.inf, high=math.inf),
        settled_s=float(times[0]) if times.size else 0.0,
        gained=gained,
        shape="too short",
        why=f"{times.size} readings are too few to tell growth from chance: it takes {MIN_READINGS}, better 100",
    )


def _verdict(window: Window, limit: float, least: float) -> tuple[Outcome, Shape, str]:
    """The outcome, the shape and the sentence."""
    shape = _shape(window)
    span = f"{window.span_s:.0f} s"
    above = window.rate.low > limit and window.late.value > limit
    if shape == "linear" and above and window.gained >= max(least, 0.0):
        return Outcome.LEAK, shape, _LEAK.format(span=span)
    if shape == "fading" and window.end.high <= limit:
        return Outcome.CLEAN, shape, f"the growth faded, and was within the limit in the last third of {span}"
    if window.rate.high <= limit and _ends_within(window, shape, limit):
        return Outcome.CLEAN, shape, f"any growth over {span} is within the limit (99 %)"
    return Outcome.INCONCLUSIVE, shape, _doubt(window, shape, above, span)


def _ends_within(window: Window, shape: Shape, limit: float) -> bool:
    """Whether no growth above the limit begins late: the last third by its slope, the last quarter by its gain.

    Where that gain stands out from all before, it may have come within the second half of the quarter.
    """
    last = float(window.quarters[-1])
    if shape == "late" and 2 * last > limit:
        return False
    return window.end.value <= limit and last - limit <= Z_99 * window.quarter_error


def _shape(window: Window) -> Shape:
    if _fading(window):
        return "fading"
    if _sustained(window):
        return "linear" if window.settled or _straight(window) else "fading" if window.faded else "late"
    if window.rate.high < 0:
        return "flat"
    most = int(np.argmax(window.quarters))
    if window.quarters[most] >= _STEP_SHARE * np.abs(window.quarters).sum():
        if window.quarters[most] > _STEP_ERRORS * window.quarter_error:
            return "late" if most == 3 else "step"
    elif window.late.low > max(0.0, window.early.value):
        return "late"
    if window.fall > _SAWTOOTH_SHARE * abs(window.gained) and window.fall > _FALL_NOISES * window.scatter:
        return "sawtooth"
    return "flat" if window.rate.low <= 0 else "unclear"


def _sustained(window: Window) -> bool:
    """Growth in each quarter, and as fast in the second half as in the first."""
    return (
        window.rate.low > 0
        and bool(np.all(window.quarters >= _QUARTER_SHARE * window.rate.value))
        and _lasts(window, _LATE_SHARE)
        and window.fall <= _SAWTOOTH_SHARE * window.gained
    )


def _lasts(window: Window, share: float) -> bool:
    """Whether the second half grows at this share of the first's rate at least, beyond doubt (95 %)."""
    margin = _LATE_SURE * math.hypot(standard_error(window.late), share * standard_error(window.early))
    return window.late.value - share * window.early.value > margin


def _straight(window: Window) -> bool:
    """Whether it is all one where the warm-up ended: no slower growth before it, and no bend after it.

    A cache that filled before would go on to slow down within the window.
    """
    return (
        window.before is not None
        and window.before >= _FADING_SHARE * window.rate.value
        and _lasts(window, _FADING_SHARE)
    )


def _fading(window: Window) -> bool:
    """A slower second half beyond doubt, or any after a long warm-up that may have been the same cache; or a stop.

    Or quarters that fall one after the other: where there is little noise, the bend itself widens the intervals.
    """
    early, late = window.early, window.late
    margin = 0.0 if window.faded else _FADING_SURE * math.hypot(standard_error(late), standard_error(early))
    slower = early.low > 0 and late.value < _FADING_SHARE * early.value and early.value - late.value > margin
    falls = -np.diff(window.quarters)
    bent = window.quarters[-1] < _BENT_SHARE * window.quarters[0] and np.all(
        falls > _BENT_ERRORS * window.quarter_error
    )
    return slower or bool(bent) or (window.rate.low > 0 and window.stalled)


def _doubt(window: Window, shape: Shape, above: bool, span: str) -> str:
    early, late = window.early.value, window.late.value
    if shape == "fading":
        pace = f", by {1 - late / early:.0%} from half to half" if 0 < late < early else ""
        return f"growth fades{pace} of {span}: a longer run shows where it ends"
    if shape == "linear" and above:
        return f"growth lasts, but gained too little in {span} to convict: a longer run gains more"
    reasons = {
        "late": f"growth began, or rose, late in {span}: a longer run shows whether it goes on",
        "step": f"most of the growth is one step within {span}: a longer run shows whether more follow",
        "sawtooth": f"the level rises and falls within {span}: a run of many such periods shows what stays",
    }
    hidden = "it goes on" if above else "growth is above the limit"
    return reasons.get(shape, f"the scatter of {span} hides whether {hidden}: a longer run tells")
