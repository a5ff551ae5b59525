"""How often the statistical judges of a soak are right, on simulated runs whose truth is known.

drift        a level over time, the limit 1,000 units per second: how many runs end as CLEAN, LEAK and INCONCLUSIVE, and
             in how many the interval of the rate holds the real one (where there is one rate). A run has 180 readings,
             one a second; --readings changes that. Noise is told in per cent of what the limit allows over the run.
attribution  a server of ten endpoints, 100 requests a second whose mix changes every 4 seconds, read 180 times: how
             often the interval of a leaking endpoint holds its real rate and excludes 0, how often it lies above all
             innocent ones, and how often an innocent one is accused

Scenarios whose truth nobody could know in the time of the run (a cache that has filled by less than two thirds, half a
wave) are told, and do not count; nor do those that are not what the attribution assumes.

Goal: at most 1 % of what counts goes wrong: clean levels convicted, leaking ones passed, innocent endpoints accused.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pytest_runs import MISSED, OK, say, table

from pytest_memleak.model import Outcome
from pytest_memleak.verdict.attribution import Life, attribute
from pytest_memleak.verdict.drift import judge

Floats: TypeAlias = npt.NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

LIMIT: Final = 1_000.0
ENDPOINTS: Final = 10
MOST_WRONG: Final = 0.01


def ar(rng: Rng, size: int, phi: float, deviation: float) -> Floats:
    """AR(1) noise of that standard deviation."""
    news = rng.normal(0, deviation * math.sqrt(1 - phi * phi), size)
    noise = np.empty(size)
    noise[0] = rng.normal(0, deviation)
    for at in range(1, size):
        noise[at] = phi * noise[at - 1] + news[at]
    return noise


def table_bytes(entries: Floats) -> Floats:
    """The table of a dict of so many entries, 100 B each when two thirds full: it doubles when it is fuller."""
    return np.asarray(2 ** np.maximum(3, np.ceil(np.log2(np.maximum(entries, 1) * 1.5))) * 100 * 2 / 3)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A level for a run of time 0 to 1, in units of what the limit allows over the run: `level(time, rng)`.

    `wrong` is the outcome that would be an error; `rate` the real rate over the limit, where there is one.
    """

    level: Callable[[Floats, Rng], Floats]
    noise: float = 0.03
    phi: float = 0.5
    wrong: Outcome | None = None
    rate: float | None = None


def _flat(t: Floats, _rng: Rng) -> Floats:
    return 0 * t


def _leak(times: float) -> Callable[[Floats, Rng], Floats]:
    return lambda t, _rng: np.asarray(times * t)


def _fill(constant: float, limits: float = 5) -> Callable[[Floats, Rng], Floats]:
    return lambda t, _rng: limits * (1 - np.exp(-t / constant))


def _late(start: float, times: float) -> Callable[[Floats, Rng], Floats]:
    return lambda t, _rng: times * np.maximum(0, t - start)


def _teeth(period: float, height: float = 2, leak: float = 0) -> Callable[[Floats, Rng], Floats]:
    return lambda t, rng: np.asarray(leak * t + height * ((t / period + rng.uniform()) % 1))


