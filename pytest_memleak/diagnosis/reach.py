"""What an object keeps among the things that are new: the bytes, and the places that allocated them.

Only new objects are entered, so a walk stays among what the observed calls made and never comes near the
modules whose traversal hangs some interpreters beside a live event loop. New is what tracemalloc has seen,
or what the collector has met since the freeze: tracemalloc misses objects out of the interpreter's free
lists.
"""

from __future__ import annotations

import collections
import gc
import types
from collections.abc import Iterable
from typing import Any, Final

from pytest_memleak.diagnosis import labels, source
from pytest_memleak.diagnosis.allocations import Places, as_site, stack_of
from pytest_memleak.diagnosis.containers import own_size
from pytest_memleak.model import Site

_MOST_OBJECTS: Final = 2_000
"""An object that keeps more is described by these."""


_RECYCLED: Final = (dict, list, tuple, float, types.MethodType)


class Fresh:
    """Which objects are new, by identity; keeps none of them alive."""

    __slots__ = ("_ids",)

    def __init__(self, new: Iterable[object]) -> None:
        self._ids = {id(obj) for obj in new}

    def is_new(self, obj: object) -> bool:
        """Whether an object was made by the observed calls."""
        return id(obj) in self._ids or stack_of(obj) is not None

    def places_of(self, obj: object) -> Places | None:
        """Where an object was allocated: the user's place and the innermost one; None when it is older.

        An object without a trace of its own is placed where the first of its new parts was.
        """
        found = _traced_places(obj)
        if found is None and id(obj) in self._ids:
            parts = [part for part in gc.get_referents(obj) if not _is_shared(part)]
            # A part out of a free list may show a stale trace: those that never are come first.
            parts.sort(key=lambda part: type(part) in _RECYCLED)
            traced = (_traced_places(part) for part in parts)
            found = next((places for places in traced if places is not None), None)
        return found

    def site_of(self, obj: object) -> Site | None:
        """Where an object was allocated, as text; None when it is older."""
        places = self.places_of(obj)
        return None if places is None else as_site(places)

    def reach(self, objects: Iterable[Any]) -> tuple[int, set[Places]]:
        """Bytes kept by `objects` together, and where they were allocated."""
        size = 0
        places: set[Places] = set()
        seen: set[int] = set()
        queue = collections.deque(objects)
        while queue and len(seen) < _MOST_OBJECTS:
            obj = queue.popleft()
            if id(obj) in seen or _is_shared(obj) or not self.is_new(obj):
                continue
            seen.add(id(obj))
            size += own_size(obj)
            found = self.places_of(obj)
            if found is not None:
                places.add(found)
            queue.extend(gc.get_referents(obj))
            namespace = labels.instance_dict(obj)
            if namespace is not None:
                queue.append(namespace)
        return size, places


def _is_shared(obj: object) -> bool:
    """Modules, classes and frames belong to nobody's entry."""
    return issubclass(type(obj), (types.ModuleType, types.FrameType, type))


def _traced_places(obj: object) -> Places | None:
    stack = stack_of(obj)
    return None if stack is None else source.nearest(stack)
