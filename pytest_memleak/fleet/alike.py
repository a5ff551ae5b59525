"""Whether replicas leak at the same rate: a test of homogeneity over estimates with intervals. Pure.

Cochran's Q asks whether rates differ by more than their errors explain; with rates known to a hundredth it finds
differences that mean nothing, so that the spread between replicas (DerSimonian and Laird 1986) may also be small in
itself. Rates that are known too badly to differ are not called the same.

It needs scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pytest_memleak.model_fleet import Spread
from pytest_memleak.model_soak import Estimate
from pytest_memleak.verdict.settled import Z_99, standard_error

# Below it the rates differ beyond chance: one fleet of a hundred that does leak evenly is said not to.
_CHANCE: Final = 0.01

# A balancer shares requests among replicas to within some percent; a tenth says nothing of the code.
_SMALL_SPREAD: Final = 0.1

# A standard error of a quarter is an interval of 65 % to each side: what cannot be told from half the rate.
_LARGEST_ERROR: Final = 0.25

# An interval of nothing, as an exact line has, would weigh infinitely much.
_LEAST_ERROR: Final = 0.001


def spread_of(rates: Sequence[Estimate]) -> tuple[Spread, Estimate]:
    """How two or more rates above 0 compare, and the rate that stands for them: the common one, else the largest."""
    from scipy.stats import chi2

    largest = max(rates, key=lambda rate: rate.value)
    errors = [max(standard_error(rate), _LEAST_ERROR * abs(rate.value)) for rate in rates]
    if not all(math.isfinite(error) for error in errors):
        return Spread.UNTOLD, largest
    weights = [1 / error**2 for error in errors]
    mean = sum(weight * rate.value for weight, rate in zip(weights, rates, strict=True)) / sum(weights)
    q = sum(weight * (rate.value - mean) ** 2 for weight, rate in zip(weights, rates, strict=True))
    free = len(rates) - 1
    between = max(0.0, q - free) / (sum(weights) - sum(weight**2 for weight in weights) / sum(weights))
    differ = float(chi2.sf(q, free)) < _CHANCE and math.sqrt(between) > _SMALL_SPREAD * mean
    if differ:
        return Spread.DIFFERENT, largest
    if max(errors) > _LARGEST_ERROR * mean:
        return Spread.UNTOLD, largest
    weights = [1 / (error**2 + between) for error in errors]
    common = sum(weight * rate.value for weight, rate in zip(weights, rates, strict=True)) / sum(weights)
    half = Z_99 / math.sqrt(sum(weights))
    return Spread.SAME, Estimate(value=common, low=common - half, high=common + half)