def scenes() -> dict[str, Scene]:
    """All scenarios of drift by name."""
    clean, leak = Outcome.CLEAN, Outcome.LEAK
    found: dict[str, Scene] = {}
    for noise in (0.02, 0.1):
        for phi in (0.0, 0.5, 0.9):
            told = f"noise {noise:.0%} phi {phi}"
            found[f"flat, {told}"] = Scene(level=_flat, noise=noise, phi=phi, wrong=leak, rate=0)
            found[f"half the limit, {told}"] = Scene(level=_leak(0.5), noise=noise, phi=phi, wrong=leak, rate=0.5)
            found[f"twice the limit, {told}"] = Scene(level=_leak(2), noise=noise, phi=phi, wrong=clean, rate=2)
    none = 1e-9  # the scenario has its own
    found |= {
        "flat, outliers": Scene(
            level=lambda t, rng: 0.02 * rng.standard_t(1.5, t.size), noise=none, wrong=leak, rate=0
        ),
        "twice the limit, outliers": Scene(
            level=lambda t, rng: 2 * t + 0.02 * rng.standard_t(1.5, t.size), noise=none, wrong=clean, rate=2
        ),
        "twice the limit, in 40 steps": Scene(
            level=lambda t, rng: np.floor(40 * t + rng.uniform()) / 20, noise=none, wrong=clean, rate=2
        ),
        "warm-up, then flat": Scene(
            level=lambda t, rng: 3 * (1 - np.exp(-t / rng.uniform(0.01, 0.08))), wrong=leak, rate=0
        ),
        "warm-up, then twice the limit": Scene(
            level=lambda t, rng: 2 * t + 3 * (1 - np.exp(-t / rng.uniform(0.01, 0.08))), wrong=clean, rate=2
        ),
        "spike, then plateau": Scene(
            level=lambda t, rng: np.where(t > rng.uniform(0, 0.4), 2.0, 0.0), wrong=leak, rate=0
        ),
        "one step, 40 % to the end": Scene(
            level=lambda t, rng: np.where(t > rng.uniform(0.4, 1), 2.0, 0.0), wrong=leak
        ),
        "random walk": Scene(
            level=lambda t, rng: np.cumsum(rng.normal(0, 1, t.size)) / math.sqrt(t.size), noise=none, wrong=leak
        ),
        "a whole wave": Scene(level=lambda t, rng: np.sin(2 * math.pi * (t + rng.uniform())), wrong=leak),
        "teeth, 20 a run": Scene(level=_teeth(0.05), wrong=leak, rate=0),
        "teeth, 7 a run": Scene(level=_teeth(0.15), wrong=leak, rate=0),
        "teeth, 2.5 a run": Scene(level=_teeth(0.4), wrong=leak),
        "teeth, 1.4 a run": Scene(level=_teeth(0.7), wrong=leak),
        "teeth, 1.1 a run": Scene(level=_teeth(0.9), wrong=leak),
        "teeth, 20 a run, on a leak": Scene(level=_teeth(0.05, 0.5, 2), wrong=clean, rate=2),
        "cache fills, constant 0.2 runs": Scene(level=_fill(0.2), noise=0.05, wrong=leak),
        "cache fills, constant 0.5 runs": Scene(level=_fill(0.5), noise=0.05, wrong=leak),
        "cache fills, constant 1 run (*)": Scene(level=_fill(1), noise=0.05),
        "cache fills, constant 2 runs (*)": Scene(level=_fill(2), noise=0.05),
        "the same, noise 30 % (*)": Scene(level=_fill(2), noise=0.3),
        "cache fills straight, ends at 30 to 85 %": Scene(
            level=lambda t, rng: np.minimum(4 * t, 4 * rng.uniform(0.3, 0.85)), noise=0.05, wrong=leak
        ),
        "half a wave (*)": Scene(level=lambda t, rng: np.sin(math.pi * (t + rng.uniform(0, 2)))),
        "leak, a dict that doubles": Scene(
            level=lambda t, rng: (1.8e6 * t + table_bytes(2_000 * t + rng.uniform(10, 2000))) / 1e6, wrong=clean
        ),
        "only a table that doubles": Scene(
            level=lambda t, rng: 2 ** np.floor(np.log2(1 + rng.uniform() + 8 * t)) / 4, wrong=clean
        ),
        "leak begins at 30 %": Scene(level=_late(0.3, 2), wrong=clean),
        "leak begins at 50 %": Scene(level=_late(0.5, 2), wrong=clean),
        "leak begins at 70 %": Scene(level=_late(0.7, 2), wrong=clean),
        "leak of 5 limits begins at 85 %": Scene(level=_late(0.85, 5), wrong=clean),
    }
    return found


