"""The figures of this process: resident and virtual memory, and the live heap."""

from __future__ import annotations

import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Callable

import psutil

from pytest_memleak.model_monitor import Reading
from pytest_memleak.monitor.gc_watch import full_collections
from pytest_memleak.probes.catalogue import Blind, native_probe
from pytest_memleak.probes.live import pymalloc_probe


class Figures:
    """The probes, found once in each process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._pymalloc, self.missing = pymalloc_probe()
        self._native = _native_or_none()
        self._page = os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else 0
        # Kept open: 1.5 µs a reading instead of 10.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if self._page else -1

    def __del__(self) -> None:
        if getattr(self, "_statm", -1) >= 0:
            os.close(self._statm)

    def resident(self) -> tuple[int, int]:
        """RSS and VMS in bytes."""
        if self._statm >= 0:
            pages = os.pread(self._statm, 128, 0).split()
            return int(pages[1]) * self._page, int(pages[0]) * self._page
        memory = self._process.memory_info()
        return int(memory.rss), int(memory.vms)

    def live(self) -> int:
        """Live heap bytes; -1 where the C heap does not say, since half of it is no figure, and while tracing.

        Under tracemalloc CPython counts no pools, and the traces themselves would be part of the C heap.
        """
        if self._native is None or tracemalloc.is_tracing():
            return -1
        return self._pymalloc() + self._native()

    def weigh(self) -> int:
        """For differences over a request: what of the live heap can be read. Raises OSError while tracing."""
        if tracemalloc.is_tracing():
            raise OSError("under tracemalloc the allocator counts no pools")
        return self._pymalloc() + (self._native() if self._native else 0)

    def read(self, in_flight: int) -> Reading:
        """A reading of now."""
        rss, vms = self.resident()
        return Reading(
            t=time.time(),
            rss_bytes=rss,
            vms_bytes=vms,
            live_bytes=self.live(),
            in_flight=in_flight,
            full_collections=_known_collections(),
        )


def _known_collections() -> int:
    """How many there were; -1 where none will come, and from 3.14 on, which collects a large heap piece by piece."""
    if sys.version_info >= (3, 14) or not gc.isenabled():
        return -1
    return full_collections()


def _native_or_none() -> Callable[[], int] | None:
    try:
        return native_probe()
    except (AttributeError, OSError, psutil.Error, Blind):
        return None
