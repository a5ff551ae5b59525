"""Which counts are an accumulation, and which are chance."""

from __future__ import annotations

import pytest

from pytest_memleak.inspection import judging
from pytest_memleak.model import Outcome
from pytest_memleak.model_objects import Held, Reading


def readings(*counts: int, name: str = "shop.Item", every: int = 1) -> list[Reading]:
    return [
        Reading(pid=1, t=float(at), counts={name: count}, objects=100_000, every=every)
        for at, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    "counts, leaks",
    [
        ((100, 200, 300, 400), True),
        ((0, 10, 20, 30), True),
        ((0, 6, 12, 18), False),  # a few, which requests in flight explain
        ((100, 200, 199, 300), False),  # it fell once
        ((100, 200, 200, 300), False),
        ((100, 130, 210, 290), True),  # as uneven as a load may be
        ((100, 101, 200, 300), False),  # hardly at all in one interval
        ((100, 1_100, 1_101, 3_000), True),  # and yet far more than chance makes
        ((0, 4_000, 4_500, 4_550), False),  # a cache that fills
        ((100, 200), False),  # one interval
        ((100,), False),
    ],
)
def test_a_type_accumulates_when_it_grows_each_time_by_more_than_chance(counts: tuple[int, ...], leaks: bool) -> None:
    assert [one.leaks for one in judging.judge(readings(*counts))] == [leaks]


@pytest.mark.parametrize("name", ["dict", "tuple", "cell"])
def test_of_plain_types_a_little_growth_is_nothing(name: str) -> None:
    assert not judging.judge(readings(5_000, 5_030, 5_060, 5_090, name=name))[0].leaks
    assert judging.judge(readings(5_000, 5_040, 5_080, 5_120, name=name))[0].leaks
    assert not judging.judge(readings(5_000, 5_010, 5_080, 5_150, name=name))[0].leaks


def test_what_a_sample_was_counted_of_has_its_own_noise() -> None:
    assert not judging.judge(readings(100_000, 101_000, 102_000, 103_000, every=10))[0].leaks
    assert judging.judge(readings(100_000, 110_000, 120_000, 130_000, every=10))[0].leaks


def test_what_faded_says_so() -> None:
    found = judging.judge(readings(0, 4_000, 4_500, 4_550))
    assert found[0].why == "its growth fades"
    outcome, why = judging.outcome_of(found, 4)
    assert outcome is Outcome.INCONCLUSIVE
    assert "by 4,550, and ever slower" in why


@pytest.mark.parametrize(
    "held, collecting, leaks",
    [
        (Held(path=("shop.ITEMS (list)", "shop.Item")), True, True),
        (Held(), True, True),
        (Held(is_garbage=True), True, False),
        (Held(is_garbage=True), None, False),
        (Held(is_garbage=True), False, True),
    ],
)
def test_garbage_that_will_be_collected_is_no_leak(held: Held, collecting: bool | None, leaks: bool) -> None:
    types = judging.judge(readings(100, 200, 300, 400))
    found = judging.explained(types, {"shop.Item": held}, collecting=collecting)
    assert [one.leaks for one in found] == [leaks]
    assert bool(found[0].why) == held.is_garbage
    assert judging.outcome_of(found, 4)[0] is (Outcome.LEAK if leaks else Outcome.CLEAN)


def test_two_readings_are_not_enough() -> None:
    outcome, why = judging.outcome_of(judging.judge(readings(100, 900)), 2)
    assert outcome is Outcome.INCONCLUSIVE
    assert "at least" in why


def test_those_that_leak_come_first_then_the_order_is_by_growth() -> None:
    series = {"shop.A": (10, 40, 70), "shop.B": (10, 500, 490), "shop.C": (0, 100, 200), "shop.D": (5, 5, 5)}
    mixed = [
        Reading(pid=1, t=float(at), counts={name: counts[at] for name, counts in series.items()}, objects=1_000)
        for at in range(3)
    ]
    assert [one.name for one in judging.judge(mixed)] == ["shop.C", "shop.A", "shop.B", "shop.D"]
