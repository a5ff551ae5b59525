"""What may cost the program something: one at a time, for a bounded share of the time, and its stall told.

A thread of its own does not hide work from the event loop: the interpreter's lock is held in long stretches. So the
loop's longest stall is measured, in the loop, and is part of the answer.

That thread is none of the program's: those may all be taken by requests that hang, which is when somebody looks. And it
ends with its work, since the C library keeps some of what a thread has freed for that thread: in the program's forty
threads that adds up to a megabyte, which the next readings of the live heap would take for growth.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
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

        Raises Busy while another is done, or when the others have cost too much of late. Who stops waiting does not
        stop the work: until that is over, it is under way.
        """
        if not self._turn.acquire(blocking=False):
            raise Busy("another costly look at this process is under way", 1.0)
        watched = Watched(work, functools.partial(self._over, self._turn))
        try:
            self._account()
            watched.start()
        except BaseException:
            self._turn.release()
            raise
        return await watched.found()

    def _account(self) -> None:
        now = self._clock()
        self._left_s = min(_ADVANCE_S, self._left_s + (now - self._seen_s) * _SHARE)
        self._seen_s = now
        if self._left_s <= 0 and not self._is_free:
            wait_s = max(1.0, -self._left_s / _SHARE)
            raise Busy("the costly looks at this process have used their share of its time", wait_s)

    def _over(self, turn: threading.Lock, cost_s: float) -> None:
        self._left_s -= cost_s
        turn.release()


class Watched(Generic[_Found]):
    """Some work in a thread of its own, and how long the event loop stood still meanwhile."""

    def __init__(self, work: Callable[[], _Found], over: Callable[[float], object] = lambda _cost_s: None) -> None:
        """`over` is called in that thread, with the seconds of processor time that it took."""
        self._work = work
        self._over = over
        self._future: Future[_Found] = Future()
        self._longest_s = 0.0
        self._begun_s = 0.0
        # A daemon: a program that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, name="memleak-look", daemon=True)

    def start(self) -> None:
        """Begin. Raises Busy where the process may have no more threads."""
        self._begun_s = time.perf_counter()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise Busy(f"a look takes a thread, and none can be had here: {error}", 1.0) from error

    async def found(self) -> tuple[_Found, float]:
        """What the work gave, and the loop's longest stall in milliseconds; raises what the work raised."""
        # From before the thread began: it may have the interpreter before this has its first turn.
        before = self._begun_s
        while self._thread.is_alive():
            await anyio.sleep(_TICK_S)
            now = time.perf_counter()
            self._longest_s = max(self._longest_s, now - before - _TICK_S)
            before = now
        return self._future.result(), round(self._longest_s * 1000, 2)

    def _run(self) -> None:
        # The thread's own time: what waits for the machine or for the interpreter costs the program nothing.
        begun = time.thread_time()
        try:
            self._future.set_result(self._work())
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._future.set_exception(error)
        finally:
            self._over(time.thread_time() - begun)
