"""A short series taken apart: what stands beside its growth, and what else that growth may be.

Pure. Warm-ups, steps and waves are taken away one after the other, the largest first, until a line or a bent line is
left: that is the growth. `doubt` then looks for every other shape that would explain it as well, and `ends_above` for
what begins too late to be told. Both err towards no answer: a false alarm is worse than a longer watch.

Times run from 0 to 1, so that a slope is the growth over the whole. The figures that were chosen by error rates were
chosen on the tuning part of `benchmarks/trend_quality.py` alone.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np

from pytest_memleak.model_soak import Estimate
from pytest_memleak.verdict import rivals
from pytest_memleak.verdict.settled import Floats

_MOST_PARTS: Final = 4
"""A table that doubles shows as often in a run that it grows sixteenfold in."""

# What changes after this leaves too little behind it to say how it goes on.
_LATE: Final = 0.6

# Growth that only began after this has less behind it than before it.
_HALF: Final = 0.5

# Growth that bends down before this was a warm-up; after it, a cache that may fill on.
_EARLY: Final = 0.2
_LONG_WARM_UP: Final = 0.1

# A part, against the growth over the whole, that changes what is thought of it.
_MATERIAL: Final = 0.25
_BENDS: Final = 0.15
_LATE_FALL: Final = 0.05

# Errors by which a parabola has to bend down: 2 in one straight leak of 40. A series that `drift` convicted has passed
# a test of the same, and one whose growth only began within it has one more way to be a wave.
_BOW_ERRORS: Final = 2.0
_BOW_SHARE: Final = 0.1
_AGAIN: Final = 1.5
_BEGAN: Final = 0.65

# A half wave begins and ends slowly: a cubic that takes a third off the slope at the ends, 3 errors from none.
_CUBIC_ERRORS: Final = 3.0
_CUBIC_SHARE: Final = 0.4

# Where growth may end, or begin: four looks, at 3 errors each, find something in one straight leak of 200.
_ENDS: Final = (0.6, 0.75, 0.85, 0.92)
_END_ERRORS: Final = 3.0

# The lowest points of eight blocks fall by this share of the gain only where a sawtooth falls through them.
_FALL: Final = 0.4

# A random walk ends some 4 to 8 spreads (about its own line) from where it began, if it is one that went up.
_CORRELATED: Final = 0.45
_WALK: Final = 12.0

# By so much in the logarithm have a few stairs to be the likelier: a straight leak that gains 7 times its noise shows
# them in one run of 200 then, and in one of 70 without.
_STAIRS: Final = 4.0

_FEWEST_LEFT: Final = 10
"""Points after the growth began: of fewer, stairs and bends cannot be told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A series taken apart: the points, what is `rest` without `found`, and the last shape, a line or a bent one."""

    x: Floats
    y: Floats
    rest: Floats
    slope: Estimate
    found: tuple[rivals.Fit, ...]
    last: rivals.Fit

    def kinds(self, kind: rivals.Kind) -> tuple[rivals.Fit, ...]:
        """The parts of one kind."""
        return tuple(part for part in self.found if part.kind == kind)


def apart(x: Floats, y: Floats) -> Parts:
    """Take away what stands beside the growth. The slope's interval is the widest that any of the shapes left."""
    rest = y - y[0]
    found: list[rivals.Fit] = []
    last = rivals.best(x, rest)
    wide = last.slope.high - last.slope.value
    while last.kind not in ("line", "bend") and len(found) < _MOST_PARTS:
        found.append(last)
        rest = rest - rivals.component(last, x, rest)
        last = rivals.best(x, rest)
        wide = max(wide, last.slope.high - last.slope.value)
    slope = Estimate(value=last.slope.value, low=last.slope.value - wide, high=last.slope.value + wide)
    return Parts(x=x, y=y, rest=rest, slope=slope, found=tuple(found), last=last)


def ends_above(parts: Parts, allowed: float) -> bool:
    """Whether something changed towards the end, so that the rest cannot vouch for what comes."""
    if any(part.change > 0 and part.at > _LATE for part in parts.kinds("step")):
        return True
    last = parts.last
    if last.kind == "bend" and last.at > _LATE:
        return last.change > 0 or last.slope.value - last.change > allowed
    for at in _ENDS:
        bent = rivals.placed("bend", parts.x, parts.rest, at)
        if bent.slope.value > allowed and bent.change > _END_ERRORS * bent.change_error:
            return True
    return False


def doubt(parts: Parts, *, again: bool = False) -> str:
    """The shape that growth may be instead of a leak; empty when there is none. `again`: another judge found none."""
    beside = _beside(parts)
    if beside:
        return beside
    start, began = _start(parts)
    after = parts.x >= start
    x, y = parts.x[after], parts.rest[after]
    if x.size < _FEWEST_LEFT:
        return "unclear"
    x = (x - x[0]) / (x[-1] - x[0])
    if rivals.stairs(x, parts.y[after] if parts.kinds("wave") else y) > _STAIRS:
        return "step"
    return _bent(x, y, (_AGAIN if again else 1.0) * (_BEGAN if began else 1.0))


def _beside(parts: Parts) -> str:
    """What the parts taken away, the last bend and the lowest points say against a leak."""
    gain = parts.slope.value
    for part in parts.found:
        if part.kind == "step" and -part.change > (_MATERIAL if part.at < _LATE else _LATE_FALL) * gain:
            return "sawtooth"
        if part.kind == "warm-up" and part.at > _LONG_WARM_UP and abs(part.change) > _MATERIAL * gain:
            return "fading" if part.change < 0 else "late"
    low = rivals.lowest(parts.rest)
    if float(np.max(np.maximum.accumulate(low) - low)) > _FALL * gain:
        return "sawtooth"
    last = parts.last
    if last.kind == "bend":
        if -last.change > _BENDS * gain and last.at > _EARLY:
            return "fading"
        before = last.slope.value - last.change
        if -before * last.at > _MATERIAL * gain:
            return "sawtooth"
        if last.change > 0 and last.at > _HALF and before < _FALL * gain:
            return "late"
    return ""


def _start(parts: Parts) -> tuple[float, bool]:
    """When the growth was under way, and whether it began within the series."""
    start = max([2 * part.at for part in parts.kinds("warm-up")], default=0.0)
    began = any(part.change > 0 for part in parts.kinds("warm-up"))
    if parts.last.kind == "bend" and parts.last.at <= _LATE:
        return max(start, parts.last.at), began or parts.last.change > 0
    return start, began


def _bent(x: Floats, y: Floats, sure: float) -> str:
    """What a line through the rest hides."""
    line = rivals.fit("line", x, y, [])
    gain = line.slope.value
    if line.correlated > _CORRELATED and gain < _WALK * math.sqrt(line.squares / x.size):
        return "unclear"
    bow, error = rivals.bow(x, y)
    if bow < -max(_BOW_ERRORS * sure * error, _BOW_SHARE * gain):
        return "fading"
    for at in _ENDS:
        end = rivals.placed("bend", x, y, at)
        if end.change < -_END_ERRORS * end.change_error and end.slope.value < -end.change:
            return "fading"
    cubic, error = rivals.bend_back(x, y)
    return "unclear" if -cubic > max(_CUBIC_ERRORS * sure * error, _CUBIC_SHARE * gain) else ""
