"""What a result weighs that nothing but its caller will hold: it goes when the caller is done with it.

A handler that answers with a list of 100 kB has added 100 kB of live memory when it returns, and leaks nothing. The
reference counts tell that from a list that a cache has kept too: what has one reference dies with what refers to it.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

# Of more children than that, so many are weighed, evenly spread, for all of them: rows of a table are alike.
_SAMPLE: Final = 64

# Half a microsecond each: a millisecond at the most.
_MOST_OBJECTS: Final = 2_000

# Both allocators hand out multiples of 16 B.
_GRAIN: Final = 16


def owned_bytes(results: list[object]) -> int:
    """An estimate of the bytes that go with those objects in a list which have one other reference.

    Where a program overrides `__sizeof__`, it is called.
    """
    return round(_weigh(results, 1.0, [_MOST_OBJECTS]))


def _weigh(children: list[object], each: float, left: list[int]) -> float:
    weight = 0.0
    for at, references in enumerate(map(sys.getrefcount, children)):
        if references > _ONE_PARENT:
            continue
        left[0] -= 1
        if left[0] < 0:
            break
        try:
            size = sys.getsizeof(children[at], 0)
        except Exception:  # noqa: BLE001  (a program's own __sizeof__ may raise what it likes)
            continue
        below = gc.get_referents(children[at])
        weight += each * -(-size // _GRAIN) * _GRAIN
        if below:
            some = below[:: max(1, len(below) // _SAMPLE)]
            scale = len(below) / len(some)
            del below  # it refers to each of them too
            weight += _weigh(some, each * scale, left)
    return weight


def _one_parent() -> int:
    parent = [object()]
    children = gc.get_referents(parent)
    return next(map(sys.getrefcount, children))


_ONE_PARENT: Final = _one_parent()
"""References on an object with one parent, as `_weigh` sees it: its list and its look are among them."""
