"""How memory moves in the generated series of `trend_series.py`: leaks, and what only looks like one.

A level is drawn for times from 0 to 1, in the unit of what the limit allows over the whole. What it can show is decided
here, before any judge sees it, by the standard error of a slope of least squares under its noise (`Scene.error`): a
leak exceeds the limit by 10 errors, and noise lets a flat level be told from the limit by 8.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

LEAK_ERRORS: Final = 10.0
CLEAN_ERRORS: Final = 8.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One drawn setting: `t` from 0 to 1, noise in the unit of what the limit allows."""

    rng: Rng
    t: Floats
    noise: float
    phi: float

    @property
    def error(self) -> float:
        """The standard error of a slope over the whole, in limits."""
        return self.noise * math.sqrt((1 + self.phi) / (1 - self.phi) * 12 / self.t.size)

    def leak(self, most: float = 12.0) -> float:
        """A rate, in limits, that the noise cannot hide."""
        least = 1 + LEAK_ERRORS * self.error
        return float(self.rng.uniform(least, max(most, 1.5 * least)))

    def several(self, fewest: float, most: float) -> float:
        """A period that fits in so many times."""
        return 1 / float(self.rng.uniform(fewest, most))


Level: TypeAlias = Callable[[Scene], Floats]


def flat(s: Scene) -> Floats:
    return 0 * s.t


def outliers(s: Scene) -> Floats:
    return np.where(s.rng.random(s.t.size) < 0.06, s.rng.uniform(0.5, 3, s.t.size), 0.0)


def walk(s: Scene, mixes: float = 20) -> Floats:
    """A random walk between a floor and a ceiling; it forgets where it was `mixes` times in a run."""
    height = s.rng.uniform(0.1, 0.4)
    moves = s.rng.normal(0, height * math.sqrt(2 * mixes / math.pi**2 / s.t.size), s.t.size)
    level = np.cumsum(moves) + s.rng.uniform(0, height)
    folded = np.mod(level, 2 * height)
    return np.asarray(np.minimum(folded, 2 * height - folded))


def slow_walk(s: Scene) -> Floats:
    """Seen while it rises by more than the limit: where it does not, there is nothing to doubt."""
    while True:
        level = walk(s, 1) * float(s.rng.uniform(5, 20))
        if level[-s.t.size // 4 :].mean() - level[: s.t.size // 4].mean() > 1:
            return level


def teeth(s: Scene, fewest: float = 7, most: float = 30) -> Floats:
    return np.asarray(s.rng.uniform(0.2, 1) * ((s.t / s.several(fewest, most) + s.rng.uniform()) % 1))


def few_teeth(s: Scene) -> Floats:
    """One fall at least, not at the very ends: a tooth without one is a line."""
    period, first = s.rng.uniform(0.4, 1.2), s.rng.uniform(0.1, 0.9)
    return np.asarray(s.rng.uniform(2.5, 6) * ((s.t - first) / period % 1))


def step(s: Scene, low: float = 0.05, high: float = 0.45) -> Floats:
    return np.where(s.t > s.rng.uniform(low, high), s.rng.uniform(1, 4), 0.0)


def late_step(s: Scene) -> Floats:
    return step(s, 0.75, 0.97)


def steps(s: Scene) -> Floats:
    """Two to five of one size: nobody knows whether more follow."""
    count = int(s.rng.integers(2, 6))
    return np.asarray(np.floor(s.t * count + s.rng.uniform(0.2, 0.8)) * s.rng.uniform(1, 3))


def fill(s: Scene, low: float = 0.03, high: float = 0.15) -> Floats:
    return np.asarray(s.rng.uniform(1, 5) * (1 - np.exp(-s.t / s.rng.uniform(low, high))))


def three_quarters_filled(s: Scene) -> Floats:
    return fill(s, 0.4, 1.0) * 3


def half_filled(s: Scene) -> Floats:
    return fill(s, 1.5, 2.5) * 8


def fill_straight(s: Scene) -> Floats:
    return np.asarray(s.rng.uniform(2, 6) * np.minimum(s.t, s.rng.uniform(0.1, 0.45)))


def still_fills_straight(s: Scene) -> Floats:
    return np.asarray(s.rng.uniform(3, 8) * np.minimum(s.t, s.rng.uniform(0.65, 0.88)))


def days(s: Scene, fewest: float = 4, most: float = 12) -> Floats:
    wave = np.sin(2 * math.pi * (s.t / s.several(fewest, most) + s.rng.uniform()))
    return np.asarray(s.rng.uniform(0.1, 0.5) * wave)


def half_a_day(s: Scene) -> Floats:
    """From somewhere near the night to somewhere near the day."""
    wave = np.sin(math.pi * (s.t * s.rng.uniform(0.7, 1.2) + s.rng.uniform(-0.6, -0.4)))
    return np.asarray(s.rng.uniform(1, 4) * wave)


def falls(s: Scene) -> Floats:
    return -step(s, 0.2, 0.8)


def within(s: Scene) -> Floats:
    return np.asarray(s.rng.uniform(0.05, max(0.1, 0.8 - CLEAN_ERRORS * s.error)) * s.t)


def linear(s: Scene) -> Floats:
    return s.leak() * s.t


def slow(s: Scene) -> Floats:
    return float(s.rng.uniform(1.0, 1.2) * (1.3 + LEAK_ERRORS * s.error)) * s.t


def stepwise(s: Scene) -> Floats:
    count = s.rng.uniform(10, 40)
    return np.asarray(s.leak() * np.floor(s.t * count + s.rng.uniform()) / count)


def with_the_load(s: Scene) -> Floats:
    """It leaks by request, and the requests come in days and nights."""
    period, phase = s.several(4, 10), s.rng.uniform()
    wave = np.cos(2 * math.pi * (s.t / period + phase)) - math.cos(2 * math.pi * phase)
    return np.asarray(s.leak() * (s.t - s.rng.uniform(0.3, 0.9) * wave * period / 2 / math.pi))


def late(s: Scene) -> Floats:
    return 1.5 * s.leak() * np.maximum(0, s.t - s.rng.uniform(0.1, 0.4))


def at_the_end(s: Scene) -> Floats:
    return 4 * s.leak() * np.maximum(0, s.t - s.rng.uniform(0.8, 0.92))


def with_teeth(s: Scene) -> Floats:
    return linear(s) + teeth(s, 9, 30)


def after_warm_up(s: Scene) -> Floats:
    return 1.5 * linear(s) + fill(s, 0.02, 0.08)


def with_outliers(s: Scene) -> Floats:
    return linear(s) + outliers(s)


def into_a_table(s: Scene) -> Floats:
    """Entries, and the table of the dict that holds them: it doubles."""
    entries = s.rng.uniform(0.1, 1) + s.t
    table = 2 ** np.floor(np.log2(entries) + s.rng.uniform()) / 4
    return np.asarray(s.leak() * (s.t + table))


def faster_and_faster(s: Scene) -> Floats:
    return np.asarray(s.leak() * (s.t + s.rng.uniform(0.2, 0.8) * s.t**2))


# What nobody can know, noise or the end of the run being what they are.


def loud_fill(s: Scene) -> Floats:
    """Less than half filled, under noise of an eighth of what it gained: the bend is no more than the noise is."""
    level = half_filled(s)
    return level + s.rng.normal(0, 0.13 * float(level[-1]), s.t.size)


def fill_ends_at_the_end(s: Scene) -> Floats:
    return np.asarray(s.rng.uniform(3, 8) * np.minimum(s.t, s.rng.uniform(0.9, 0.99)))


def at_the_limit(s: Scene) -> Floats:
    return 1.0 * s.t
