"""Which containers gain entries: their lengths before and after, read without the user's `__len__`."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import itertools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from pytest_memleak.diagnosis.source import module_name

LRU_CACHE: Final = type(functools.lru_cache(lambda: None))
"""The C type of a `functools.lru_cache`; its table is not always an object of the collector's."""

# A container that has leaked for the whole hunt has at least this many entries; shorter ones, the bulk of a
# heap, need not be looked at.
_MIN_LENGTH: Final = 8

Measure = Callable[[Any], int]
_KINDS: Final[tuple[tuple[type, Measure], ...]] = (
    (dict, dict.__len__),
    (list, list.__len__),
    (set, set.__len__),
    (collections.deque, collections.deque.__len__),
    (bytearray, bytearray.__len__),
    (LRU_CACHE, lambda wrapper: int(wrapper.cache_info().currsize)),
)

_CONTAINERS: Final = tuple(kind for kind, _ in _KINDS)

# Namespaces are small; a large dict's values are entries, not containers with a name of their own.
_NAMESPACE_LENGTH: Final = 500

# How many entries are looked at in search of new ones: the ends of an ordered container, more of a set,
# whose order says nothing.
_ENDS: Final = 60
_SET_ENTRIES: Final = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Census:
    """Lengths by identity of the containers alive at one moment. It keeps none of them alive.

    `owners` are the identities of the namespaces and modules in which those stand that the collector does
    not track: looking into every other namespace again, under tracing, would take a second.
    """

    lengths: dict[int, int]
    owners: set[int]


def length_of(obj: object) -> int | None:
    """A container's length by its built-in type's own `__len__`; None for what is no container."""
    measure = _measure_of(type(obj))
    return None if measure is None else measure(obj)


def census() -> Census:
    """Measure every container of the program. The heap must be thawed."""
    lengths: dict[int, int] = {}
    owners: set[int] = set()
    for container, length, owner in _measured(_MIN_LENGTH):
        lengths[id(container)] = length
        if owner is not None:
            owners.add(id(owner))
    return Census(lengths, owners)


def growing(before: Census, least: int) -> list[tuple[Any, int]]:
    """The containers that gained at least `least` entries since `before`, largest gain first. Thawed heap.

    Containers of weak references hold nothing and are left out, and the table inside an lru_cache is left
    to its wrapper.
    """
    found = []
    tables_of_lru_caches: set[int] = set()
    for container, length, _ in _measured(_MIN_LENGTH + least, before.owners):
        early = before.lengths.get(id(container))
        if early is not None and length - early >= least and container is not before.lengths:
            found.append((container, length - early))
            if type(container) is LRU_CACHE:
                tables_of_lru_caches |= {id(part) for part in gc.get_referents(container) if type(part) is dict}
    found = [pair for pair in found if id(pair[0]) not in tables_of_lru_caches and not holds_weakly(pair[0])]
    return sorted(found, key=lambda pair: -pair[1])


def _measured(least: int, owners: set[int] | None = None) -> Iterator[tuple[Any, int, Any]]:
    """Each container of at least `least` entries with its length, and its owner where it was found in one.

    Up to Python 3.13 the collector does not track a dict of atoms, the commonest cache there is: such
    dicts (and bytearrays) are found in the namespaces that hold them. `owners`: look into these only.
    """
    # By identity: a metaclass may forbid to hash its classes, or do it in the user's code.
    measures: dict[int, Measure | None] = {}
    for obj in gc.get_objects():
        kind = type(obj)
        try:
            measure = measures[id(kind)]
        except KeyError:
            measure = measures[id(kind)] = _measure_of(kind)
        length = -1 if measure is None else measure(obj)
        if length >= least:
            yield obj, length, None
        is_namespace = kind is dict and length <= _NAMESPACE_LENGTH
        if (is_namespace or kind is types.ModuleType) and (owners is None or id(obj) in owners):
            parts: list[Any] = list(dict.values(obj)) if is_namespace else _parts_of_instances(obj)
            for part in parts:
                if type(part) in (dict, bytearray) and not gc.is_tracked(part) and len(part) >= least:
                    yield part, len(part), obj


def _parts_of_instances(module: types.ModuleType) -> list[object]:
    """What the module's long-lived instances refer to: attributes may live without a dict of their own."""
    instances = [
        value
        for value in list(vars(module).values())
        if type(value).__flags__ & _IS_HEAP_TYPE and not issubclass(type(value), (type, types.ModuleType))
    ]
    return gc.get_referents(*instances)


_IS_HEAP_TYPE: Final = 1 << 9


def _measure_of(kind: type) -> Measure | None:
    if not issubclass(kind, _CONTAINERS):
        return None
    return next((measure for base, measure in _KINDS if issubclass(kind, base)), None)


def holds_weakly(container: Any) -> bool:
    """Whether the newest entries are weak references (the tables inside WeakSet and its like)."""
    sample = list(itertools.islice(entries(container), 6))
    return any(issubclass(type(part), weakref.ref) for pair in sample for part in pair)


def entries(container: Any) -> Iterator[tuple[Any, ...]]:
    """The newest entries as tuples: (value, key) of a dict, (item,) of the others; never hashes or compares."""
    kind = type(container)
    if kind is LRU_CACHE:
        yield from _entries_of_lru_cache(container)
    elif issubclass(kind, dict):
        for key, value in list(itertools.islice(reversed(dict.items(container)), _ENDS)):
            yield value, key
    elif issubclass(kind, (list, collections.deque)):
        base: Any = list if issubclass(kind, list) else collections.deque
        length = base.__len__(container)
        for index in range(length - 1, max(-1, length - 1 - _ENDS), -1):
            yield (base.__getitem__(container, index),)
        for index in range(min(_ENDS, max(0, length - _ENDS))):
            yield (base.__getitem__(container, index),)
    elif issubclass(kind, set):
        # At once: another thread may add to it meanwhile.
        for item in list(itertools.islice(set.__iter__(container), _SET_ENTRIES)):
            yield (item,)


def _entries_of_lru_cache(wrapper: Any) -> Iterator[tuple[Any, ...]]:
    """(value, key), the newest first.

    The links of a bounded cache are unknown to the collector: their wrapper itself refers to each one's key and value
    and to the links' type, in this order, the oldest first. Without a bound there are no links, and the table has the
    values.
    """
    parts = gc.get_referents(wrapper)
    known = wrapper.cache_info()
    if known.maxsize is None:
        yield from (entry for part in parts if type(part) is dict for entry in entries(part))
        return
    ends = [index for index, part in enumerate(parts) if part is _LRU_LINK and index >= 2]
    # One mark more stands behind the links: their type is the wrapper's own too.
    for end in itertools.islice(reversed(ends[: known.currsize]), _ENDS):
        yield parts[end - 1], parts[end - 2]


def _type_of_lru_links() -> object:
    parts = gc.get_referents(functools.lru_cache(maxsize=1)(lambda: None))
    return next((part for part in parts if getattr(part, "__name__", "") == "_lru_list_elem"), None)


_LRU_LINK: Final = _type_of_lru_links()


def own_size(obj: object) -> int:
    """The size of one object in bytes without what it refers to, by pympler for built-in types.

    pympler asks other types for their `len()`, which is the user's code.
    """
    if module_name(type(obj)) not in ("builtins", "collections"):
        measure: Any = type(obj).__sizeof__
        # The user's own would be the user's code.
        return int((object.__sizeof__ if type(measure) is types.FunctionType else measure)(obj))
    from pympler import asizeof

    return int(asizeof.flatsize(obj))
