"""Generated series whose truth is known, for `trend_quality.py`: the shapes of `trend_shapes.py` under noise."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
import trend_shapes as shapes
from judges import ar
from trend_shapes import CLEAN_ERRORS, Floats, Level, Rng, Scene

from pytest_memleak.model_watch import Track

LIMIT_MB_PER_MIN: Final = 1.0

FIRST_SEED: Final = {"tuning": 0, "held-out": 1_000}
"""Move on the second when its figures have been looked at and the judge is to be tuned again."""

LENGTHS: Final = ((31, 10.0), (36, 5.0), (60, 5.0), (61, 10.0), (120, 1.0), (180, 5.0), (360, 10.0))
"""Readings and seconds between them: `detect`'s default first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Lives of a program, whether it leaks, and whether that can be known from them. `part` is where it counts."""

    kind: str
    part: str
    tracks: tuple[Track, ...]
    leaks: bool
    known: bool = True
    counted: bool = True
    source: str = "generated"


CLEAN_KNOWN: Final[dict[str, Level]] = {
    "flat": shapes.flat,
    "outliers": shapes.outliers,
    "walk under a ceiling": shapes.walk,
    "teeth of gc": shapes.teeth,
    "one step": shapes.step,
    "cache filled": shapes.fill,
    "cache filled straight": shapes.fill_straight,
    "days and nights": shapes.days,
    "falls": shapes.falls,
    "within the limit": shapes.within,
}
CLEAN_UNKNOWN: Final[dict[str, Level]] = {
    "slow random walk": shapes.slow_walk,
    "one or two teeth": shapes.few_teeth,
    "late step": shapes.late_step,
    "two to five steps": shapes.steps,
    "cache 63 to 92 % filled": shapes.three_quarters_filled,
    "cache less than half filled": shapes.half_filled,
    "cache still fills straight": shapes.still_fills_straight,
    "half a day": shapes.half_a_day,
}
LEAK_KNOWN: Final[dict[str, Level]] = {
    "leak": shapes.linear,
    "slow leak": shapes.slow,
    "stepwise leak": shapes.stepwise,
    "leak with the load": shapes.with_the_load,
    "leak that starts late": shapes.late,
    "leak under teeth": shapes.with_teeth,
    "leak after a warm-up": shapes.after_warm_up,
    "leak with outliers": shapes.with_outliers,
    "leak into a table": shapes.into_a_table,
    "leak that gets faster": shapes.faster_and_faster,
}
LEAK_UNKNOWN: Final[dict[str, Level]] = {"leak that starts at the end": shapes.at_the_end}
HOPELESS: Final[dict[str, Level]] = {
    "cache less than half filled, loud": shapes.loud_fill,
    "fill that ends at the end": shapes.fill_ends_at_the_end,
    "growth at the limit itself": shapes.at_the_limit,
}
"""Told and not counted: a judge that finds the leaks above convicts some of these."""


def scene(rng: Rng, *, irregular: bool = False) -> tuple[Scene, Floats, float]:
    """A drawn setting, its times in seconds, and how many MB the limit allows."""
    size, interval_s = LENGTHS[int(rng.integers(len(LENGTHS)))]
    times = np.arange(size, dtype=np.float64) * interval_s
    if irregular:
        times = times + rng.uniform(0, 0.8, size) * interval_s
        times = times[np.sort(rng.choice(size, max(24, int(size * rng.uniform(0.6, 0.9))), replace=False))]
    length = float(times[-1] - times[0])
    phi = float(rng.choice([0.0, 0.3, 0.6, 0.8]))
    plain = math.sqrt((1 + phi) / (1 - phi) * 12 / times.size)
    # At the most what lets a flat level be told from the limit.
    noise = min(float(10 ** rng.uniform(-2.3, -0.6)), 1 / CLEAN_ERRORS / plain)
    drawn = Scene(rng=rng, t=(times - times[0]) / length, noise=noise, phi=phi)
    return drawn, np.asarray(times, dtype=np.float64), LIMIT_MB_PER_MIN * length / 60


def one(name: str, rng: Rng, level: Level, *, irregular: bool = False) -> Track:
    """A life."""
    drawn, times, allowed = scene(rng, irregular=irregular)
    shape = level(drawn) + ar(rng, times.size, drawn.phi, drawn.noise)
    return _track(name, times, 1e8 + 1e6 * allowed * shape)


def _track(name: str, times: Floats, levels: Floats) -> Track:
    return Track(name=name, times_s=tuple(times.tolist()), levels=tuple(levels.tolist()))


def restarted(rng: Rng, level: Level) -> tuple[Track, ...]:
    """Two to four lives that follow each other, each with a warm-up of its own."""
    lives, begin = [], 0.0
    drawn, times, allowed = scene(rng)
    growth = level(drawn)
    for number in range(int(rng.integers(2, 5))):
        shape = growth + shapes.fill(drawn, 0.01, 0.06) + ar(rng, times.size, drawn.phi, drawn.noise)
        lives.append(_track(f"life {number}", begin + times, 1e8 + 1e6 * allowed * shape))
        begin += float(times[-1]) + rng.uniform(1, 60)
    return tuple(lives)


def workers(rng: Rng, level: Level) -> tuple[Track, ...]:
    """Four workers side by side, one of which is replaced; only the first leaks if any does."""
    drawn, times, allowed = scene(rng)
    quiet = dataclasses.replace(drawn, noise=drawn.noise / 3)
    cut = int(rng.uniform(0.45, 0.55) * times.size)
    spans = [slice(None), slice(None), slice(None), slice(0, cut), slice(cut, None)]
    found = []
    for number, span in enumerate(spans):
        shape = (level if number == 0 else shapes.flat)(drawn)[span]
        if number == 4:
            shape = shape + 2 * (1 - np.exp(-(drawn.t[span] - drawn.t[cut]) / 0.02))
        shape = shape + ar(rng, shape.size, drawn.phi, quiet.noise)
        found.append(_track(f"worker {number}", times[span], 5e7 + 1e6 * allowed * shape))
    return tuple(found)


def generated(part: str, each: int) -> list[Series]:
    """So many of each kind; the seeds of the two parts share nothing."""
    found: list[Series] = []
    groups = (CLEAN_KNOWN, False, True), (CLEAN_UNKNOWN, False, False), (LEAK_KNOWN, True, True)
    for seed in range(each):
        for group, leaks, known in (*groups, (LEAK_UNKNOWN, True, False)):
            for kind, level in group.items():
                track = one(kind, _rng(part, kind, seed), level)
                found.append(Series(kind=kind, part=part, tracks=(track,), leaks=leaks, known=known))
        for kind, level in HOPELESS.items():
            track = one(kind, _rng(part, kind, seed), level)
            found.append(Series(kind=kind, part=part, tracks=(track,), leaks=False, known=False, counted=False))
        for leaks, level in ((False, shapes.flat), (True, shapes.linear)):
            word = "leak, " if leaks else ""
            rng = _rng(part, word, seed)
            makers = {
                f"{word}irregular, missing": (one(word, rng, level, irregular=True),),
                f"{word}restarts": restarted(rng, level),
                f"{word}workers": workers(rng, level),
            }
            found += [Series(kind=kind, part=part, tracks=made, leaks=leaks) for kind, made in makers.items()]
    return found


def _rng(part: str, kind: str, seed: int) -> Rng:
    return np.random.default_rng([seed + FIRST_SEED[part], *f"{part} {kind}".encode()])
