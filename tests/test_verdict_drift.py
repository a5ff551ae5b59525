"""The judge of a level over time, on scripted traces: outcome, shape, rate, warm-up, and how often it is wrong."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_support import LENIENT

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from pytest_memleak.model import Outcome  # noqa: E402  # after the libraries that it does without
from pytest_memleak.verdict.drift import MIN_READINGS, Drift, judge  # noqa: E402  # needs scipy

CLEAN, LEAK, INCONCLUSIVE = Outcome.CLEAN, Outcome.LEAK, Outcome.INCONCLUSIVE

LIMIT = 1_000.0
"""Per second."""

COUNT = 180
"""Readings, one a second: the limit allows 180,000 over a run."""

Trace: TypeAlias = Callable[[float], float]
"""A level at a time from 0 to 1, in units of what the limit allows over the run."""


def follow(trace: Trace, noise: float = 0.0, *, phi: float = 0.5, seed: int = 0, count: int = COUNT) -> Drift:
    """Judge a trace with AR(1) noise of so many units, on a level of 100 MB."""
    times = [float(at) for at in range(count)]
    jitter = ar(np.random.default_rng(seed), count, phi, noise)
    allowed = LIMIT * count
    return judge(times, [1e8 + allowed * (trace(at / count) + jitter[at]) for at in range(count)], LIMIT)


def ar(rng: Any, count: int, phi: float, deviation: float) -> Any:
    news = rng.normal(0, deviation * math.sqrt(1 - phi * phi), count)
    noise = np.empty(count)
    noise[0] = rng.normal(0, deviation)
    for at in range(1, count):
        noise[at] = phi * noise[at - 1] + news[at]
    return noise


# Traces, named after what happens.


def flat(at: float) -> float:
    return 0.0


def leaks_at(limits: float) -> Trace:
    return lambda at: limits * at


def spike_then_plateau(at: float) -> float:
    return 2.0 if at > 0.2 else 0.0


def one_step_at(begin: float) -> Trace:
    return lambda at: 2.0 if at > begin else 0.0


def warms_up_then(trace: Trace, constant: float = 0.05) -> Trace:
    return lambda at: 3 * (1 - math.exp(-at / constant)) + trace(at)


def cache_fills_exponentially(constant: float) -> Trace:
    return lambda at: 5 * (1 - math.exp(-at / constant))


def cache_fills_straight_until(end: float) -> Trace:
    return lambda at: 4 * min(at, end)


def sawtooth_under_gc(period: float, phase: float = 0.3) -> Trace:
    return lambda at: 2 * ((at / period + phase) % 1)


def leak_starts_at(begin: float, limits: float = 2) -> Trace:
    return lambda at: limits * max(0.0, at - begin)


def list_resizes(at: float) -> float:
    return math.floor(40 * at) / 20


def only_a_table_doubles(at: float) -> float:
    return 2.0 ** math.floor(math.log2(1 + 8 * at)) / 4


# Shapes and outcomes.


@pytest.mark.parametrize(
    "trace, outcome, shape",
    [
        (flat, CLEAN, "flat"),
        (leaks_at(-3), CLEAN, "flat"),
        (leaks_at(0.5), CLEAN, "linear"),
        (leaks_at(2), LEAK, "linear"),
        (list_resizes, LEAK, "linear"),
        (spike_then_plateau, CLEAN, "flat"),
        (one_step_at(0.62), INCONCLUSIVE, "step"),
        (one_step_at(0.9), INCONCLUSIVE, "late"),
        (warms_up_then(flat), CLEAN, "flat"),
        (warms_up_then(leaks_at(2)), LEAK, "linear"),
        (cache_fills_exponentially(0.03), CLEAN, "flat"),
        (cache_fills_exponentially(0.5), INCONCLUSIVE, "fading"),
        (cache_fills_exponentially(1), INCONCLUSIVE, "fading"),
        (cache_fills_straight_until(0.4), CLEAN, "flat"),
        (cache_fills_straight_until(0.9), INCONCLUSIVE, "fading"),
        (sawtooth_under_gc(0.05), CLEAN, "flat"),
        (sawtooth_under_gc(0.4), INCONCLUSIVE, "sawtooth"),
        (sawtooth_under_gc(0.9), INCONCLUSIVE, "sawtooth"),
        (leak_starts_at(0.3), LEAK, "linear"),
        (leak_starts_at(0.7), INCONCLUSIVE, "late"),
        (leak_starts_at(0.8, 5), INCONCLUSIVE, "late"),
    ],
)
def test_shapes(trace: Trace, outcome: Outcome, shape: str) -> None:
    found = follow(trace, noise=0.02, seed=1)
    assert (found.outcome, found.shape) == (outcome, shape), found.why


@pytest.mark.parametrize("begin", [0.05, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_step_is_not_convicted_wherever_it_comes(begin: float) -> None:
    assert follow(one_step_at(begin), noise=0.02).outcome is not LEAK


@pytest.mark.parametrize("begin", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8])
def test_a_leak_is_not_passed_wherever_it_starts(begin: float) -> None:
    assert follow(leak_starts_at(begin, 4), noise=0.02).outcome is not CLEAN


@pytest.mark.parametrize("period", [0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.9])
def test_a_sawtooth_is_not_convicted_with_any_period_that_fits_into_the_run(period: float, phase: float) -> None:
    assert follow(sawtooth_under_gc(period, phase), noise=0.02).outcome is not LEAK


def test_a_table_that_doubles_is_neither_convicted_nor_passed() -> None:
    assert follow(only_a_table_doubles, noise=0.02).outcome is INCONCLUSIVE


@pytest.mark.parametrize("begun", [0, 500, 1_000, 1_500])
def test_a_leak_into_a_dict_that_doubles_is_convicted(begun: int) -> None:
    def dict_doubles(at: float) -> float:
        return 2.0 ** math.ceil(math.log2(1.5 * (begun + 1 + 2_000 * at))) * 67 / 1e6

    found = follow(lambda at: 1.8 * at + dict_doubles(at), noise=0.01)
    assert (found.outcome, found.shape) == (LEAK, "linear"), found.why
    assert found.rate.low < 2_200
    assert found.rate.high > 1_800  # with its tables, and without


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_steps_up_without_growth_between_them_are_not_convicted(steps: int) -> None:
    assert follow(lambda at: math.floor(steps * at + 0.5), noise=0.01).outcome is not LEAK


def test_a_fill_that_ended_within_the_run_is_clean_by_its_end() -> None:
    found = follow(cache_fills_exponentially(0.15), noise=0.02, seed=3)
    assert (found.outcome, found.shape) == (CLEAN, "fading")
    assert found.early is not None
    assert found.late is not None
    assert found.early.value > found.late.value
    assert "last third" in found.why


# Figures.


def test_an_exact_line_has_its_slope_without_doubt() -> None:
    found = judge(range(100), [7.0 * at for at in range(100)], 3.0)
    assert (found.outcome, found.shape, found.settled_s) == (LEAK, "linear", 0)
    assert (found.rate.value, found.rate.low, found.rate.high) == pytest.approx((7, 7, 7))
    assert found.why == "grew in every quarter of 99 s, and in the second half as fast as in the first"


def test_a_level_that_never_moves_is_clean_under_a_limit_of_zero() -> None:
    found = judge(range(100), [12] * 100, 0.0)
    assert (found.outcome, found.gained) == (CLEAN, 0)
    assert (found.rate.value, found.rate.low, found.rate.high) == (0, 0, 0)
    assert found.why == "any growth over 99 s is within the limit (99 %)"


def test_the_warm_up_ends_where_the_line_begins() -> None:
    found = judge([100.0 + at for at in range(200)], [min(at, 60) * 50.0 + at for at in range(200)], 0.5)
    assert 160 <= found.settled_s <= 180
    assert found.rate.value == pytest.approx(1)
    assert found.outcome is LEAK


def test_no_more_than_half_is_warm_up() -> None:
    found = follow(cache_fills_exponentially(0.5), noise=0.002)
    assert found.settled_s == COUNT // 2
    assert found.outcome is INCONCLUSIVE


@pytest.mark.parametrize("least, outcome", [(90, LEAK), (99, INCONCLUSIVE)])
def test_what_is_gained_has_to_be_worth_a_conviction(least: float, outcome: Outcome) -> None:
    found = judge(range(100), [float(at) for at in range(100)], 0.5, least=least)
    assert 90 < found.gained < 100
    assert found.outcome is outcome
    assert outcome is LEAK or "too little" in found.why


@pytest.mark.parametrize("limit, outcome", [(6.9, LEAK), (7.1, CLEAN)])
def test_the_limit_from_both_sides(limit: float, outcome: Outcome) -> None:
    assert judge(range(100), [7.0 * at for at in range(100)], limit).outcome is outcome


@pytest.mark.parametrize("count, shape", [(0, "too short"), (MIN_READINGS - 1, "too short"), (MIN_READINGS, "linear")])
def test_the_fewest_readings_from_both_sides(count: int, shape: str) -> None:
    found = judge(range(count), [7.0 * at for at in range(count)], 3.0)
    assert found.shape == shape
    assert found.outcome is (LEAK if shape == "linear" else INCONCLUSIVE)
    assert shape == "linear" or found.why.startswith(f"{count} readings are too few")
    assert math.isinf(found.rate.high) is (shape == "too short")


def test_counts_that_leak_one_by_one_are_convicted() -> None:
    found = judge(range(600), [12 + at // 30 for at in range(600)], 0.0, least=10)
    assert found.outcome is LEAK
    assert found.rate.low < 1 / 30 < found.rate.high


@pytest.mark.parametrize("seed", range(5))
def test_a_straight_line_is_convicted_though_a_small_warm_up_seems_to_last_for_half_the_run(seed: int) -> None:
    """By a clock that goes with the requests readings lie close together at first, where the machine is busy."""
    steps = np.where(np.arange(67) < 29, 0.45, 1.3) * np.random.default_rng(seed).uniform(0.7, 1.3, 67)
    times = np.cumsum(steps) * 7 / steps.sum()
    noise = np.random.default_rng(seed).normal(0, 500, 67)
    levels = 1_360_000 * times + 300_000 * (1 - np.exp(-times / 0.8)) + noise
    assert judge(times.tolist(), levels.tolist(), 16_667).outcome is LEAK
    filling = 9_000_000 * (1 - np.exp(-times / 7)) + noise
    assert judge(times.tolist(), filling.tolist(), 16_667).shape == "fading"


def test_readings_at_odd_times() -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.exponential(1, 300))
    found = judge(times.tolist(), (50 * times + rng.normal(0, 20, 300)).tolist(), 20)
    assert found.outcome is LEAK
    assert found.rate.low < 50 < found.rate.high


def test_a_day_of_readings_takes_no_time() -> None:
    levels = np.random.default_rng(0).normal(1e8, 1e5, 6_000).tolist()
    judge(range(6_000), levels, 100)
    begun = time.perf_counter()
    judge(range(6_000), levels, 100)
    assert time.perf_counter() - begun < 0.5  # 0.006 s where nothing else runs


@pytest.mark.parametrize(
    "times, levels, limit, message",
    [
        ([0, 1], [1], 0, "2 times for 1 levels"),
        ([0, 1], [1, 2], -1, "the limit is -1, and cannot be below 0"),
        ([0, 0], [1, 2], 0, "the times do not increase"),
        ([0, 1], [1, math.nan], 0, "a level is not a number"),
    ],
)
def test_what_cannot_be_judged(times: list[float], levels: list[float], limit: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(times, levels, limit)


FEWER = settings(LENIENT, max_examples=60)

# Properties. Levels and amounts are whole numbers, so that nothing is lost when they are added.

levels = st.lists(st.integers(0, 10_000), min_size=MIN_READINGS, max_size=90)


@FEWER
@given(levels=levels, amount=st.integers(-(10**9), 10**9), limit=st.integers(0, 100))
def test_adding_a_constant_changes_nothing(levels: list[int], amount: int, limit: int) -> None:
    times = range(len(levels))
    one, other = judge(times, levels, limit), judge(times, [level + amount for level in levels], limit)
    assert (one.outcome, one.shape, one.settled_s) == (other.outcome, other.shape, other.settled_s)
    assert (other.rate.low, other.rate.value) == pytest.approx((one.rate.low, one.rate.value), rel=1e-6, abs=1e-6)


@FEWER
@given(levels=levels, power=st.integers(-8, 8), limit=st.integers(0, 100))
def test_scaling_time_scales_the_rate(levels: list[int], power: int, limit: int) -> None:
    scale = 2.0**power
    one = judge(range(len(levels)), levels, limit)
    other = judge([at * scale for at in range(len(levels))], levels, limit / scale)
    assert (other.outcome, other.shape) == (one.outcome, one.shape)
    assert other.rate.value * scale == pytest.approx(one.rate.value)


@FEWER
@given(noise=st.lists(st.floats(-1, 1), min_size=60, max_size=120), slope=st.floats(1.0, 50.0))
def test_growth_above_the_limit_with_bounded_noise_is_never_clean(noise: list[float], slope: float) -> None:
    # In the settled half of the run the excess gains at least 15 times what the noise can move a reading.
    limit = slope / 2
    assert judge(range(len(noise)), [slope * at + part for at, part in enumerate(noise)], limit).outcome is not CLEAN


@FEWER
@given(noise=st.lists(st.floats(-1, 1), min_size=MIN_READINGS, max_size=90), limit=st.floats(0, 10))
def test_the_interval_holds_its_rate_and_a_pass_its_limit(noise: list[float], limit: float) -> None:
    found = judge(range(len(noise)), noise, limit)
    assert found.rate.low <= found.rate.value <= found.rate.high
    if found.outcome is CLEAN and found.shape != "fading":
        assert found.rate.high <= limit
    if found.outcome is LEAK:
        assert found.rate.low > limit


# Error rates. The benchmark `judges.py` has more scenarios, and more runs of them.


def outcomes(trace: Trace, noise: float, phi: float, runs: int = 30) -> Counter[Outcome]:
    return Counter(follow(trace, noise, phi=phi, seed=seed).outcome for seed in range(runs))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(
    "trace, noise, right, wrong",
    [
        (flat, 0.05, CLEAN, LEAK),
        (leaks_at(0.5), 0.02, CLEAN, LEAK),
        (leaks_at(2), 0.02, LEAK, CLEAN),
        (warms_up_then(flat), 0.02, CLEAN, LEAK),
        (warms_up_then(leaks_at(2)), 0.02, LEAK, CLEAN),
        (cache_fills_exponentially(0.5), 0.02, INCONCLUSIVE, LEAK),
    ],
)
def test_ordinary_runs_end_right(trace: Trace, noise: float, right: Outcome, wrong: Outcome, phi: float) -> None:
    ended = outcomes(trace, noise, phi)
    assert ended[wrong] == 0
    assert ended[right] >= 27


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_interval_covers_what_it_says(phi: float) -> None:
    found = [follow(leaks_at(1), 0.1, phi=phi, seed=seed).rate for seed in range(100)]
    assert sum(rate.low <= LIMIT <= rate.high for rate in found) >= 96  # 98 % at phi = 0.9, by a longer count


@pytest.mark.parametrize("seed", range(30))
def test_a_random_walk_is_not_convicted(seed: int) -> None:
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 1, COUNT)) * 180_000 / math.sqrt(COUNT)
    assert judge(range(COUNT), walk.tolist(), LIMIT).outcome is not LEAK


@pytest.mark.parametrize("seed", range(20))
def test_outliers_change_nothing(seed: int) -> None:
    outliers = 0.02 * 180_000 * np.random.default_rng(seed).standard_t(1.5, COUNT)
    times = np.arange(COUNT)
    assert judge(times.tolist(), outliers.tolist(), LIMIT).outcome is CLEAN
    assert judge(times.tolist(), (2 * LIMIT * times + outliers).tolist(), LIMIT).outcome is LEAK
