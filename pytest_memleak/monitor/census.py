"""How many objects there are of each type, and the newest few of some: without a long stall on a large heap.

To list a million objects holds the interpreter for 10 ms where they lie in memory in the order of their age, and for
200 ms where they lie anywhere; to ask all of them for their types takes twice that again. So a large heap is asked in
pieces, with a new list for each, and between two of them the other threads run. While it holds references to all
objects no other thread gets the interpreter, so that none of them dies in our hands.

A piece begins where the last one ended: the oldest generation, where nearly all objects are, keeps its order. What
comes to it comes at its end, what leaves it moves the others up, and the last objects of a piece, known by their
addresses, say how far. A collection of that generation changes the order: then the count begins anew.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from pytest_memleak.monitor.gc_watch import full_collections

_Found = TypeVar("_Found")

# To ask so many for their types takes half the time of listing a million.
_PIECE: Final = 100_000

# Each piece costs a list of all: of ten million objects the pieces are larger instead.
_MOST_PIECES: Final = 10

# What a loop in C takes a few milliseconds for; other threads get the interpreter after it.
_SLICE: Final = 20_000

# Old objects that go while others run for some milliseconds; of more, the count begins anew.
_MOST_GONE: Final = 8_192
_ANCHORS: Final = 64

# How often a count begins anew before it takes all in one piece.
_TRIES: Final = 3

# From 3.14 on every young collection moves some of the old objects about.
_KEEPS_ORDER: Final = sys.version_info < (3, 14)

_OLDEST: Final = 2
_YOUNG: Final = -1
"""The place of what is not in the oldest generation."""

# Longer than any piece takes, so that no other thread gets the interpreter in between.
_UNDISTURBED_S: Final = 0.5

# A thread that was woken by our letting go needs so long to take the interpreter, on a busy machine too. Where it does
# not, it has two pieces to wait for.
_LET_IN_S: Final = 0.005


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The tracked objects by the identity of their type: a metaclass may have an `__eq__` and a `__hash__`."""

    objects: int
    counts: Mapping[int, int]
    types: Mapping[int, type]
    places: Mapping[int, int]
    """Where in the oldest generation the newest of a type are, about."""


def take() -> Census:
    """Count all of them; in pieces, unless collections keep coming in between."""
    for _ in range(_TRIES if _KEEPS_ORDER else 0):
        found = _Count().take(_PIECE)
        if found is not None:
            return found
    whole = _Count().take(sys.maxsize)
    assert whole is not None
    return whole


def newest(census: Census, numbers: Sequence[int], most: int) -> list[object]:
    """Some instances of types: the newest of the oldest generation, which has outlived its requests.

    Where there are none, of the younger; in pieces, too.
    """
    kinds = [census.types[number] for number in numbers if number in census.types]
    last = max((census.places.get(number, _YOUNG) for number in numbers), default=_YOUNG)
    for place in (*(() if last == _YOUNG else (last,)), _YOUNG, *_from_the_end(census.objects)):
        found = undisturbed(lambda: _instances(place, kinds, most))  # noqa: B023  (called at once)
        if found:
            return found
    return []


def _from_the_end(objects: int) -> Iterator[int]:
    """Where nothing is where it was: each place of the oldest generation."""
    size = max(_PIECE, objects // _MOST_PIECES)
    return iter(range(objects // size * size, -1, -size))


def _instances(place: int, kinds: Sequence[type], most: int) -> list[object]:
    if place == _YOUNG:
        part = gc.get_objects(generation=0)
        # In this order: a list of ours that was there before would be among the youngest, and hold itself.
        part[:0] = gc.get_objects(generation=1)
    else:
        part = gc.get_objects(generation=_OLDEST)
        size = max(_PIECE, len(part) // _MOST_PIECES)
        part = part[max(0, place - _MOST_GONE) : place + size]
    part.reverse()
    found: list[object] = []
    # One after the other, and by identity: a metaclass may have an `__eq__`, and a list of the types' numbers would be
    # traced, number by number, where allocations are.
    for kind in kinds:
        for thing in part:
            if len(found) == most:
                break
            if type(thing) is kind:
                found.append(thing)
        thing = None
    # Where frames are objects, up to 3.10, this one is in the list; it must not hold what holds it.
    del part
    return found


def _young_types() -> list[type]:
    # No name for the lists: see above.
    return [*map(type, gc.get_objects(generation=1)), *map(type, gc.get_objects(generation=0))]


class _Count:
    def __init__(self) -> None:
        self._objects = 0
        self._counts: collections.Counter[int] = collections.Counter()
        self._types: dict[int, type] = {}
        self._places: dict[int, int] = {}
        self._at = 0
        self._anchors: list[int] = []
        self._collections = full_collections()

    def take(self, size: int) -> Census | None:
        """Count in pieces of this size; None where the order has changed in between."""
        is_last = False
        while not is_last:
            place = self._at
            step = undisturbed(lambda: self._piece(size))
            if step is None:
                return None
            old, young, is_last = step
            self._add(old, place)
            self._add(young, _YOUNG)
        return Census(objects=self._objects, counts=self._counts, types=self._types, places=self._places)

    def _piece(self, size: int) -> tuple[list[type], list[type], bool] | None:
        """The types of the next objects; with the last of the oldest generation come the younger ones."""
        if self._collections != full_collections():
            return None
        objects = gc.get_objects(generation=_OLDEST)
        start = self._start(objects)
        if start is None:
            return None
        end = start + max(size, len(objects) // _MOST_PIECES)
        is_last = end >= len(objects)
        old = list(map(type, objects[start:end]))
        self._at = min(end, len(objects))
        self._anchors = list(map(id, objects[max(start, self._at - _ANCHORS) : self._at]))
        del objects  # which is young, and ours
        return old, _young_types() if is_last else [], is_last

    def _start(self, objects: list[object]) -> int | None:
        """Behind the last object that was counted and is still there."""
        if not self._at:
            return 0
        first = max(0, self._at - _MOST_GONE)
        numbers = {number: at for at, number in enumerate(map(id, objects[first : self._at]), first)}
        return next((numbers[anchor] + 1 for anchor in reversed(self._anchors) if anchor in numbers), None)

    def _add(self, types: list[type], place: int) -> None:
        self._objects += len(types)
        for start in range(0, len(types), _SLICE):
            part = types[start : start + _SLICE]
            counts = collections.Counter(map(id, part))
            self._counts.update(counts)
            if counts.keys() - self._types.keys():
                self._types.update(zip(map(id, part), part, strict=True))
            if place != _YOUNG:
                self._places.update(dict.fromkeys(counts, place))


def undisturbed(work: Callable[[], _Found]) -> _Found:
    """Do it while no other thread runs and no garbage is collected; then let the others in."""
    switch_s, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.disable()  # a collection would be part of our stall
    sys.setswitchinterval(_UNDISTURBED_S)
    try:
        return work()
    finally:
        sys.setswitchinterval(switch_s)
        if collecting:
            gc.enable()
        # Who waits for the interpreter waits as long as was said when he began: now he gets it.
        time.sleep(_LET_IN_S)
