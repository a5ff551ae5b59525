"""The garbage collector's runs: how many, and how long each held the interpreter, by generation.

The collector may run at any allocation, with any lock held. So its callback takes none, and calls nobody: it writes
into arrays that were made before, and others fetch from there in threads of their own.
"""

from __future__ import annotations

import array
import dataclasses
import gc
import threading
import time
from typing import Any, Final

from pytest_memleak.model_monitor import Collection

GENERATIONS: Final = 3


def full_collections() -> int:
    """How many of all generations there were in this process, whoever listened."""
    return int(gc.get_stats()[GENERATIONS - 1]["collections"])


# Between two readings, 5 s apart, a service that allocates as fast as it can makes some 5,000 collections of the
# youngest generation. Of more, the oldest are not handed out one by one; the totals have them.
_PENDING: Final = 8_192


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The runs of one generation since the watch began."""

    generation: int
    collections: int
    collected: int
    uncollectable: int
    pause_s: float
    longest_s: float


class GcWatch:
    """Listens to the collector between `start` and `stop`."""

    def __init__(self) -> None:
        # Made once: a bound method is a new object each time it is asked for.
        self._callback = self._note
        self._fetching = threading.Lock()
        self._empty()

    def _empty(self) -> None:
        self._begun = 0.0
        self._generations = array.array("b", bytes(_PENDING))
        self._pauses = array.array("d", bytes(8 * _PENDING))
        self._noted = 0
        self._fetched = 0
        self._sums = [array.array("d", bytes(8 * 5)) for _ in range(GENERATIONS)]

    def start(self) -> None:
        """Listen. Twice is once."""
        if self._callback not in gc.callbacks:
            gc.callbacks.append(self._callback)

    def stop(self) -> None:
        """Listen no more; the figures stay."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def forget(self) -> None:
        """A forked child begins anew: of its parent's lock too."""
        self._fetching = threading.Lock()
        self._empty()

    def totals(self) -> tuple[Totals, ...]:
        """What was seen so far, youngest generation first."""
        return tuple(
            Totals(
                generation=generation,
                collections=int(sums[0]),
                collected=int(sums[1]),
                uncollectable=int(sums[2]),
                pause_s=sums[3],
                longest_s=sums[4],
            )
            for generation, sums in enumerate(self._sums)
        )

    def fetch(self) -> list[Collection]:
        """The runs that nobody has fetched yet."""
        with self._fetching:
            noted = self._noted
            first = max(self._fetched, noted - _PENDING)
            self._fetched = noted
            return [
                Collection(generation=self._generations[at % _PENDING], pause_s=self._pauses[at % _PENDING])
                for at in range(first, noted)
            ]

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
            return
        if not self._begun:
            return  # it began before we listened
        pause_s = time.perf_counter() - self._begun
        generation = min(info["generation"], GENERATIONS - 1)
        sums = self._sums[generation]
        sums[0] += 1
        sums[1] += info["collected"]
        sums[2] += info["uncollectable"]
        sums[3] += pause_s
        sums[4] = max(sums[4], pause_s)
        at = self._noted % _PENDING
        self._generations[at] = generation
        self._pauses[at] = pause_s
        self._noted += 1
