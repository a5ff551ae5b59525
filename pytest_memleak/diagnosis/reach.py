"""What an object keeps among the things that are new: the bytes, and the places that allocated them.

Only objects that tracemalloc has seen are entered, so a walk stays among what the observed calls made and
never comes near the modules whose traversal hangs some interpreters beside a live event loop.
"""

from __future__ import annotations

import collections
import gc
import tracemalloc
import types
from collections.abc import Iterable
from typing import Final

from pytest_memleak.diagnosis import retention, source
from pytest_memleak.diagnosis.allocations import Places
from pytest_memleak.diagnosis.containers import own_size

_MOST_OBJECTS: Final = 2_000
"""An object that keeps more is described by these."""


def reach(objects: Iterable[object]) -> tuple[int, set[Places]]:
    """Bytes kept by `objects` together, and where they were allocated; without modules, frames and classes."""
    size = 0
    places: set[Places] = set()
    seen: set[int] = set()
    queue = collections.deque(objects)
    while queue and len(seen) < _MOST_OBJECTS:
        obj = queue.popleft()
        if id(obj) in seen or not is_traced(obj) or isinstance(obj, (types.ModuleType, types.FrameType, type)):
            continue
        seen.add(id(obj))
        size += own_size(obj)
        found = places_of(obj)
        if found is not None:
            places.add(found)
        queue.extend(gc.get_referents(obj))
        namespace = retention.instance_dict(obj)
        if namespace is not None:
            queue.append(namespace)
    return size, places


def is_traced(obj: object) -> bool:
    """Whether an object was allocated since tracing began."""
    return tracemalloc.get_object_traceback(obj) is not None


def places_of(obj: object) -> Places | None:
    """Where an object was allocated: the user's place and the innermost one; None when it is older."""
    stack = tracemalloc.get_object_traceback(obj)
    if stack is None:
        return None
    return source.nearest((frame.filename, frame.lineno) for frame in reversed(stack))
