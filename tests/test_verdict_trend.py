"""The trend of scripted traces: slope, interval, and whether growth lasts."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_support import LENIENT, Level, drawn, equal

from pytest_memleak.verdict.trend import MIN_ROUNDS, UNSEEN_UNITS, Trend, trend, window


def follow(level: Level, calls: Sequence[int], unit: float = 1, jitter: int = 0, seed: int = 0) -> Trend:
    """The trend of a level that is a function of the calls made, with jitter that never accumulates."""
    rng = random.Random(seed)
    found = trend(calls, [int(level(made)) + rng.randint(-jitter, jitter) for made in calls], unit)
    assert found is not None
    return found


def fill(size: int, start: int = 0) -> Level:
    """A cache of `size` entries that is asked for random keys, `start` calls after it was empty."""
    return lambda made: size * (1 - math.exp(-(start + made) / size))


# Shapes.


def test_a_steady_leak_is_sustained_and_does_not_fade() -> None:
    found = follow(lambda made: 3 * made, equal(100, 10))
    assert found.growth.per_call == pytest.approx(3)
    assert (found.gained, found.calls, found.sustained, found.fading) == (3_000, 1_000, True, False)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_leak_is_sustained_below_the_jitter_of_the_test_client(seed: int) -> None:
    found = follow(lambda made: made, drawn(40, 40, seed), jitter=14, seed=seed)
    assert (found.sustained, found.fading) == (True, False)
    assert found.growth.low < 1 < found.growth.high
    assert found.growth.low > 0.9


def test_one_object_per_1000_calls_is_sustained_growth_once_a_few_are_kept() -> None:
    found = follow(lambda made: made // 1_000, drawn(500, 60))
    assert (found.sustained, found.fading) == (True, False)
    assert 0 < found.growth.low < 0.001 < found.growth.high


def test_a_flat_level_is_neither_sustained_nor_fading() -> None:
    found = follow(lambda made: 5_000, equal(100, 10))
    assert (found.growth.per_call, found.gained, found.sustained, found.fading) == (0, 0, False, False)


def test_a_shrinking_level_is_not_sustained() -> None:
    found = follow(lambda made: 5_000 - made, equal(100, 10))
    assert found.growth.high < 0
    assert (found.gained, found.sustained, found.fading) == (-1_000, False, False)


def test_a_spike_then_plateau_is_not_sustained() -> None:
    assert not follow(lambda made: 800 if made else 0, equal(100, 10)).sustained


@pytest.mark.parametrize("at", range(100, 1_001, 100))
def test_a_step_is_not_sustained_wherever_it_comes(at: int) -> None:
    assert not follow(lambda made: 800 if made >= at else 0, equal(100, 10)).sustained


def test_a_cache_that_fills_over_500_calls_is_not_sustained_beyond_them() -> None:
    assert follow(lambda made: min(made, 500), equal(50, 10)).sustained
    assert not follow(lambda made: min(made, 500), equal(50, 14)).sustained


@pytest.mark.parametrize("begin", [0, 300, 600, 900])
def test_growth_that_pauses_for_a_quarter_is_not_sustained(begin: int) -> None:
    assert not follow(lambda made: made if made < begin else max(begin, made - 300), equal(100, 12)).sustained


@pytest.mark.parametrize("seed", range(10))
def test_a_batch_evicting_cache_met_with_drawn_rounds_is_not_sustained_growth(seed: int) -> None:
    found = follow(lambda made: 500 + made % 250, drawn(256, 40, seed))
    assert not (found.sustained and found.growth.low > 0)


def test_a_batch_evicting_cache_met_with_equal_rounds_looks_like_a_leak() -> None:
    # Six more entries after each round of 256: why the hunt draws its rounds.
    found = follow(lambda made: 500 + made % 250, equal(256, 30))
    assert (found.sustained, found.fading) == (True, False)
    assert found.growth.low > 0


@pytest.mark.parametrize("size", [20_000, 100_000])
def test_growth_with_random_keys_fades(size: int) -> None:
    assert follow(fill(size), equal(size // 10, 10)).fading
    assert follow(fill(size), equal(size // 5, 15)).fading


def test_a_small_part_of_a_large_fill_cannot_be_told_from_a_leak() -> None:
    found = follow(fill(100_000), equal(100, 10))
    assert (found.sustained, found.fading) == (True, False)


@pytest.mark.parametrize("late_rate, fades", [(50, True), (70, True), (95, False), (100, False), (200, False)])
def test_growth_fades_when_its_second_half_is_clearly_slower(late_rate: int, fades: bool) -> None:
    def level(made: int) -> float:
        return 100 * min(made, 10_000) + late_rate * max(0, made - 10_000)

    assert follow(level, equal(1_000, 20)).fading is fades


def test_the_table_of_a_growing_dict_grows_in_steps() -> None:
    found = follow(lambda made: 72 * 2 ** max(3, math.ceil(math.log2(max(made, 1) * 1.5))), equal(100, 20), unit=16)
    assert not found.sustained


# The interval.


@pytest.mark.parametrize("unit", [1, 16])
def test_calls_without_growth_exclude_four_and_a_half_units(unit: int) -> None:
    growth = follow(lambda made: 0, equal(100, 10), unit=unit).growth
    assert growth.high == pytest.approx(UNSEEN_UNITS * unit / 1_000)
    assert growth.low == -growth.high
    assert pytest.approx(4.605, abs=0.001) == UNSEEN_UNITS


def test_twice_the_calls_exclude_half_as_much() -> None:
    once, twice = (follow(lambda made: 0, equal(size, 10)).growth for size in (100, 200))
    assert once.high == pytest.approx(2 * twice.high)


def test_jitter_widens_the_interval() -> None:
    quiet = follow(lambda made: made, equal(100, 20)).growth
    noisy = follow(lambda made: made, equal(100, 20), jitter=14).growth
    assert noisy.high - noisy.low > quiet.high - quiet.low


def test_more_rounds_of_jitter_narrow_the_interval() -> None:
    few = follow(lambda made: made, equal(100, 10), jitter=14).growth
    many = follow(lambda made: made, equal(100, 40), jitter=14).growth
    assert many.high - many.low < (few.high - few.low) / 4


@pytest.mark.parametrize("rounds", [7, 12, 40])
def test_the_interval_holds_the_true_growth_at_least_99_times_in_100(rounds: int) -> None:
    held = 0
    for seed in range(500):
        growth = follow(lambda made: made // 2, drawn(50, rounds, seed), jitter=14, seed=seed).growth
        held += growth.low <= 0.5 <= growth.high
    assert held >= 495


# Too little to judge.


@pytest.mark.parametrize("count", range(MIN_ROUNDS))
def test_fewer_than_seven_readings_have_no_trend(count: int) -> None:
    calls = list(range(count))
    assert trend(calls, calls, 1) is None


def test_seven_readings_have_a_trend() -> None:
    calls = list(range(MIN_ROUNDS))
    assert trend(calls, calls, 1) is not None


def test_readings_without_calls_between_them_have_no_trend() -> None:
    assert trend([5] * 10, list(range(10)), 1) is None


@pytest.mark.parametrize(
    "length, first", [(0, 0), (1, 0), (7, 0), (8, 1), (9, 2), (10, 3), (11, 3), (12, 4), (30, 10), (300, 100)]
)
def test_the_first_third_is_warm_up_as_far_as_seven_rows_are_left(length: int, first: int) -> None:
    assert window(length) == first


# Properties.

traces = st.lists(st.tuples(st.integers(1, 500), st.integers(-50, 500)), min_size=MIN_ROUNDS, max_size=40).map(
    lambda rounds: (
        list(itertools.accumulate(size for size, _ in rounds)),
        list(itertools.accumulate(gained for _, gained in rounds)),
    )
)


@LENIENT
@given(traces, st.integers(-(10**9), 10**9))
def test_adding_a_constant_to_all_levels_changes_nothing(trace: tuple[list[int], list[int]], constant: int) -> None:
    calls, levels = trace
    plain, lifted = trend(calls, levels, 1), trend(calls, [level + constant for level in levels], 1)
    assert plain is not None
    assert lifted is not None
    assert lifted.growth.per_call == pytest.approx(plain.growth.per_call, rel=1e-6, abs=1e-6)
    assert lifted.growth.high == pytest.approx(plain.growth.high, rel=1e-6, abs=1e-6)
    assert lifted.growth.low == pytest.approx(plain.growth.low, rel=1e-6, abs=1e-6)
    assert (lifted.gained, lifted.calls) == (plain.gained, plain.calls)
    assert (lifted.sustained, lifted.fading) == (plain.sustained, plain.fading)


@LENIENT
@given(traces, st.integers(1, 10_000))
def test_starting_at_a_later_call_changes_nothing(trace: tuple[list[int], list[int]], made_before: int) -> None:
    calls, levels = trace
    plain, later = trend(calls, levels, 1), trend([made + made_before for made in calls], levels, 1)
    assert plain is not None
    assert later is not None
    assert later.growth.per_call == pytest.approx(plain.growth.per_call, rel=1e-6, abs=1e-6)
    assert (later.sustained, later.fading) == (plain.sustained, plain.fading)


@LENIENT
@given(traces, st.sampled_from([2, 8, 64]))
def test_more_calls_for_the_same_levels_scale_the_growth_and_keep_its_shape(
    trace: tuple[list[int], list[int]], factor: int
) -> None:
    calls, levels = trace
    plain, stretched = trend(calls, levels, 1), trend([made * factor for made in calls], levels, 1)
    assert plain is not None
    assert stretched is not None
    assert stretched.growth.per_call == pytest.approx(plain.growth.per_call / factor)
    assert stretched.growth.low == pytest.approx(plain.growth.low / factor)
    assert stretched.growth.high == pytest.approx(plain.growth.high / factor)
    assert stretched.calls == plain.calls * factor
    assert (stretched.gained, stretched.sustained, stretched.fading) == (
        plain.gained,
        plain.sustained,
        plain.fading,
    )


@LENIENT
@given(traces, st.sampled_from([2, 16]))
def test_levels_in_a_larger_unit_scale_the_growth_and_keep_its_shape(
    trace: tuple[list[int], list[int]], unit: int
) -> None:
    calls, levels = trace
    plain, larger = trend(calls, levels, 1), trend(calls, [level * unit for level in levels], unit)
    assert plain is not None
    assert larger is not None
    assert larger.growth.per_call == pytest.approx(plain.growth.per_call * unit)
    assert larger.growth.high == pytest.approx(plain.growth.high * unit)
    assert (larger.sustained, larger.fading) == (plain.sustained, plain.fading)


@LENIENT
@given(traces)
def test_the_slope_lies_within_its_interval(trace: tuple[list[int], list[int]]) -> None:
    found = trend(*trace, 1)
    assert found is not None
    growth = found.growth
    assert growth.low < growth.per_call < growth.high
    assert growth.high - growth.per_call == pytest.approx(growth.per_call - growth.low, rel=1e-6)


@LENIENT
@given(st.integers(1, 1_000), st.lists(st.integers(1, 500), min_size=MIN_ROUNDS, max_size=40))
def test_a_line_is_always_sustained_and_never_fading(rate: int, sizes: list[int]) -> None:
    calls = list(itertools.accumulate(sizes))
    found = trend(calls, [rate * made for made in calls], 1)
    assert found is not None
    assert (found.sustained, found.fading) == (True, False)
    assert found.growth.per_call == pytest.approx(rate)
