"""Whether a stretch of a program ran alone: what else could have changed the live memory meanwhile.

Three witnesses, none of them a hook in the program:

    the processor's clocks   the process's time less this thread's is what all others have used; it stands
                             still while they wait, to the nanosecond
    the collector's counts   a collection frees garbage of whoever made it
    the tracked steps        of other tracked calls, begun while this one was suspended or still running
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from array import array
from typing import Final

CALL: Final = 1
REQUEST: Final = 2
THREAD: Final = 4
COLLECTION: Final = 8
UNREAD: Final = 16
TRACING: Final = 32

WORDS: Final = {
    CALL: "another tracked call",
    REQUEST: "another request",
    THREAD: "another thread",
    COLLECTION: "a garbage collection",
    UNREAD: "a reading that failed",
    TRACING: "tracemalloc",
}
"""What a call shared its time with."""

SPOILS: Final = THREAD | COLLECTION | UNREAD | TRACING
"""What can change the memory while a step runs; the rest only runs between one step and the next."""

# A thread that wakes, takes the interpreter's lock and waits again uses 10 µs at the least (measured, 300 times);
# 100,000 readings of one that runs alone differ by 0.
_OTHERS_NS: Final = 2_000

# Linux and macOS count in nanoseconds and microseconds. Where a clock moves in ticks of milliseconds (Windows,
# some sandboxes), what a thread does between two of them is not seen.
_COARSE_NS: Final = 50_000
_CLOCK_LOOKS: Final = 2_000


def clocks_are_fine() -> bool:
    """Whether the processor's clocks tell a short run of another thread."""
    try:
        last, finest = time.thread_time_ns(), _COARSE_NS
        for _ in range(_CLOCK_LOOKS):
            now = time.thread_time_ns()
            finest, last = min(finest, now - last or finest), now
    except (AttributeError, OSError):
        return False
    return finest < _COARSE_NS


class Witness:
    """What the clocks and the collector said when a step began. Nothing stays allocated between the two looks."""

    __slots__ = ("_seen",)

    fine = clocks_are_fine()

    def __init__(self) -> None:
        # The others' processor time at the most, collections of the whole heap, objects collected.
        self._seen = array("q", bytes(3 * 8))

    def look(self) -> None:
        """The step begins: everything after this counts."""
        seen = self._seen
        seen[1], seen[2] = _collections()
        if self.fine:
            own = time.thread_time_ns()
            seen[0] = time.process_time_ns() - own

    def others(self) -> bool:
        """Whether another thread has run since the look."""
        if not self.fine:
            return len(sys._current_frames()) > 1
        whole = time.process_time_ns()
        return whole - time.thread_time_ns() - self._seen[0] > _OTHERS_NS

    def collected(self) -> bool:
        """Whether a collection since the look has freed anything: a full one empties the free lists too."""
        full, objects = _collections()
        return full != self._seen[1] or objects != self._seen[2]


def _collections() -> tuple[int, int]:
    stats = gc.get_stats()
    return stats[-1]["collections"], sum(generation["collected"] for generation in stats)


class Steps:
    """The steps of all tracked calls in this process."""

    __slots__ = ("begun", "running", "turn")

    def __init__(self) -> None:
        # Small integers are never allocated, others are: a counter that starts among the small ones would grow
        # in the middle of somebody's reading.
        self.begun = 1_000
        self.running = 0
        # A generator that is collected ends its call, wherever that thread is just then: hence reentrant.
        self.turn = threading.RLock()


class _Here:
    """The steps of this process; a forked child starts anew, without the calls of its parent's other threads."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = Steps()


HERE: Final = _Here()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HERE.__init__)  # type: ignore[misc]