def run_drift(runs: int, readings: int) -> tuple[list[tuple[object, ...]], collections.Counter[str]]:
    """A row per scenario, and how many runs counted and were wrong, by what they should not have been."""
    rows: list[tuple[object, ...]] = []
    sums: collections.Counter[str] = collections.Counter()
    times = np.arange(readings, dtype=np.float64)
    allowed = LIMIT * readings
    for name, scene in scenes().items():
        ended: collections.Counter[Outcome] = collections.Counter()
        shapes: collections.Counter[str] = collections.Counter()
        held = 0
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            level = scene.level(times / readings, rng) + ar(rng, readings, scene.phi, scene.noise)
            found = judge(times.tolist(), (1e8 + allowed * level).tolist(), LIMIT)
            ended[found.outcome] += 1
            shapes[found.shape] += 1
            held += scene.rate is not None and found.rate.low <= scene.rate * LIMIT <= found.rate.high
        if scene.wrong is not None:
            sums[f"of {scene.wrong.value}"] += runs
            sums[scene.wrong.value] += ended[scene.wrong]
        outcomes = [f"{ended[kind] / runs:.1%}" for kind in (Outcome.CLEAN, Outcome.LEAK, Outcome.INCONCLUSIVE)]
        covers = "" if scene.rate is None else f"{held / runs:.1%}"
        rows.append((name, *outcomes, covers, ", ".join(shape for shape, _ in shapes.most_common(2))))
    return rows, sums


