"""Coming to rest: collect, wait and read again until two readings agree, within a bound.

Worker threads, the test client's portal and callbacks of the loop finish a little after the response. What
they still hold then is jitter, not growth; waiting removes most of it and the verdict's interval the rest.
"""

from __future__ import annotations

import array
import gc
import sys
from typing import Any, Final

from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.workloads.steps import Rest, Steps

# The first pause lets other threads and the loop have one turn, enough for an in-process ASGI call; the
# test client's threads take one or two milliseconds. Together 31 ms, in a round of 70 ms or more.
_PAUSES_S: Final = (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016)

# Before a conviction: long enough for background tasks of a tenth of a second to end. 0.9 s at the most.
_DEEP_PAUSES_S: Final = (0.01, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2, 0.4)


_WATCHED: Final = ("objects", "blocks", "threads", "tasks")


def at_rest(probes: Probes, *, deep: bool = False) -> Steps[bool]:
    """Rest until blocks, objects and tasks stand still between two looks, or the pauses are used up: False."""
    watched = [probes.read[signal] for signal in _WATCHED if signal in probes.read]
    # Preallocated: a tuple kept from the look before would be what the next one sees.
    looks = [array.array("q", bytes(8 * len(watched))) for _ in range(2)]
    seen = False
    for pause in _DEEP_PAUSES_S if deep else _PAUSES_S:
        yield Rest(pause)
        gc.collect()
        forget_lookups()
        present, previous = looks
        for column, probe in enumerate(watched):
            present[column] = probe()
        if seen and present == previous:
            return True
        looks.reverse()
        seen = True
    return False


_clear_type_cache: Any = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)


def forget_lookups() -> None:
    """Empty the interpreter's cache of attribute look-ups, which keeps the names that C code asked for.

    Each look-up by a C string (`PyObject_GetAttrString`) makes a new string, and the cache, 4,096 entries at
    random places, keeps the latest of each: through the test client 464 blocks in 750 calls, ever slower, with
    this 0. Python's own hunt for reference leaks (`test.libregrtest`) does the same. 0.05 ms.
    """
    if _clear_type_cache is not None:
        _clear_type_cache()
