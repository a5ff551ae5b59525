"""This process's live bytes in one number, by a probe that is found when the first reading is wanted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Final

import psutil

from pytest_memleak.probes.catalogue import Blind, Probes, native_probe
from pytest_memleak.probes.live import live_bytes_probe


class Traced(OSError):
    """The bytes are not known, since tracemalloc traces."""


class Live:
    """Python's small blocks and the C heap, summed."""

    __slots__ = ("_read", "caveats")

    def __init__(self) -> None:
        self._read: Callable[[], tuple[int, int]] | None = None
        self.caveats: tuple[str, ...] = ()
        """What the number lacks or estimates here, in words; known after the first reading."""

    def now(self) -> int:
        """Bytes that are handed out at this moment.

        Raises Traced while allocations are traced, another OSError where the statistics find no memory.
        """
        if tracemalloc.is_tracing():
            raise Traced("under tracemalloc the allocator counts no pools, and the traces are in the C heap")
        read = self._read
        if read is None:
            read, self.caveats = _probe()
            self._read = read
            # The first reading fills what it needs for all of them: not at the cost of whoever is measured.
            read()
        return sum(read())


def _probe() -> tuple[Callable[[], tuple[int, int]], tuple[str, ...]]:
    # Not all the probes: trying them lists the program's objects and children.
    try:
        return live_bytes_probe(Probes(read={"native": native_probe()}, missing={}))
    except (AttributeError, OSError, psutil.Error, Blind):
        return live_bytes_probe(Probes(read={}, missing={"native": "it reports no statistics here"}))


LIVE: Final = Live()
"""This process's."""
