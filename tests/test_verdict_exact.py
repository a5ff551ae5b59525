"""The verdict on scripted traces: what convicts, what clears and what stays open, each side of a boundary."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_support import LENIENT, Level, drawn, equal

from pytest_memleak.model import Budget, Growth, Judgement, Outcome, Resource
from pytest_memleak.verdict import exact
from pytest_memleak.verdict.exact import CONFIRM, LATE, SUSPECT, Demand, Rounds, judge, overall

CLEAN, LEAK, INCONCLUSIVE = Outcome.CLEAN, Outcome.LEAK, Outcome.INCONCLUSIVE

ANY = Budget(bytes_per_request=None, objects_per_request=None)
"""A budget that leaves memory and objects alone, to look at handles."""


def objects(level: Level, calls: Sequence[int], jitter: int = 0, seed: int = 0, *, whole: bool = False) -> Rounds:
    """Readings of objects and of the blocks that they are made of."""
    rng = random.Random(seed)
    levels = [int(level(made)) + rng.randint(-jitter, jitter) for made in calls]
    return Rounds(calls=calls, levels={"blocks": levels, "objects": levels}, whole=whole)


def only(signal: str, levels: Sequence[int], calls: Sequence[int]) -> Rounds:
    """Readings of one signal over the whole window."""
    return Rounds(calls=calls, levels={signal: levels}, whole=True)


def watched(level: Level, calls: Sequence[int], jitter: int = 0, seed: int = 0) -> tuple[Outcome, int]:
    """The first verdict of a hunt that asks after every round, and the calls it took."""
    whole = objects(level, calls, jitter, seed)
    for length in range(1, len(calls) + 1):
        rounds = Rounds(calls=calls[:length], levels={name: column[:length] for name, column in whole.levels.items()})
        outcome = overall(judge(rounds, Budget()))
        if outcome is not INCONCLUSIVE:
            return outcome, calls[length - 1]
    return INCONCLUSIVE, calls[-1]


def verdict_on(resource: Resource, rounds: Rounds, budget: Budget, demand: Demand = SUSPECT) -> Judgement:
    return next(judgement for judgement in judge(rounds, budget, demand) if judgement.resource is resource)


# Traces, as a hunt meets them.


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_leak_is_convicted_once_it_has_lasted(seed: int) -> None:
    outcome, calls = watched(lambda made: made, drawn(100, 40, seed))
    assert outcome is LEAK
    assert SUSPECT.calls < calls < 2 * SUSPECT.calls


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_leak_is_convicted_below_the_jitter_of_the_test_client(seed: int) -> None:
    assert watched(lambda made: made, drawn(40, 100, seed), jitter=14, seed=seed)[0] is LEAK


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_level_is_cleared_within_some_hundred_calls(seed: int) -> None:
    outcome, calls = watched(lambda made: 9_000, drawn(40, 40, seed))
    assert outcome is CLEAN
    assert calls < 500


@pytest.mark.parametrize("seed", range(20))
def test_the_jitter_of_the_test_client_is_cleared_in_the_end(seed: int) -> None:
    assert watched(lambda made: 9_000, drawn(40, 150, seed), jitter=14, seed=seed)[0] is CLEAN


@pytest.mark.parametrize("demand", [SUSPECT, LATE], ids=["suspect", "late"])
def test_one_object_per_1000_calls_is_convicted_when_there_are_calls_enough(demand: Demand) -> None:
    rounds = objects(lambda made: made // 1_000, drawn(1_000, 60))
    assert [judgement.outcome for judgement in judge(rounds, Budget(), demand)] == [LEAK, LEAK]


def test_one_object_per_1000_calls_is_within_what_an_early_pass_says_it_cannot_exclude() -> None:
    rounds = objects(lambda made: made // 1_000, drawn(40, 10))
    assert overall(judge(rounds, Budget())) is CLEAN
    judgement = verdict_on(Resource.OBJECTS, rounds, Budget())
    assert judgement.growth.high > 0.001


@pytest.mark.parametrize("seed", range(10))
def test_one_object_per_1000_calls_is_never_cleared_once_it_shows(seed: int) -> None:
    outcome, calls = watched(lambda made: made // 1_000, drawn(500, 60, seed))
    assert outcome is LEAK
    # Five objects, and a third of the calls is warm-up.
    assert calls > 5_000


@pytest.mark.parametrize("gained, outcome", [(13, CLEAN), (14, INCONCLUSIVE)])
def test_a_rise_that_stands_out_from_the_jitter_is_not_cleared_however_slow_it_is(
    gained: int, outcome: Outcome
) -> None:
    rounds = only("objects", [0, 10, 0, 10, 0, 10, gained], equal(20_000, 6))
    found = rounds.trend("objects")
    assert found is not None
    assert (found.gained <= 2.5 * found.deviation) is (outcome is CLEAN)
    judgement = verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY)
    assert judgement.growth.low < 0 < judgement.growth.high < 0.001
    assert judgement.outcome is outcome


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", [100, 500, 1_000])
def test_a_cache_that_fills_with_new_keys_is_cleared_once_full(size: int, seed: int) -> None:
    assert watched(lambda made: min(made, size), drawn(60, 150, seed))[0] is CLEAN


@pytest.mark.parametrize("seed", range(10))
def test_a_spike_then_plateau_is_cleared(seed: int) -> None:
    assert watched(lambda made: 800 if made else 0, drawn(60, 60, seed))[0] is CLEAN


@pytest.mark.parametrize("seed", range(10))
def test_a_step_in_the_middle_is_cleared(seed: int) -> None:
    assert watched(lambda made: 800 if made > 600 else 0, drawn(60, 150, seed), jitter=5, seed=seed)[0] is CLEAN


@pytest.mark.parametrize("seed", range(10))
def test_a_shrinking_level_is_cleared(seed: int) -> None:
    assert watched(lambda made: 50_000 - made // 2, drawn(60, 60, seed))[0] is CLEAN


@pytest.mark.parametrize("seed", range(10))
def test_a_sawtooth_of_a_batch_evicting_cache_is_cleared_by_drawn_rounds(seed: int) -> None:
    assert watched(lambda made: 500 + made % 250, drawn(256, 120, seed))[0] is CLEAN


def test_a_sawtooth_of_a_batch_evicting_cache_aliases_with_equal_rounds() -> None:
    assert watched(lambda made: 500 + made % 250, equal(256, 60))[0] is LEAK


def test_one_table_doubled_in_the_c_heap_is_no_leak() -> None:
    calls = drawn(100, 60)
    heap = Rounds(calls=calls, levels={"native": [0 if made < 3_000 else 40_000 for made in calls]})
    assert verdict_on(Resource.MEMORY, heap, Budget()).outcome is not LEAK


def test_a_table_that_doubles_in_the_c_heap_again_and_again_is_growth_in_steps() -> None:
    calls = drawn(100, 80)
    heap = Rounds(calls=calls, levels={"native": [72 << max(made, 8).bit_length() for made in calls]})
    assert verdict_on(Resource.MEMORY, heap, Budget()).outcome is INCONCLUSIVE


# What a conviction needs: calls, units, handles.


def steady(calls: int, gained: int) -> Rounds:
    """Seven readings over so many calls that gain so many objects, as evenly as whole numbers allow."""
    made = [calls * number // 6 for number in range(7)]
    return only("objects", [gained * number // 6 for number in range(7)], made)


OBJECTS_ONLY = Budget(bytes_per_request=None)


@pytest.mark.parametrize(
    "demand, calls, outcome",
    [
        (SUSPECT, 1_499, INCONCLUSIVE),
        (SUSPECT, 1_500, LEAK),
        (LATE, 99, INCONCLUSIVE),
        (LATE, 100, LEAK),
        (CONFIRM, 24, LEAK),
    ],
)
def test_a_conviction_needs_calls(demand: Demand, calls: int, outcome: Outcome) -> None:
    rounds = steady(calls, 2 * calls)
    assert verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY, demand).outcome is outcome


@pytest.mark.parametrize("gained, outcome", [(19, INCONCLUSIVE), (20, LEAK)])
def test_a_late_conviction_needs_units(gained: int, outcome: Outcome) -> None:
    assert verdict_on(Resource.OBJECTS, steady(120, gained), OBJECTS_ONLY, LATE).outcome is outcome


@pytest.mark.parametrize("gained, outcome", [(19 * 16, INCONCLUSIVE), (20 * 16, LEAK)])
def test_units_of_the_c_heap_are_16_bytes(gained: int, outcome: Outcome) -> None:
    levels = [gained * number // 6 for number in range(7)]
    heap = only("native", levels, equal(15, 6))
    assert verdict_on(Resource.MEMORY, heap, Budget(), dataclasses.replace(LATE, calls=1)).outcome is outcome


@pytest.mark.parametrize(
    "demand, needed", [(SUSPECT, 100), (LATE, 45), (CONFIRM, 10)], ids=["suspect", "late", "confirm"]
)
@pytest.mark.parametrize("signal, resource", exact.HANDLES.items())
def test_a_conviction_for_handles_needs_more_of_them_than_pools_have(
    signal: str, resource: Resource, demand: Demand, needed: int
) -> None:
    def outcome(gained: int) -> Outcome:
        rounds = only(signal, [gained * number // 6 for number in range(7)], equal(20, 6))
        return verdict_on(resource, rounds, ANY, demand).outcome

    assert outcome(needed) is LEAK
    if demand is not CONFIRM:
        assert outcome(needed - 1) is INCONCLUSIVE


def test_a_pool_that_fills_and_stops_is_cleared() -> None:
    calls = drawn(20, 60)
    rounds = Rounds(calls=calls, levels={"threads": [3 + min(40, made // 4) for made in calls]})
    assert verdict_on(Resource.THREADS, rounds, ANY).outcome is CLEAN


def test_a_pool_that_still_fills_is_left_open() -> None:
    calls = drawn(20, 12)
    rounds = Rounds(calls=calls, levels={"threads": [3 + min(40, made // 8) for made in calls]})
    assert verdict_on(Resource.THREADS, rounds, ANY).outcome is INCONCLUSIVE


@pytest.mark.parametrize(
    "allowed, size, demand, outcome",
    [
        (60, 249, SUSPECT, INCONCLUSIVE),
        (60, 250, SUSPECT, CLEAN),
        (59, 250, SUSPECT, INCONCLUSIVE),
        (60, 16, LATE, INCONCLUSIVE),
        (60, 17, LATE, CLEAN),
        (59, 17, LATE, LEAK),
    ],
)
def test_handles_that_grow_within_their_number_are_cleared_once_they_could_have_left_it(
    allowed: int, size: int, demand: Demand, outcome: Outcome
) -> None:
    rounds = only("fds", [10 * number for number in range(7)], equal(size, 6))
    judgement = verdict_on(Resource.FDS, rounds, dataclasses.replace(ANY, fds=allowed), demand)
    assert (judgement.outcome, judgement.limit) == (outcome, allowed)


@pytest.mark.parametrize("levels", [[0, 5, 5, 5, 5, 5, 5], [0, 5, 4, 6, 5, 4, 5]], ids=["opened at once", "jitter"])
@pytest.mark.parametrize("allowed, outcome", [(4, INCONCLUSIVE), (5, CLEAN)])
def test_handles_within_their_number_that_do_not_grow_are_cleared_at_once(
    levels: list[int], allowed: int, outcome: Outcome
) -> None:
    judgement = verdict_on(
        Resource.THREADS, only("threads", levels, equal(20, 6)), dataclasses.replace(ANY, threads=allowed)
    )
    assert judgement.outcome is outcome
    if outcome is CLEAN:
        assert judgement.why == "+5 in all"


def test_each_kind_of_handle_has_its_own_limit() -> None:
    levels = {signal: [10 * number for number in range(7)] for signal in exact.HANDLES}
    rounds = Rounds(calls=equal(20, 6), levels=levels, whole=True)
    budget = dataclasses.replace(ANY, fds=1_001, threads=1_002, tasks=1_003, children=1_004)
    assert {judgement.resource: judgement.limit for judgement in judge(rounds, budget)} == {
        Resource.MEMORY: None,
        Resource.FDS: 1_001,
        Resource.THREADS: 1_002,
        Resource.TASKS: 1_003,
        Resource.CHILDREN: 1_004,
    }


# What a pass needs: calls enough to exclude.


@pytest.mark.parametrize(
    "demand, calls, outcome",
    [(SUSPECT, 230, INCONCLUSIVE), (SUSPECT, 231, CLEAN), (LATE, 23, INCONCLUSIVE), (LATE, 24, CLEAN)],
)
def test_a_pass_excludes_one_object_in_50_calls_or_one_in_5_when_the_time_is_up(
    demand: Demand, calls: int, outcome: Outcome
) -> None:
    assert verdict_on(Resource.OBJECTS, steady(calls, 0), OBJECTS_ONLY, demand).outcome is outcome


FILL = [0, 60, 90, 105, 112, 116, 118, 119, 120, 120, 120, 120, 120]


def test_blocks_may_rise_while_they_fade_and_objects_may_not() -> None:
    blocks = verdict_on(Resource.MEMORY, only("blocks", FILL, equal(2_000, 12)), Budget())
    assert blocks.outcome is CLEAN
    rounds = only("objects", FILL, equal(2_000, 12))
    judgement = verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY)
    # Slower than what a pass has to exclude, and still not flat.
    assert 0 < judgement.growth.low < judgement.growth.high < 0.02
    assert judgement.outcome is INCONCLUSIVE
    assert judgement.why.endswith("but ever slower over 24,000 calls: a cache that fills?")


def test_objects_that_faded_are_cleared_once_the_fill_has_left_the_window() -> None:
    calls = equal(2_000, 30)
    rounds = Rounds(calls=calls, levels={"objects": FILL + [120] * (len(calls) - len(FILL))})
    assert verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY).outcome is CLEAN


@pytest.mark.parametrize("times, outcome", [(7, CLEAN), (8, INCONCLUSIVE)])
def test_blocks_that_fade_have_no_patience_beyond_a_tenth_of_a_block_per_call(times: int, outcome: Outcome) -> None:
    judgement = verdict_on(
        Resource.MEMORY, only("blocks", [times * level for level in FILL], equal(1_000, 12)), Budget()
    )
    assert (judgement.growth.high / 512 <= 0.1) is (outcome is CLEAN)
    assert judgement.outcome is outcome


@pytest.mark.parametrize("calls, outcome", [(1_494, INCONCLUSIVE), (1_500, CLEAN)])
def test_jitter_is_cleared_with_five_times_the_target_after_the_calls_of_a_conviction(
    calls: int, outcome: Outcome
) -> None:
    rounds = only("objects", [0, 30, 0, 30, 0, 30, 0], equal(calls // 6, 6))
    judgement = verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY)
    assert 0.02 < judgement.growth.high < 0.1
    assert judgement.outcome is outcome


@pytest.mark.parametrize("jitter, outcome", [(50, CLEAN), (60, INCONCLUSIVE)])
def test_patience_ends_at_five_times_the_target(jitter: int, outcome: Outcome) -> None:
    rounds = only("objects", [0, jitter, 0, jitter, 0, jitter, 0], equal(250, 6))
    judgement = verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY)
    assert (judgement.growth.high <= 0.1) is (outcome is CLEAN)
    assert judgement.outcome is outcome


# Budgets.


@pytest.mark.parametrize("limit, outcome", [(0.99, LEAK), (1.0, INCONCLUSIVE), (1.01, CLEAN)])
def test_steady_growth_beside_its_budget_of_objects(limit: float, outcome: Outcome) -> None:
    budget = Budget(bytes_per_request=None, objects_per_request=limit)
    judgement = verdict_on(Resource.OBJECTS, steady(1_500, 1_500), budget)
    assert (judgement.outcome, judgement.limit) == (outcome, limit)


@pytest.mark.parametrize("limit, outcome", [(513, LEAK), (514, CLEAN)])
def test_blocks_are_within_a_budget_of_bytes_if_the_largest_would_be(limit: float, outcome: Outcome) -> None:
    blocks = only("blocks", equal(250, 6), equal(250, 6))
    judgement = verdict_on(Resource.MEMORY, blocks, Budget(bytes_per_request=limit))
    assert (judgement.outcome, judgement.limit) == (outcome, limit)


@pytest.mark.parametrize("limit, outcome", [(100, LEAK), (101, CLEAN)])
def test_the_c_heap_beside_its_budget(limit: float, outcome: Outcome) -> None:
    heap = only("native", equal(25_000, 6), equal(250, 6))
    assert verdict_on(Resource.MEMORY, heap, Budget(bytes_per_request=limit)).outcome is outcome


@pytest.mark.parametrize("limit, outcome", [(9.3, INCONCLUSIVE), (9.4, CLEAN)])
def test_a_budget_of_bytes_is_proven_by_the_bound_and_not_by_a_flat_series(limit: float, outcome: Outcome) -> None:
    rounds = only("blocks", [0] * 7, equal(42, 6))
    assert verdict_on(Resource.MEMORY, rounds, Budget()).outcome is CLEAN
    judgement = verdict_on(Resource.MEMORY, rounds, Budget(bytes_per_request=limit))
    assert judgement.outcome is outcome
    assert judgement.why == (
        "grew at most 9.36 B per call, within its budget of 9.4 B"
        if outcome is CLEAN
        else "up to 9.36 B per call are possible, its budget is 9.3 B"
    )


@pytest.mark.parametrize(
    "growth, outcome",
    [
        (Growth(per_call=90, low=80, high=100), CLEAN),
        (Growth(per_call=90, low=80, high=100.5), INCONCLUSIVE),
        (Growth(per_call=110, low=100, high=120), INCONCLUSIVE),
        (Growth(per_call=110, low=100.5, high=120), LEAK),
    ],
)
def test_weighed_bytes_decide_beside_the_budget(growth: Growth, outcome: Outcome) -> None:
    suspected = verdict_on(Resource.MEMORY, steady_blocks(), Budget(bytes_per_request=100))
    assert suspected.outcome is LEAK
    judgement = exact.weighed(suspected, growth, Budget(bytes_per_request=100))
    assert (judgement.outcome, judgement.growth, judgement.resource) == (outcome, growth, Resource.MEMORY)


def steady_blocks() -> Rounds:
    return only("blocks", equal(250, 6), equal(250, 6))


def test_weighed_bytes_are_explained() -> None:
    suspected = verdict_on(Resource.MEMORY, steady_blocks(), Budget(bytes_per_request=100))
    within = exact.weighed(suspected, Growth(per_call=90, low=80, high=100), Budget(bytes_per_request=100))
    assert within.why == "grew 90 B per call, within its budget of 100 B"
    doubtful = exact.weighed(suspected, Growth(per_call=110, low=90, high=120), Budget(bytes_per_request=100))
    assert doubtful.why == "grew between 90 B and 120 B per call: too close to its budget of 100 B to tell"


def test_memory_without_a_limit_is_never_blamed() -> None:
    judgement = verdict_on(Resource.MEMORY, steady_blocks(), Budget(bytes_per_request=None))
    assert (judgement.outcome, judgement.limit, judgement.why) == (CLEAN, None, "not limited")


def test_objects_without_a_limit_are_measured_and_not_judged() -> None:
    rounds = objects(lambda made: made, equal(250, 9))
    judgements = {judgement.resource: judgement for judgement in judge(rounds, Budget(objects_per_request=None))}
    found = judgements[Resource.OBJECTS]
    assert (found.outcome, found.limit, found.why) == (CLEAN, None, "not limited")
    assert found.growth.per_call == pytest.approx(1)


# Memory has two witnesses.


@pytest.mark.parametrize(
    "blocks, native, signals",
    [(1, 0, ("blocks",)), (0, 1_000, ("native",)), (1, 1_000, ("blocks", "native"))],
)
def test_memory_is_convicted_by_python_blocks_or_by_the_c_heap(
    blocks: int, native: int, signals: tuple[str, ...]
) -> None:
    calls = equal(250, 6)
    levels = {"blocks": [blocks * made for made in calls], "native": [native * made for made in calls]}
    judgement = verdict_on(Resource.MEMORY, Rounds(calls=calls, levels=levels, whole=True), Budget())
    assert (judgement.outcome, judgement.signals) == (LEAK, signals)


def test_the_c_heap_alone_is_judged_where_blocks_cannot_be_read() -> None:
    assert verdict_on(Resource.MEMORY, only("native", [0] * 7, equal(250, 6)), Budget()).outcome is CLEAN


def test_growth_of_memory_is_at_most_the_largest_block_for_each_block_and_the_c_heap() -> None:
    calls = equal(250, 6)
    levels = {"blocks": calls, "native": [1_000 * made for made in calls]}
    growth = verdict_on(Resource.MEMORY, Rounds(calls=calls, levels=levels, whole=True), Budget()).growth
    assert 1_000 < growth.per_call < growth.high
    assert growth.high == pytest.approx(1_512, rel=0.01)


def test_a_jitter_of_memory_is_shown_as_no_growth() -> None:
    growth = verdict_on(Resource.MEMORY, objects(lambda made: 0, drawn(40, 40), jitter=14), Budget()).growth
    assert growth.per_call == 0
    assert growth.high > 0


# What cannot be judged.


def test_without_any_probe_of_memory_nothing_is_cleared() -> None:
    (judgement,) = judge(Rounds(calls=equal(100, 9), levels={}), Budget())
    assert (judgement.outcome, judgement.why) == (INCONCLUSIVE, "no probe of memory works here")


def test_before_seven_rounds_nothing_is_cleared() -> None:
    levels = dict.fromkeys(("blocks", "native", "objects"), [0] * 6)
    judgements = judge(Rounds(calls=equal(10_000, 5), levels=levels), Budget())
    assert [(judgement.outcome, judgement.why) for judgement in judgements] == [(INCONCLUSIVE, "too few rounds")] * 2


def test_only_what_can_be_read_is_judged() -> None:
    rounds = Rounds(calls=equal(100, 9), levels={"blocks": [0] * 10, "tasks": [1] * 10, "rss": [0] * 10})
    assert [judgement.resource for judgement in judge(rounds, Budget())] == [Resource.MEMORY, Resource.TASKS]


# Sentences.


@pytest.mark.parametrize(
    "levels, why",
    [
        ([0] * 13, "flat over 1,200 calls"),
        (equal(200, 12), "grows by 2 objects per call, but only over 1,200 calls: a cache that fills?"),
        ([0] * 4 + [300] * 4 + [600] * 4 + [900], "grows in steps over 1,200 calls, not with every round"),
    ],
    ids=["flat", "short", "steps"],
)
def test_a_judgement_says_why(levels: list[int], why: str) -> None:
    assert verdict_on(Resource.OBJECTS, only("objects", levels, equal(100, 12)), OBJECTS_ONLY).why == why


def test_scattered_readings_are_told_with_their_interval() -> None:
    rounds = only("objects", [0, 90, -80, 70, -90, 80, 0], equal(100, 6))
    why = verdict_on(Resource.OBJECTS, rounds, OBJECTS_ONLY).why
    assert why.startswith("the readings scatter: between -")
    assert why.endswith(" objects per call over 600 calls")


def test_a_conviction_says_how_long_growth_lasted() -> None:
    assert verdict_on(Resource.OBJECTS, steady(1_500, 3_000), OBJECTS_ONLY).why == "grew steadily over 1,500 calls"


def test_a_pass_states_the_smallest_leak_that_it_excludes() -> None:
    levels = dict.fromkeys(("blocks", "native", "objects"), [0] * 7)
    rounds = Rounds(calls=equal(500, 6), levels=levels, whole=True)
    assert exact.sensitivity(rounds) == "no leak above 0.0016 objects or 0.82 B per call (99 %)"


def test_a_pass_states_only_what_was_read() -> None:
    assert exact.sensitivity(only("objects", [0] * 7, equal(100, 6))) == "no leak above 0.0077 objects per call (99 %)"
    assert exact.sensitivity(only("native", [0] * 7, equal(100, 6))) == "no leak above 0.13 B per call (99 %)"
    assert exact.sensitivity(only("objects", [0] * 6, equal(100, 5))) == ""


def outcomes(*found: Outcome) -> list[Judgement]:
    growth = Growth(per_call=0, low=0, high=0)
    return [Judgement(resource=Resource.MEMORY, outcome=outcome, growth=growth, limit=0, why="") for outcome in found]


@pytest.mark.parametrize(
    "found, whole",
    [
        ((), CLEAN),
        ((CLEAN, CLEAN), CLEAN),
        ((CLEAN, INCONCLUSIVE), INCONCLUSIVE),
        ((INCONCLUSIVE, LEAK, CLEAN), LEAK),
    ],
    ids=["nothing", "clean", "a doubt", "a leak"],
)
def test_one_leak_convicts_and_one_doubt_leaves_it_open(found: tuple[Outcome, ...], whole: Outcome) -> None:
    assert overall(outcomes(*found)) is whole


# Readings.


def test_what_was_gained_counts_from_the_baseline_and_the_trend_after_warm_up() -> None:
    rounds = Rounds(calls=equal(100, 20), levels={"fds": [0] + [30] * 20})
    found = rounds.trend("fds")
    assert found is not None
    assert (rounds.gained("fds"), found.gained, found.calls) == (30, 0, 1_300)
    assert dataclasses.replace(rounds, whole=True).trend("fds") != found


def test_a_signal_that_is_missing_has_no_trend() -> None:
    assert only("objects", [0] * 7, equal(100, 6)).trend("native") is None


# Properties.


@LENIENT
@given(
    seed=st.integers(0, 10**6),
    jitter=st.integers(0, 14),
    rate=st.floats(0.3, 50),
    budget=st.floats(0, 0.8),
    demand=st.sampled_from([SUSPECT, LATE]),
)
def test_a_slope_above_its_budget_plus_bounded_noise_is_never_clean(
    seed: int, jitter: int, rate: float, budget: float, demand: Demand
) -> None:
    limit = rate * budget if budget > 0.01 else 0.0
    rounds = objects(lambda made: rate * made, drawn(120, 40, seed), jitter, seed)
    allowed = Budget(bytes_per_request=None if limit else 0.0, objects_per_request=limit)
    assert verdict_on(Resource.OBJECTS, rounds, allowed, demand).outcome is not CLEAN
    assert overall(judge(rounds, allowed, demand)) is not CLEAN


@LENIENT
@given(seed=st.integers(0, 10**6), jitter=st.integers(0, 3), rate=st.floats(1, 50))
def test_growth_well_above_its_noise_is_convicted(seed: int, jitter: int, rate: float) -> None:
    rounds = objects(lambda made: rate * made, drawn(120, 40, seed), jitter, seed)
    assert [judgement.outcome for judgement in judge(rounds, Budget())] == [LEAK, LEAK]


@LENIENT
@given(
    seed=st.integers(0, 10**6),
    jitter=st.integers(0, 100),
    nominal=st.integers(4, 500),
    rounds=st.integers(7, 80),
    demand=st.sampled_from([SUSPECT, LATE]),
)
def test_a_flat_series_with_bounded_noise_is_never_a_leak(
    seed: int, jitter: int, nominal: int, rounds: int, demand: Demand
) -> None:
    series = objects(lambda made: 10_000, drawn(nominal, rounds, seed), jitter, seed)
    assert overall(judge(series, Budget(), demand)) is not LEAK


@LENIENT
@given(seed=st.integers(0, 10**6), jitter=st.integers(0, 20), rate=st.floats(-1, 3), base=st.integers(0, 10**9))
def test_adding_a_constant_to_all_levels_changes_no_verdict(seed: int, jitter: int, rate: float, base: int) -> None:
    calls = drawn(60, 40, seed)
    plain = objects(lambda made: rate * made, calls, jitter, seed)
    lifted = Rounds(
        calls=calls,
        levels={name: [base + level for level in column] for name, column in plain.levels.items()},
    )
    assert [(found.resource, found.outcome) for found in judge(lifted, Budget())] == [
        (found.resource, found.outcome) for found in judge(plain, Budget())
    ]


@LENIENT
@given(seed=st.integers(0, 10**6), jitter=st.integers(0, 20), rate=st.floats(-1, 3))
def test_the_same_readings_get_the_same_verdict_and_are_left_alone(seed: int, jitter: int, rate: float) -> None:
    rounds = objects(lambda made: rate * made, drawn(60, 40, seed), jitter, seed)
    before = {name: list(column) for name, column in rounds.levels.items()}
    assert judge(rounds, Budget()) == judge(rounds, Budget())
    assert {name: list(column) for name, column in rounds.levels.items()} == before


@LENIENT
@given(seed=st.integers(0, 10**6), jitter=st.integers(0, 5), rate=st.floats(0.5, 3), limit=st.floats(0.01, 10))
def test_a_larger_budget_is_never_stricter(seed: int, jitter: int, rate: float, limit: float) -> None:
    rounds = objects(lambda made: rate * made, drawn(60, 60, seed), jitter, seed)

    def strictness(allowed: float) -> int:
        budget = Budget(bytes_per_request=None, objects_per_request=allowed)
        return [CLEAN, INCONCLUSIVE, LEAK].index(verdict_on(Resource.OBJECTS, rounds, budget).outcome)

    assert strictness(limit * 1.5) <= strictness(limit) <= strictness(0.0)
