"""Dicts that gain an entry per key and never lose one, and `functools` caches without a bound or on methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.memoised import caches
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_growth import leaks
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK001"
PATTERN: Final = "unbounded_cache"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "A dict that anything in the file shrinks: `pop`, `popitem`, `clear`, `del`, a new dict, a look at its length.",
    "A dict that bounds itself or holds weakly: `LRUCache`, `TTLCache`, `WeakValueDictionary`.",
    "Keys of which there are only so many: constants, members of an enum, classes, status codes, locales, offsets.",
    "A registry: filled by a decorator, a metaclass, a function named `register…`, or at import only.",
    "`functools.cache` on a function without parameters, or whose parameters take only so many values.",
    "`functools.lru_cache` with a bound on a function.",
    "A function whose cache the file empties with `cache_clear`.",
)


def find(module: Module) -> Iterator[Suspect]:
    """The caches of a file that only grow."""
    for growth, suspect in leaks(module):
        if growth.way in ("entry", "read") and not growth.is_of_callbacks(module):
            yield suspect
    yield from caches(module)
