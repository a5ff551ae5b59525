"""coverage keeps a tracer for every thread that was ever started: those of ended threads are let go.

Without this a test whose calls start threads grows by a kilobyte per thread under `coverage run`.
"""

from __future__ import annotations

import sys
from typing import Any, Final


class ThreadTracers:
    """The lists of tracers of the coverage that runs; what was in them before stays."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        collector: Any = getattr(sys.modules.get("coverage.collector"), "Collector", None)
        running = getattr(collector, "_collectors", ())
        lists = (getattr(one, "tracers", None) for one in running)
        self._found = [(tracers, len(tracers)) for tracers in lists if isinstance(tracers, list)]

    def empty(self) -> None:
        """Let go of the tracers that no thread uses any more; what they have traced is coverage's already."""
        for tracers, before in self._found:
            # From the end, one by one: a thread that starts meanwhile appends.
            for place in range(len(tracers) - 1, before - 1, -1):
                # The other tracers are not held by their thread alone, or there is one for all threads.
                if type(tracers[place]).__name__ == "CTracer" and _references(tracers, place) == _UNUSED:
                    # One that has not stopped would take the trace function of this thread along.
                    tracers[place].stop()
                    del tracers[place]


def _references(objects: list[Any], place: int) -> int:
    return sys.getrefcount(objects[place])


# A thread refers to its tracer; the count of an object that only a list refers to differs between Pythons.
_UNUSED: Final = _references([object()], 0)
