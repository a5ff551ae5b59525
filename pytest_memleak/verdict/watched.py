"""What one process, or several that belong together, did while they were watched from outside.

Pure. `drift` judges a long series by what each part of it shows alone; where it has no answer, or there are too few
readings for it, the shapes of `rivals` are compared. A conviction needs a slope whose 99 % interval lies above the
limit and no other shape that explains the readings as well: no stairs, no bend, no wave, no fall.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Severity, Thresholds, Track, TrackVerdict
from pytest_memleak.units import MB, format_rate, format_seconds
from pytest_memleak.verdict import drift, rivals
from pytest_memleak.verdict.settled import Floats

LEAST_READINGS: Final = 16
"""Four for each quarter of the time."""

_MOST_PARTS: Final = 4
_LATE: Final = 0.6
_BOW: Final = 2.0
_WAVY: Final = 3.0
_FALL: Final = 0.4
_ENDS: Final = (0.6, 0.75, 0.85, 0.92)
_END_ERRORS: Final = 3.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """A verdict in bytes and seconds; `why` without amounts."""

    outcome: Outcome
    rate: Estimate
    gained: float
    shape: str
    why: str


def judge_track(track: Track, thresholds: Thresholds) -> TrackVerdict:
    return judge_tracks(track.name, [track], thresholds)


def judge_tracks(name: str, tracks: Sequence[Track], thresholds: Thresholds) -> TrackVerdict:
    t = tracks[0]
    f = opinion(np.asarray(t.times_s, dtype=np.float64), np.asarray(t.levels, dtype=np.float64), thresholds.medium * MB / 60)
    rate = f.rate.times(60 / MB)
    return TrackVerdict(name=name, outcome=f.outcome, severity=thresholds.severity(rate.value), rate=rate, gained=f.gained, shape=f.shape, why=f.why)


def opinion(times: Floats, values: Floats, limit_per_s: float) -> Opinion:
    """One series against a limit."""
    first = drift.judge(times.tolist(), values.tolist(), limit_per_s)
    found = Opinion(outcome=first.outcome, rate=first.rate, gained=first.gained, shape=first.shape, why=first.why)
    if times.size < LEAST_READINGS:
        return found
    x, y = rivals.points(times, values)
    length = float(times[-1] - times[0])
    allowed = limit_per_s * length
    parts = apart(x, y)
    if first.outcome is Outcome.LEAK:
        doubt = _objection(parts, strict=False)
        if doubt:
            return dataclasses.replace(found, outcome=Outcome.INCONCLUSIVE, shape=doubt, why=doubt)
        return found
    late = _rises_late(parts, allowed)
    if first.outcome is Outcome.CLEAN:
        if late:
            return dataclasses.replace(found, outcome=Outcome.INCONCLUSIVE, shape="late", why="late")
        return found
    rate = parts.slope.times(1 / length)
    if parts.slope.high <= allowed and not late and not math.isnan(parts.slope.high):
        return Opinion(outcome=Outcome.CLEAN, rate=rate, gained=parts.gained, shape="flat", why="within")
    if parts.slope.low > allowed:
        doubt = _objection(parts, strict=True)
        if not doubt:
            return Opinion(outcome=Outcome.LEAK, rate=rate, gained=parts.gained, shape="linear", why="grew")
        return dataclasses.replace(found, shape=doubt, why=doubt)
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A series taken apart: what is left without warm-up, steps and waves, and its slope per run."""

    x: Floats
    y: Floats
    rest: Floats
    slope: Estimate
    found: tuple[rivals.Fit, ...]
    last: rivals.Fit

    @property
    def gained(self) -> float:
        return float(np.median(self.y[-3:]) - np.median(self.y[:3]))


def apart(x: Floats, y: Floats) -> Parts:
    """Take away what stands beside the growth."""
    rest, found, wide = y - y[0], [], 0.0
    for _ in range(_MOST_PARTS + 1):
        last = rivals.best(x, rest)
        wide = max(wide, last.slope.high - last.slope.value)
        if last.kind in ("line", "bend") or len(found) == _MOST_PARTS:
            break
        found.append(last)
        rest = rest - rivals.component(last, x, rest)
    slope = Estimate(value=last.slope.value, low=last.slope.value - wide, high=last.slope.value + wide)
    return Parts(x=x, y=y, rest=rest, slope=slope, found=tuple(found), last=last)


def _rises_late(parts: Parts, allowed: float) -> bool:
    """Whether something changes towards the end that the rest of the readings cannot vouch for."""
    if any(part.kind == "step" and part.change > 0 and part.at > _LATE for part in parts.found):
        return True
    if parts.last.kind == "bend" and parts.last.at > _LATE:
        return parts.last.change > 0 or parts.last.slope.value - parts.last.change > allowed
    for at in _ENDS:
        bent = rivals.placed("bend", parts.x, parts.rest, at)
        if bent.slope.value > allowed and bent.change > _END_ERRORS * bent.change_error:
            return True
    return False


def _stalls(x: Floats, y: Floats) -> bool:
    """Whether the growth ends before the readings do."""
    for at in _ENDS:
        bent = rivals.placed("bend", x, y, at)
        if bent.change < -_END_ERRORS * bent.change_error and bent.slope.value < 0.5 * (bent.slope.value - bent.change):
            return True
    return False


def _objection(parts: Parts, *, strict: bool) -> str:
    """What else the growth may be; empty when nothing."""
    x, y = parts.x, parts.rest
    sure = 1.0 if strict else 1.5
    last = parts.last
    gain = last.slope.value
    for part in parts.found:
        if part.kind == "step" and -part.change > (0.25 if part.at < _LATE else 0.05) * gain:
            return "sawtooth"
        if part.kind == "warm-up" and part.at > 0.1 and abs(part.change) > 0.25 * gain:
            return "fading" if part.change < 0 else "late"
    if rivals.stairs(x, parts.y if any(part.kind == "wave" for part in parts.found) else y) > 0:
        return "step"
    _, low = rivals.floor(x, y)
    if float(np.max(np.maximum.accumulate(low) - low)) > _FALL * gain:
        return "sawtooth"
    convex = any(part.kind == "warm-up" and part.change > 0 for part in parts.found)
    start = max([2 * part.at for part in parts.found if part.kind == "warm-up"], default=0.0)
    if last.kind == "bend":
        if -last.change > 0.15 * gain and last.at > 0.2:
            return "fading"
        before = last.slope.value - last.change
        if last.change > 0 and last.at > _LATE and before < 0.4 * last.slope.value:
            return "late"
        if last.at <= _LATE:
            start = max(start, last.at)
            convex |= last.change > 0
    if convex:
        sure *= 0.65
    y, x = y[x >= start], x[x >= start]
    if x.size < 10:
        return "unclear"
    x = (x - x[0]) / (x[-1] - x[0])
    line = rivals.fit("line", x, y, [])
    gain = line.slope.value
    spread = math.sqrt(line.squares / x.size)
    if line.correlated > 0.4 and gain < 12 * spread:
        return "unclear"
    bow, error = rivals.bow(x, y)
    if bow < -_BOW * sure * error and bow < -0.1 * gain:
        return "fading"
    if _stalls(x, y):
        return "fading"
    cubic, error = rivals.bend_back(x, y)
    if cubic < -_WAVY * sure * error and -cubic > 0.4 * gain:
        return "unclear"
    return ""
