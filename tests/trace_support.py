"""What the tests of the verdict share: the calls and levels of scripted traces, and how properties are tried."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from hypothesis import settings

LENIENT = settings(derandomize=True, deadline=None, max_examples=200)
"""The same examples in every run, however slow the machine is."""

Level = Callable[[int], float]
"""What a probe reads after so many calls."""


def equal(size: int, rounds: int) -> list[int]:
    """Cumulative calls after rounds of one size, the baseline first."""
    return [size * number for number in range(rounds + 1)]


def drawn(nominal: int, rounds: int, seed: int = 0) -> list[int]:
    """Cumulative calls after rounds drawn as the hunt draws them."""
    rng = random.Random(seed)
    return list(itertools.accumulate((round(nominal * rng.uniform(0.4, 1.6)) for _ in range(rounds)), initial=0))
