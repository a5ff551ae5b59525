"""Generated series of memory whose truth is known, for `trend_quality.py`.

A series is drawn in the unit of what the limit allows over its length, so that nothing is tuned to one length. What a
series can show is decided here, before any judge sees it, by the standard error of a slope of least squares under
its noise (`Scene.error`): a leak is known when it exceeds the limit by 10 errors, a clean level when it is 8 below.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pytest_memleak.model_watch import Track

Floats: TypeAlias = npt.NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

LIMIT_MB_PER_MIN: Final = 1.0

LENGTHS: Final = ((31, 10.0), (36, 5.0), (60, 5.0), (61, 10.0), (120, 1.0), (180, 5.0), (360, 10.0))
"""Readings and seconds between them: `detect`'s default first."""

LEAK_ERRORS: Final = 10.0
CLEAN_ERRORS: Final = 8.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Lives of a program, whether it leaks, and whether that can be known from them. `part` is where it counts."""

    kind: str
    part: str
    tracks: tuple[Track, ...]
    leaks: bool
    known: bool = True
    source: str = "generated"


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


def ar(rng: Rng, size: int, phi: float, deviation: float) -> Floats:
    """AR(1) noise of that standard deviation."""
    news = rng.normal(0, deviation * math.sqrt(1 - phi * phi), size)
    noise = np.empty(size)
    noise[0] = rng.normal(0, deviation)
    for at in range(1, size):
        noise[at] = phi * noise[at - 1] + news[at]
    return noise


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


CLEAN_KNOWN: Final[dict[str, Level]] = {
    "flat": flat, "outliers": outliers, "walk under a ceiling": walk, "teeth of gc": teeth, "one step": step,
    "cache filled": fill, "cache filled straight": fill_straight, "days and nights": days, "falls": falls,
    "within the limit": within,
}  # fmt: skip
CLEAN_UNKNOWN: Final[dict[str, Level]] = {
    "slow random walk": slow_walk, "one or two teeth": few_teeth, "late step": late_step, "two to five steps": steps,
    "cache 63 to 92 % filled": three_quarters_filled, "cache less than half filled": half_filled,
    "cache still fills straight": still_fills_straight, "half a day": half_a_day,
}  # fmt: skip
LEAK_KNOWN: Final[dict[str, Level]] = {
    "leak": linear, "slow leak": slow, "stepwise leak": stepwise, "leak with the load": with_the_load,
    "leak that starts late": late, "leak under teeth": with_teeth, "leak after a warm-up": after_warm_up,
    "leak with outliers": with_outliers, "leak into a table": into_a_table, "leak that gets faster": faster_and_faster,
}  # fmt: skip
LEAK_UNKNOWN: Final[dict[str, Level]] = {"leak that starts at the end": at_the_end}


def scene(rng: Rng, *, irregular: bool = False) -> tuple[Scene, Floats, float]:
    """A drawn setting, its times in seconds, and how many MB the limit allows."""
    size, interval_s = LENGTHS[int(rng.integers(len(LENGTHS)))]
    times = np.arange(size) * interval_s
    if irregular:
        times = times + rng.uniform(0, 0.8, size) * interval_s
        times = times[np.sort(rng.choice(size, max(24, int(size * rng.uniform(0.6, 0.9))), replace=False))]
    length = float(times[-1] - times[0])
    phi = float(rng.choice([0.0, 0.3, 0.6, 0.8]))
    plain = math.sqrt((1 + phi) / (1 - phi) * 12 / times.size)
    # At the most what lets a flat level be told from the limit.
    noise = min(float(10 ** rng.uniform(-2.3, -0.6)), 1 / CLEAN_ERRORS / plain)
    drawn = Scene(rng=rng, t=(times - times[0]) / length, noise=noise, phi=phi)
    return drawn, times, LIMIT_MB_PER_MIN * length / 60


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
        shape = growth + fill(drawn, 0.01, 0.06) + ar(rng, times.size, drawn.phi, drawn.noise)
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
        shape = (level if number == 0 else flat)(drawn)[span]
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
        for leaks, level in ((False, flat), (True, linear)):
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
    return np.random.default_rng([seed, *f"{part} {kind}".encode()])
