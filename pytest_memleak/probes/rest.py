"""Coming to rest: collect, wait and read again until two readings agree, within a bound.

Worker threads, the test client's portal and callbacks of the loop finish a little after the response. What
they still hold then is jitter, not growth; waiting removes most of it and the verdict's interval the rest.
"""

from __future__ import annotations

import gc
from typing import Final

from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.workloads.steps import Rest, Steps

# The first pause lets other threads and the loop have one turn, enough for an in-process ASGI call; the
# test client's threads take one or two milliseconds. Together 31 ms, in a round of 80 ms or more.
_PAUSES_S: Final = (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016)

# Before a conviction: long enough for background tasks of a tenth of a second to end. 0.9 s at the most.
_DEEP_PAUSES_S: Final = (0.02, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2, 0.4)


def at_rest(probes: Probes, *, deep: bool = False) -> Steps[bool]:
    """Rest until blocks, objects and tasks stand still between two looks, or the pauses are used up: False."""
    watched = [probes.read[signal] for signal in ("objects", "blocks", "threads", "tasks") if signal in probes.read]
    previous = None
    for pause in _DEEP_PAUSES_S if deep else _PAUSES_S:
        yield Rest(pause)
        gc.collect()
        present = tuple(probe() for probe in watched)
        if present == previous:
            return True
        previous = present
    return False
