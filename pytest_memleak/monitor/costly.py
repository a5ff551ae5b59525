"""What may cost the program something: one at a time, for a bounded share of the time, and its stall told.

A thread of its own does not hide work from the event loop: the interpreter's lock is held in long stretches. So the
loop's longest stall is measured, in the loop, and is part of the answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import anyio
from starlette.concurrency import run_in_threadpool

_Found = TypeVar("_Found")

# All costly answers together may take this share of the time ...
_SHARE: Final = 0.05

# ... and so much in advance: a few looks one after another are what a person does, an endless row is a script. On a
# heap of a million objects one takes about a second.
_ADVANCE_S: Final = 10.0

_TICK_S: Final = 0.001


class Busy(Exception):
    """Not now; `wait_s` says when."""

    def __init__(self, why: str, wait_s: float) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Costly:
    """The budget of one process. Without one (`is_free`), only one at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, is_free: bool = False) -> None:
        self._clock = clock
        self._is_free = is_free
        self.forget()

    def forget(self) -> None:
        """A forked child begins anew."""
        self._turn = threading.Lock()
        self._left_s = _ADVANCE_S
        self._seen_s = self._clock()

    async def run(self, work: Callable[[], _Found]) -> tuple[_Found, float]:
        """Do it in a thread; gives what it found, and by how many milliseconds it stalled the event loop at most.

        Raises Busy while another is done, or when the others have cost too much of late.
        """
        if not self._turn.acquire(blocking=False):
            raise Busy("another costly look at this process is under way", 1.0)
        turn = self._turn
        try:
            now = self._clock()
            self._left_s = min(_ADVANCE_S, self._left_s + (now - self._seen_s) * _SHARE)
            self._seen_s = now
            if self._left_s <= 0 and not self._is_free:
                raise Busy("the costly looks at this process have used their share of its time", self._wait_s())
            watch = _Watched(work)
            try:
                return await watch.run()
            finally:
                self._left_s -= watch.cost_s
        finally:
            turn.release()

    def _wait_s(self) -> float:
        return max(1.0, -self._left_s / _SHARE)


class _Watched(Generic[_Found]):
    def __init__(self, work: Callable[[], _Found]) -> None:
        self._work = work
        self._is_over = False
        self._longest_s = 0.0
        self._begun_s = 0.0
        self.cost_s = 0.0

    async def run(self) -> tuple[_Found, float]:
        found: list[_Found] = []
        failed: list[Exception] = []
        self._begun_s = time.perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(self._tick)
            try:
                found.append(await run_in_threadpool(self._timed))
            except Exception as error:  # noqa: BLE001  (raised below: a task group would wrap it)
                failed.append(error)
            finally:
                self._is_over = True
        if failed:
            raise failed[0]
        return found[0], round(self._longest_s * 1000, 2)

    def _timed(self) -> _Found:
        # The thread's own time: what waits for the machine or for the interpreter costs the program nothing.
        begun = time.thread_time()
        try:
            return self._work()
        finally:
            self.cost_s = time.thread_time() - begun

    async def _tick(self) -> None:
        # From before the thread began: it may have the interpreter before this has its first turn.
        before = self._begun_s
        while not self._is_over:
            await anyio.sleep(_TICK_S)
            now = time.perf_counter()
            self._longest_s = max(self._longest_s, now - before - _TICK_S)
            before = now
