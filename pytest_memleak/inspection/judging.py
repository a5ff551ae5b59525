"""Which types accumulate: counts at a few moments, and what is chance among them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_objects import Held, Reading, TypeGrowth
from pytest_memleak.units import counted

LEAST_READINGS: Final = 3
"""The baseline and two more: one interval shows growth, and not that it goes on."""

# Requests in flight, and what each of them keeps for a moment, come and go by some tens at a time.
_LEAST: Final = 20

# Containers and parts of functions are what every kind of work makes: of these a hundred more are nothing yet.
_LEAST_PLAIN: Final = 100

# Under a steady load a leak gains about the same in each interval. Of a hundred noisy types that only fluctuate, four
# rise three times in a row (1 in 4! orders of four counts), and few of those evenly.
_EVEN: Final = 0.2
_EVEN_PLAIN: Final = 0.4

# A cache that fills, and a program that starts, gain less in each interval; so does no leak under a load.
_FADED: Final = 0.2
_FADES: Final = "its growth fades"

# Growth of this share, and size, is told even where it is as uneven as the traffic.
_LARGE_SHARE: Final = 0.1
_LARGE: Final = 1_000

# What is counted in a sample of each n-th object is off by its own root, times n; four such deviations are no chance.
_DEVIATIONS: Final = 4.0

_PLAIN: Final = frozenset(
    {
        "async_generator", "builtin_function_or_method", "cell", "code", "coroutine", "dict", "frame", "frozenset",
        "function", "generator", "list", "list_iterator", "method", "method-wrapper", "set", "traceback", "tuple",
        "weakref", "weakref.ReferenceType",
    }
)  # fmt: skip


def judge(readings: Sequence[Reading]) -> list[TypeGrowth]:
    """Every type that was seen, those that leak first, then by growth. Readings are of one process, in their order."""
    names = sorted({name for reading in readings for name in reading.counts})
    every = max((reading.every for reading in readings), default=1)
    found = [_judged(name, tuple(reading.counts.get(name, 0) for reading in readings), every) for name in names]
    return sorted(found, key=lambda one: (not one.leaks, -one.delta, one.name))


def _judged(name: str, counts: tuple[int, ...], every: int) -> TypeGrowth:
    gains = [after - before for before, after in itertools.pairwise(counts)]
    if len(counts) < LEAST_READINGS or min(gains) <= 0:
        return TypeGrowth(name=name, counts=counts, leaks=False)
    plain = name in _PLAIN
    grown, mean = counts[-1] - counts[0], (counts[-1] - counts[0]) / len(gains)
    least = max(_LEAST_PLAIN if plain else _LEAST, _DEVIATIONS * (2 * every * counts[-1]) ** 0.5 if every > 1 else 0)
    if grown < least:
        return TypeGrowth(name=name, counts=counts, leaks=False)
    if gains[-1] < _FADED * max(gains):
        return TypeGrowth(name=name, counts=counts, leaks=False, why=_FADES)
    even = min(gains) >= (_EVEN_PLAIN if plain else _EVEN) * mean
    large = grown >= max(_LARGE, _LARGE_SHARE * counts[0])
    why = "" if even or large else "it grows unevenly"
    return TypeGrowth(name=name, counts=counts, leaks=even or large, why=why)


def explained(types: Sequence[TypeGrowth], held: Mapping[str, Held], *, collecting: bool | None) -> list[TypeGrowth]:
    """With what was found about samples: what only awaits a collection is no leak, where collections come."""
    found = []
    for one in types:
        sample = held.get(one.name)
        if sample is None:
            found.append(one)
        elif sample.is_garbage and collecting is not False:
            found.append(_with(one, sample, leaks=False, why="garbage in cycles, which the next full collection frees"))
        elif sample.is_garbage:
            found.append(_with(one, sample, leaks=True, why="garbage in cycles, and the garbage collector is off"))
        else:
            found.append(_with(one, sample, leaks=one.leaks, why=one.why))
    return sorted(found, key=lambda one: (not one.leaks, -one.delta, one.name))


def _with(one: TypeGrowth, held: Held, *, leaks: bool, why: str) -> TypeGrowth:
    return TypeGrowth(name=one.name, counts=one.counts, leaks=leaks, why=why, held=held)


def outcome_of(types: Sequence[TypeGrowth], readings: int) -> tuple[Outcome, str]:
    """The verdict, and why in half a sentence."""
    leaks = [one for one in types if one.leaks]
    if readings < LEAST_READINGS:
        return (
            Outcome.INCONCLUSIVE,
            f"{counted(readings, 'reading')} do not tell growth from chance; {LEAST_READINGS} at least do",
        )
    times = f"each of {readings - 1} intervals"
    if leaks:
        return Outcome.LEAK, f"{counted(len(leaks), 'type')} grew in {times}, {leaks[0].name} by {leaks[0].delta:,}"
    # The load may have weakened meanwhile: what grew in each interval is not acquitted by one that is slower.
    fading = [one for one in types if one.why == _FADES]
    if fading:
        words = f"{fading[0].name} grew in {times}, by {fading[0].delta:,}, and ever slower, as a cache that fills does"
        return Outcome.INCONCLUSIVE, f"{words}: ask again under a steady load, or for longer (--interval, --samples)"
    return Outcome.CLEAN, f"no type accumulates: none grew in {times} by more than chance, and is still held"
