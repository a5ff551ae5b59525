"""What may cost the program something: one at a time, for a bounded share of the time, and its stall told.

A thread of its own does not hide work from the event loop: the interpreter's lock is held in long stretches. So the
loop's longest stall is measured, in the loop, and is part of the answer.

That thread is none of the program's: those may all be taken by requests that hang, which is when somebody looks. And it
is always the same one, since the C library keeps some of what a thread has freed for that thread: in the program's
forty that added up to a megabyte, which the readings of the live heap would show as growth.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

import anyio

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


class LookThread:
    """The one thread in which a process looks at itself. It begins with the first look."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A forked child begins anew."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memleak-look")

    def end(self) -> None:
        """Let the thread end with what it does; another look begins another."""
        self._executor.shutdown(wait=False)
        self.forget()

    def begin(self, work: Callable[[], _Found]) -> Look[_Found]:
        """Do it there, in its turn. Raises Busy where the process may have no more threads."""
        begun_s = time.perf_counter()
        try:
            return Look(self._executor.submit(work), begun_s)
        except RuntimeError as error:
            self.end()  # else the next look would find this one before it
            raise Busy(f"a look takes a thread, and none can be had here: {error}", 1.0) from error


class Look(Generic[_Found]):
    """One that is under way. Who stops waiting for it does not stop it."""

    def __init__(self, future: Future[_Found], begun_s: float) -> None:
        """`begun_s`: from before the thread began, which may have the interpreter before anybody waits."""
        self._future = future
        self._begun_s = begun_s

    async def found(self) -> tuple[_Found, float]:
        """What it found, and by how many milliseconds it stalled the event loop at most; raises what it raised."""
        before, longest_s = self._begun_s, 0.0
        while not self._future.done():
            await anyio.sleep(_TICK_S)
            now = time.perf_counter()
            longest_s = max(longest_s, now - before - _TICK_S)
            before = now
        return self._future.result(), round(longest_s * 1000, 2)


class Costly:
    """The budget of one process. Without one (`is_free`), only one at a time."""

    def __init__(
        self, thread: LookThread, clock: Callable[[], float] = time.monotonic, *, is_free: bool = False
    ) -> None:
        self._thread = thread
        self._clock = clock
        self._is_free = is_free
        self.forget()

    def forget(self) -> None:
        """A forked child begins anew."""
        self._turn = threading.Lock()
        self._left_s = _ADVANCE_S
        self._seen_s = self._clock()

    async def run(self, work: Callable[[], _Found]) -> tuple[_Found, float]:
        """What it found, and by how many milliseconds it stalled the event loop at most.

        Raises Busy while another is done, or when the others have cost too much of late.
        """
        if not self._turn.acquire(blocking=False):
            raise Busy("another costly look at this process is under way", 1.0)
        try:
            self._account()
            look = self._thread.begin(functools.partial(self._look, work, self._turn))
        except Busy:
            self._turn.release()
            raise
        return await look.found()

    def _account(self) -> None:
        now = self._clock()
        self._left_s = min(_ADVANCE_S, self._left_s + (now - self._seen_s) * _SHARE)
        self._seen_s = now
        if self._left_s <= 0 and not self._is_free:
            wait_s = max(1.0, -self._left_s / _SHARE)
            raise Busy("the costly looks at this process have used their share of its time", wait_s)

    def _look(self, work: Callable[[], _Found], turn: threading.Lock) -> _Found:
        # The thread's own time: what waits for the machine or for the interpreter costs the program nothing.
        begun = time.thread_time()
        try:
            return work()
        finally:
            self._left_s -= time.thread_time() - begun
            # Here, since nobody may wait for it any more.
            turn.release()
