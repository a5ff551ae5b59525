"""The probes of this process, each tried before it is believed.

A probe that is missing on this platform, or that does not see a piece of memory which was just allocated
for it, is left out with its reason; it never reads as a silent zero.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import psutil

from pytest_memleak.probes.heap import borrowed_heap

# Below malloc's mmap threshold (128 KiB) and above pymalloc's largest block (512 B): it has to show up in
# the C heap's own statistics if these are the statistics of the allocator in use.
_TRIAL_BYTES: Final = 100_000
_TRIALS: Final = 5
_TRIAL_BLOCKS: Final = 1_000

SIGNALS: Final = ("blocks", "objects", "native", "rss", "fds", "threads", "tasks", "children")
"""The columns of a ledger, in order. Units: counts, except `native` and `rss` in bytes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What can be read here: `read[signal]() -> int`, and `missing[signal]` says why the others cannot."""

    read: dict[str, Callable[[], int]]
    missing: dict[str, str]
    objects: TrackedObjects | None = None

    def now(self, signal: str) -> int:
        """A reading of one signal; 0 where it is missing."""
        probe = self.read.get(signal)
        return probe() if probe else 0

    def refreeze(self) -> None:
        """The heap was frozen or thawed: what was known of it is void."""
        if self.objects is not None:
            self.objects.refreeze()


def find_probes(loops: Sequence[asyncio.AbstractEventLoop] = (), *, tasks_missing: str = "") -> Probes:
    """Try each probe on this interpreter. `loops` are the event loops whose tasks are counted."""
    process = psutil.Process()
    tracked: dict[str, TrackedObjects] = {}
    candidates: dict[str, tuple[Callable[[], Callable[[], int]], str]] = {
        "blocks": (_blocks, "this interpreter does not count its allocated blocks"),
        "objects": (
            lambda: tracked.setdefault("objects", TrackedObjects()).count,
            "this interpreter does not list the objects of its collector",
        ),
        "native": (
            native_probe,
            "the C heap in use reports no statistics (musl, jemalloc, tcmalloc, mimalloc, old psutil)",
        ),
        "rss": (
            lambda: lambda: process.memory_info().rss,
            "the platform does not report the process's memory",
        ),
        "fds": (lambda: _fds(process), "the platform does not report open descriptors"),
        "threads": (lambda: threading.active_count, ""),
        "children": (
            lambda: lambda: len(process.children(recursive=True)),
            "child processes cannot be listed here",
        ),
    }
    read: dict[str, Callable[[], int]] = {}
    missing: dict[str, str] = {}
    with borrowed_heap() as heap:
        # Trying the count of objects would list them all.
        heap.hide()
        for signal, (make, reason) in candidates.items():
            try:
                probe = make()
                probe()
            except (AttributeError, NotImplementedError, OSError, psutil.Error, Blind):
                missing[signal] = reason
            else:
                read[signal] = probe
    if tasks_missing:
        missing["tasks"] = tasks_missing
    else:
        read["tasks"] = lambda: sum(map(count_tasks, loops))
    return Probes(read=read, missing=missing, objects=tracked.get("objects"))


class Blind(Exception):
    """The probe answers, but does not see what was allocated before its eyes."""


def _blocks() -> Callable[[], int]:
    probe = sys.getallocatedblocks
    before = probe()
    trial = [object() for _ in range(_TRIAL_BLOCKS)]
    # PYTHONMALLOC=malloc and PyPy answer 0 for ever.
    if probe() - before < len(trial):
        raise Blind
    return probe


def native_probe() -> Callable[[], int]:
    """A probe of the C heap's bytes. Raises AttributeError, OSError, psutil.Error or Blind where there is none."""
    heap_info = psutil.heap_info

    def native_bytes() -> int:
        heap = heap_info()
        return int(heap.heap_used + heap.mmap_used)

    # A preloaded jemalloc or tcmalloc serves the program while glibc's statistics stand still, each time. That another
    # thread gives back as much in the same moment does not happen so often in a row.
    for _ in range(_TRIALS):
        before = native_bytes()
        trial = bytearray(_TRIAL_BYTES)
        if native_bytes() - before >= len(trial):
            return native_bytes
        del trial
    raise Blind


def _fds(process: psutil.Process) -> Callable[[], int]:
    if sys.platform == "win32":
        return process.num_handles
    return process.num_fds


class TrackedObjects:
    """Counts the objects that the collector tracks, cheap while the heap is frozen.

    `gc.get_objects()` lists only what is new since `gc.freeze()`; old objects that die meanwhile show in
    `gc.get_freeze_count()`, which walks them all (24 ms on 3 million). So the walk is done only when there
    are more new objects than ever before: until then, the level cannot have risen above the last count.
    """

    __slots__ = ("_frozen", "_most_new")

    def __init__(self) -> None:
        self._frozen = gc.get_freeze_count()
        self._most_new = 0
        self.count()

    def refreeze(self) -> None:
        """The heap was frozen or thawed: what was known of it is void."""
        self._frozen = gc.get_freeze_count()
        self._most_new = 0

    def count(self) -> int:
        new = len(gc.get_objects())
        if new > self._most_new:
            self._most_new = new
            self._frozen = gc.get_freeze_count()
        return new + self._frozen


def read_uss(process: psutil.Process | None = None) -> int | None:
    """The unique set size in bytes (0.2 ms at 14 MiB, 23 ms at 2 GiB), None where it cannot be read."""
    try:
        return int((process or psutil.Process()).memory_full_info().uss)
    except (AttributeError, NotImplementedError, OSError, psutil.Error):
        return None


def running_loops() -> list[asyncio.AbstractEventLoop]:
    """The event loops of this process that run now, in whichever thread."""
    kinds: list[Any] = [asyncio.AbstractEventLoop]
    for kind in kinds:
        kinds += set(kind.__subclasses__()) - set(kinds)
    with borrowed_heap() as heap:
        heap.show()
        # What refers to a class is its instances: a tenth of the time of looking at each object (3 million: 37 ms).
        return [
            obj
            for obj in gc.get_referrers(*kinds)
            if issubclass(type(obj), asyncio.AbstractEventLoop) and obj.is_running() and not obj.is_closed()
        ]


def count_tasks(loop: asyncio.AbstractEventLoop) -> int:
    """The unfinished tasks of a loop; the loop may run in another thread. 0 when the loop is closed."""
    return 0 if loop.is_closed() else len(list_tasks(loop))


def list_tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[object]]:
    """The unfinished tasks of a loop that may run in another thread."""
    # all_tasks iterates over a set that the other thread changes; it retries a thousand times itself
    # and then gives up with RuntimeError, which a busy loop can provoke.
    for _ in range(10):
        try:
            return asyncio.all_tasks(loop)
        except RuntimeError:
            continue
    return set()
