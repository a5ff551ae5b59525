"""tracemalloc for a limited time: off by default, since it makes each allocation two to four times as slow."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

LONGEST_S: Final = 600.0
MOST_FRAMES: Final = 25

_TOP: Final = 20

# A trace costs tracemalloc about so much of its own memory, and copying 200,000 stalls every thread for 50 ms.
_TRACE_BYTES: Final = 110
_MOST_TRACES: Final = 200_000


class Tracing:
    """One process's. What somebody else has switched on is looked at, and left on.

    `quiet` is a time in which our own thread allocates nothing outside of the interpreter's lock, as numpy does: before
    3.12.9 and 3.13.2 CPython crashes where that happens while tracing ends (python/cpython#128679).
    """

    def __init__(self, quiet: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._quiet = quiet
        self._timer: threading.Timer | None = None
        self._until_s = 0.0
        self._turn = threading.Lock()

    def forget(self) -> None:
        """A forked child has the traces, and no timer that ends them."""
        if self._timer is not None:
            tracemalloc.stop()
        self._timer = None
        self._turn = threading.Lock()

    def end(self) -> None:
        """Switch it off where it is ours, for good."""
        timer = self._timer
        self.switch(0, 1)
        if timer is not None and timer is not threading.current_thread():
            timer.join()

    @property
    def is_on(self) -> bool:
        """Whether allocations are traced, by whomever."""
        return tracemalloc.is_tracing()

    @property
    def left_s(self) -> float | None:
        """Until it is switched off; None where it is not ours to switch off."""
        if not self.is_on:
            return 0.0
        return max(0.0, self._until_s - time.monotonic()) if self._timer is not None else None

    def switch(self, seconds: float, frames: int) -> None:
        """Trace for so long from now; 0 ends it now. Other frames than before begin anew."""
        with self._turn:
            is_others = self.is_on and self._timer is None
            if is_others:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self.is_on and (not seconds or tracemalloc.get_traceback_limit() != frames):
                self._stop()
            if not seconds:
                return
            if not self.is_on:
                tracemalloc.start(frames)
            self._until_s = time.monotonic() + seconds
            timer = self._timer = threading.Timer(seconds, self._end)
            timer.daemon = True
            timer.name = "memleak-tracing"
            timer.start()

    def top(self, *, force: bool) -> tuple[list[dict[str, Any]], str | None]:
        """The lines that hold most bytes, and why there are none."""
        if not self.is_on:
            return [], "tracing is off: POST …/tracing switches it on for a limited time"
        traces = tracemalloc.get_tracemalloc_memory() // _TRACE_BYTES
        if traces > _MOST_TRACES and not force:
            return [], f"about {traces:,} traces: to copy them stalls every thread for long; ask with ?force=true"
        found = tracemalloc.take_snapshot().filter_traces(_NOT_OURS).statistics("lineno")
        return [
            {"site": f"{one.traceback[0].filename}:{one.traceback[0].lineno}", "bytes": one.size, "count": one.count}
            for one in found[:_TOP]
        ], None

    def _end(self) -> None:
        with self._turn:
            if self._timer is threading.current_thread():
                self._timer = None
                self._stop()

    def _stop(self) -> None:
        with self._quiet():
            tracemalloc.stop()


_NOT_OURS: Final = (tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, "<memleak>"))
