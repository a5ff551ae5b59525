"""Whether replicas leak at the same rate: pinned from both sides."""

from __future__ import annotations

import math

import pytest

from pytest_memleak.model_fleet import Spread
from pytest_memleak.model_soak import Estimate

pytest.importorskip("numpy", reason="needs the extra watch")
pytest.importorskip("scipy", reason="needs the extra watch")

from pytest_memleak.fleet.alike import spread_of


def rate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


@pytest.mark.parametrize(
    "rates, spread",
    [
        ([rate(30, 3), rate(31, 3), rate(32, 3), rate(29, 3)], Spread.SAME),
        ([rate(30, 0), rate(30, 0)], Spread.SAME),
        ([rate(30, 0.1), rate(31, 0.1), rate(32, 0.1)], Spread.SAME),
        ([rate(30, 3), rate(60, 3)], Spread.DIFFERENT),
        ([rate(30, 0.1), rate(40, 0.1)], Spread.DIFFERENT),
        ([rate(30, 3), rate(30, 3), rate(30, 3), rate(45, 3)], Spread.DIFFERENT),
        ([rate(30, 25), rate(60, 50)], Spread.UNTOLD),
        ([rate(30, math.inf), rate(30, 1)], Spread.UNTOLD),
    ],
)
def test_rates_are_the_same_differ_beyond_chance_or_are_known_too_badly(rates: list[Estimate], spread: Spread) -> None:
    found, common = spread_of(rates)
    assert found is spread
    if spread is Spread.SAME:
        mean = sum(one.value for one in rates) / len(rates)
        assert common.low <= mean <= common.high
        assert common.value == pytest.approx(mean)
    else:
        assert common == max(rates, key=lambda one: one.value)


def test_a_common_rate_is_known_better_than_one_of_four() -> None:
    _, common = spread_of([rate(30, 3), rate(31, 3), rate(29, 3), rate(30, 3)])
    assert common.value == pytest.approx(30)
    assert common.high - common.low == pytest.approx(3)