def mix(rng: Rng, readings: int, endpoints: int = ENDPOINTS) -> Floats:
    """Cumulative requests by endpoint: each weighs 1 or 0.15 for four seconds, 100 a second in all."""
    weights = np.repeat(np.where(rng.random((readings // 4 + 1, endpoints)) < 0.5, 1.0, 0.15), 4, axis=0)[:readings]
    done = rng.poisson(weights / weights.sum(axis=1, keepdims=True) * 100)
    return np.vstack([np.zeros(endpoints), np.cumsum(done, axis=0)])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A simulated server: bytes kept per request of each endpoint, and what hides it.

    `counts` overrides the mix, `tables` gives each leaking endpoint a dict that doubles, `cache` is what endpoint 0
    keeps of its first 900 requests each. `counted`: whether an accusation of an innocent counts.
    """

    rates: Sequence[float]
    phi: float = 0.0
    jitter: float = 30_000.0
    readings: int = 180
    lives: int = 1
    tables: bool = True
    cache: float = 0.0
    walk: float = 0.0
    counts: Callable[[Rng, int], Floats] | None = None
    counted: bool = True


def _life(server: Server, rng: Rng) -> Life:
    size = server.readings + 1
    counts = (server.counts or (lambda rng, n: mix(rng, n, len(server.rates))))(rng, server.readings)
    levels = counts @ np.asarray(server.rates) + server.cache * np.minimum(counts[:, 0], 900)
    begun = rng.uniform(0, 3000)
    for at in np.flatnonzero(server.rates) if server.tables else ():
        levels = levels + table_bytes(counts[:, at] + begun)
    held = rng.poisson(3, size).astype(np.float64)
    noise = ar(rng, size, server.phi, server.jitter) + np.cumsum(rng.normal(0, server.walk, size))
    levels = levels + noise + 2_000 * held + rng.uniform(1e8, 2e8)
    return Life(times_s=np.arange(size, dtype=np.float64), levels=levels, held=held, counts=counts)


def _rare(rng: Rng, readings: int) -> Floats:
    """The last two endpoints are called once, and four times."""
    counts = mix(rng, readings)
    counts[:, 8:] = 0
    counts[rng.integers(20, readings - 20) :, 9] = 1
    for at in rng.integers(1, readings, 4):
        counts[at:, 8] += 1
    return counts


def _constant(rng: Rng, readings: int) -> Floats:
    return np.vstack([np.zeros(ENDPOINTS), np.cumsum(rng.poisson(10, (readings, ENDPOINTS)), axis=0)])


def servers() -> dict[str, Server]:
    """All scenarios of attribution by name."""
    one = [1_000.0] + [0.0] * (ENDPOINTS - 1)
    return {
        "one leaks": Server(rates=one),
        "one leaks, phi 0.5": Server(rates=one, phi=0.5),
        "one leaks, phi 0.9": Server(rates=one, phi=0.9),
        "one leaks, no table": Server(rates=one, tables=False),
        "one leaks, 3 lives": Server(rates=one, lives=3),
        "one leaks, 15 minutes": Server(rates=one, readings=900),
        "one leaks, jitter 300 B": Server(rates=one, jitter=300),
        "one leaks, two rare ones": Server(rates=one, counts=_rare),
        "one leaks, constant mix": Server(rates=one, counts=_constant),
        "one of 50 leaks, 10 minutes": Server(rates=one + [0.0] * 40, readings=600),
        "two leak, 1,000 B and 500 B": Server(rates=[1_000, 500] + [0.0] * (ENDPOINTS - 2)),
        "all leak": Server(rates=[1_000.0] * ENDPOINTS, tables=False),
        "none leaks": Server(rates=[0.0] * ENDPOINTS),
        "none leaks, phi 0.9": Server(rates=[0.0] * ENDPOINTS, phi=0.9),
        "none leaks, random walk": Server(rates=[0.0] * ENDPOINTS, walk=20_000),
        "cache of 1 kB entries fills (*)": Server(rates=[0.0] * ENDPOINTS, cache=1_000, counted=False),
        "cache of 10 kB entries fills (*)": Server(rates=[0.0] * ENDPOINTS, cache=10_000, counted=False),
    }


def run_attribution(runs: int) -> tuple[list[tuple[object, ...]], collections.Counter[str]]:
    """A row per scenario, and how many innocent endpoints counted and were accused."""
    rows: list[tuple[object, ...]] = []
    sums: collections.Counter[str] = collections.Counter()
    for name, server in servers().items():
        seen: collections.Counter[str] = collections.Counter()
        seconds = 0.0
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            lives = [_life(server, rng) for _ in range(server.lives)]
            begun = time.perf_counter()
            found = attribute(lives, [str(at) for at in range(len(server.rates))])
            seconds += time.perf_counter() - begun
            seen.update(_right(server, lives, found.shares))
        if server.counted:
            sums["innocent"] += seen["innocent"]
            sums["accused"] += seen["accused"]
        leaking, innocent = max(1, seen["leaking"]), max(1, seen["innocent"])
        cells = [f"{seen[kind] / leaking:.1%}" if seen["leaking"] else "" for kind in ("holds", "excludes")]
        above = f"{seen['above'] / runs:.1%}" if seen["leaking"] and seen["innocent"] else ""
        accused = f"{seen['accused'] / innocent:.2%}" if seen["innocent"] else ""
        rows.append((name, *cells, above, accused, f"{1_000 * seconds / runs:.0f}"))
    return rows, sums


def _right(server: Server, lives: Sequence[Life], shares: Sequence[Any]) -> collections.Counter[str]:
    """What one attribution got right. A rate holds with its table's growth averaged in, or without."""
    seen: collections.Counter[str] = collections.Counter()
    lows, highs = [], []
    for share in shares:
        at, found = int(share.endpoints[0]), share.bytes_per_request
        if server.cache and at == 0:
            continue
        if not server.rates[at]:
            seen.update(innocent=1, accused=int(found.low > 0))
            highs.append(found.high)
            continue
        tables = 0.0
        if server.tables:  # as large as the whole table at the end, which it was not at the start
            tables = sum(float(table_bytes(life.counts[-1:, at] + 3_000)[0]) for life in lives) / share.requests
        seen.update(leaking=1, excludes=int(found.low > 0))
        seen.update(holds=int(found.low <= server.rates[at] + tables and found.high >= server.rates[at]))
        lows.append(found.low)
    seen.update(above=int(bool(lows) and bool(highs) and min(lows) > max(highs)))
    return seen


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="how many of each scenario")
    parser.add_argument("--readings", type=int, default=180, help="how many in a run of drift")
    parser.add_argument("--only", choices=("drift", "attribution"), help="one of the two judges")
    options = parser.parse_args()
    wrong: dict[str, tuple[int, int]] = {}
    if options.only != "attribution":
        rows, sums = run_drift(options.runs, options.readings)
        say(table(("drift", "CLEAN", "LEAK", "INCONCLUSIVE", "holds the rate", "shapes"), rows))
        wrong["clean levels convicted"] = sums["LEAK"], sums["of LEAK"]
        wrong["leaking levels passed"] = sums["CLEAN"], sums["of CLEAN"]
    if options.only != "drift":
        rows, sums = run_attribution(options.runs)
        say(table(("attribution", "holds the rate", "excludes 0", "above all others", "accused", "ms"), rows))
        wrong["innocent endpoints accused"] = sums["accused"], sums["innocent"]
    for what, (count, of) in wrong.items():
        say(f"{what}: {count} of {of}, {count / max(1, of):.2%} (wanted {MOST_WRONG:.0%} at the most)")
    return OK if all(count <= MOST_WRONG * of for count, of in wrong.values()) else MISSED


if __name__ == "__main__":
    sys.exit(main())
