"""Which containers gain entries: their lengths before and after, read without the user's `__len__`."""

from __future__ import annotations

import collections
import dataclasses
import gc
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

# A container that has leaked for the whole hunt has at least this many entries; shorter ones, the bulk of a
# heap, need not be looked at.
_MIN_LENGTH: Final = 8

_KINDS: Final[tuple[tuple[type, Callable[[Any], int]], ...]] = (
    (dict, dict.__len__),
    (list, list.__len__),
    (set, set.__len__),
    (collections.deque, collections.deque.__len__),
    (bytearray, bytearray.__len__),
)

# How many entries are looked at in search of new ones: the ends of an ordered container, more of a set,
# whose order says nothing.
_ENDS: Final = 60
_SET_ENTRIES: Final = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Census:
    """Lengths by identity of the containers alive at one moment. It keeps none of them alive."""

    lengths: dict[int, int]


def length_of(obj: object) -> int | None:
    """A container's length by its built-in type's own `__len__`; None for what is no container."""
    measure = _measure_for(type(obj))
    return None if measure is None else measure(obj)


_measures: weakref.WeakKeyDictionary[type, Callable[[Any], int] | None] = weakref.WeakKeyDictionary()


def _measure_for(kind: type) -> Callable[[Any], int] | None:
    try:
        return _measures[kind]
    except KeyError:
        found = next((measure for base, measure in _KINDS if issubclass(kind, base)), None)
        _measures[kind] = found
        return found


def census() -> Census:
    """Measure every container that the collector tracks. The heap must be thawed."""
    lengths: dict[int, int] = {}
    for obj in gc.get_objects():
        measure = _measure_for(type(obj))
        if measure is not None:
            length = measure(obj)
            if length >= _MIN_LENGTH:
                lengths[id(obj)] = length
    return Census(lengths)


def growing(before: Census, least: int) -> list[tuple[Any, int]]:
    """The containers that gained at least `least` entries since `before`, largest gain first. Thawed heap.

    Containers of weak references hold nothing and are left out, and so are those of this package.
    """
    found = []
    for obj in gc.get_objects():
        measure = _measure_for(type(obj))
        if measure is None or obj is before.lengths:
            continue
        early = before.lengths.get(id(obj))
        if early is not None and measure(obj) - early >= least and not holds_weakly(obj):
            found.append((obj, measure(obj) - early))
    return sorted(found, key=lambda pair: -pair[1])


def holds_weakly(container: Any) -> bool:
    """Whether the newest entries are weak references (the tables inside WeakSet and its like)."""
    sample = list(itertools.islice(entries(container), 6))
    return bool(sample) and any(isinstance(part, weakref.ref) for pair in sample for part in pair)


def entries(container: Any) -> Iterator[tuple[Any, ...]]:
    """The newest entries as tuples: (value, key) of a dict, (item,) of the others; never hashes or compares."""
    kind = type(container)
    if issubclass(kind, dict):
        newest = itertools.islice(reversed(dict.items(container)), _ENDS)
        for key, value in newest:
            yield value, key
    elif issubclass(kind, (list, collections.deque)):
        base: Any = list if issubclass(kind, list) else collections.deque
        length = base.__len__(container)
        for index in range(length - 1, max(-1, length - 1 - _ENDS), -1):
            yield (base.__getitem__(container, index),)
        for index in range(min(_ENDS, max(0, length - _ENDS))):
            yield (base.__getitem__(container, index),)
    elif issubclass(kind, set):
        for item in itertools.islice(set.__iter__(container), _SET_ENTRIES):
            yield (item,)


def own_size(obj: object) -> int:
    """The size of one object in bytes without what it refers to, by pympler."""
    from pympler import asizeof

    try:
        return int(asizeof.flatsize(obj))
    except (TypeError, ValueError, AttributeError):
        return sys.getsizeof(obj, 0)
