"""One tracked call, measured step by step.

A plain function is one step. A coroutine or a generator is a step from each resumption to the next suspension:
what other tasks do in between is not its doing, and is not in the sum.
"""

from __future__ import annotations

import gc
import threading
from array import array
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Final

from pytest_memleak.monitor import alone
from pytest_memleak.monitor.figures import FunctionMemory
from pytest_memleak.monitor.live import LIVE, Traced
from pytest_memleak.monitor.outcome import owned_bytes

_CURRENT: Final[ContextVar[Call | None]] = ContextVar("pytest_memleak_call", default=None)
"""The tracked call that this code runs in; set during its steps only."""


class Requests:
    """How whoever counts requests tells of them: `REQUESTS.seen = ...`."""

    __slots__ = ("are_asked_for", "seen")

    def __init__(self) -> None:
        self.are_asked_for = False
        """Whether any function is tracked: else no request has to say that it is one."""

        self.seen: Callable[[], tuple[int, int]] | None = None
        """How many have begun in this process, and how many are in flight."""

    def now(self) -> tuple[int, int]:
        """How many have begun, and how many are in flight beside the one that asks; 0 where nobody counts."""
        begun, in_flight = self.seen() if self.seen is not None else (0, 0)
        return begun, max(0, in_flight - IN_REQUEST.get())


REQUESTS: Final = Requests()

IN_REQUEST: Final[ContextVar[bool]] = ContextVar("pytest_memleak_in_request", default=False)
"""Whether this code serves a request that is counted."""


class Call:
    """One call of a tracked function: `begin` and `end` around each of its steps, `finish` at the end."""

    __slots__ = ("_collect", "_expected", "_memory", "_numbers", "_parent", "_steps", "_thread", "_token", "_witness")

    def __init__(self, memory: FunctionMemory) -> None:
        self._memory = memory
        self._witness = alone.Witness()
        # Before the step, the sum of the steps, why it is shared, steps, requests: begun before, others in flight.
        self._numbers = array("q", bytes(6 * 8))
        self._steps: alone.Steps | None = None
        self._expected = 0
        self._parent: Call | None = None
        self._thread = 0
        self._token: Token[Call | None] | None = None
        self._collect = memory.collect

    def begin(self) -> None:
        """A step begins."""
        steps = self._steps
        if steps is None:
            steps = self._steps = alone.HERE.steps
            self._enter(steps)
        with steps.turn:
            steps.begun += 1
            steps.running += 1
            call: Call | None = self
            while call is not None:
                call._expected += 1
                call = call._parent
        self._numbers[3] += 1
        self._thread = threading.get_ident()
        self._token = _CURRENT.set(self)
        self._witness.look()
        # After the look: what it made and dropped lies in free lists, which a collection empties.
        if self._collect:
            gc.collect()
        self._numbers[0] = self._read()

    def end(self) -> None:
        """The step is over."""
        spoilt = not self._collect and self._witness.collected()
        if self._collect:
            gc.collect()
        now = self._read()
        numbers = self._numbers
        numbers[1] += now - numbers[0]
        if self._witness.others():
            numbers[2] |= alone.THREAD
        if spoilt:
            numbers[2] |= alone.COLLECTION
        token, self._token = self._token, None
        if token is not None:
            _CURRENT.reset(token)
        self._thread = 0
        if self._steps is not None:
            with self._steps.turn:
                self._steps.running -= 1

    def finish(self, results: list[object] | None = None) -> None:
        """The call is over, with its result in a list; None where it raised. One that never began is not counted."""
        steps, self._parent = self._steps, None
        if steps is None:
            return
        numbers = self._numbers
        if steps.begun != self._expected:
            numbers[2] |= alone.CALL
        # A call in one step gave no other coroutine a turn; of other threads the clocks know.
        if numbers[3] > 1 and (numbers[5] or REQUESTS.now()[0] != numbers[4]):
            numbers[2] |= alone.REQUEST
        self._steps = None
        returned = None if results is None else owned_bytes(results) if not numbers[2] else 0
        self._memory.add(numbers[1], numbers[2], numbers[3], returned)

    def _enter(self, steps: alone.Steps) -> None:
        parent = _CURRENT.get()
        with steps.turn:
            if parent is not None and parent._steps is steps:
                self._parent = parent
            # Who called this one, in this thread, is no other: it is charged for what it calls.
            callers, me, call = 0, threading.get_ident(), self._parent
            while call is not None:
                callers += call._thread == me
                call = call._parent
            if steps.running > callers:
                self._numbers[2] |= alone.CALL
            self._expected = steps.begun
        self._numbers[4], self._numbers[5] = REQUESTS.now()

    def _read(self) -> int:
        try:
            return LIVE.now()
        except Traced:
            self._numbers[2] |= alone.TRACING
            return 0
        except OSError:  # no memory even for the statistics: the call itself must not fail for that
            self._numbers[2] |= alone.UNREAD
            return 0
