"""The two things a measurement asks of the outside: make calls, and rest.

A hunt is a generator that yields `Calls` and `Rest` and returns its result; the drivers here carry them out,
one in plain code, one inside the event loop that runs an async test. So the hunt is written once, and
clock, sleep and loop stay outside it.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Calls:
    """Make `count` calls, numbered from `first` on."""

    first: int
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rest:
    """Do nothing for so many seconds; 0 lets other threads and the event loop have one turn."""

    seconds: float


Steps = Generator["Calls | Rest", None, T]


def drive(steps: Steps[T], call: Callable[[int], object]) -> T:
    """Carry out a hunt with a sync call. What a call raises passes through after the hunt has cleaned up."""
    try:
        while True:
            # Only the hunt's own end is caught: a StopIteration of a call is the call's failure.
            try:
                step = next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Calls):
                for number in range(step.first, step.first + step.count):
                    call(number)
            else:
                time.sleep(step.seconds)
    finally:
        steps.close()


async def drive_async(steps: Steps[T], call: Callable[[int], Awaitable[object]]) -> T:
    """Carry out a hunt with an async call, inside the loop of the caller (asyncio or trio)."""
    sleep = _sleep_of_present_loop()
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Calls):
                for number in range(step.first, step.first + step.count):
                    await call(number)
            else:
                await sleep(step.seconds)
    finally:
        steps.close()


def _sleep_of_present_loop() -> Callable[[float], Awaitable[None]]:
    if runs_trio():
        import trio

        return trio.sleep
    import asyncio

    return asyncio.sleep


def runs_trio() -> bool:
    """Whether the caller runs inside trio; never imports it."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


class CallNumbers:
    """Hands out call numbers: each call of a measurement has its own, from 1 on."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made = 0

    def take(self, count: int) -> Calls:
        """The next `count` calls, counted as made."""
        first = self.made + 1
        self.made += count
        return Calls(first, count)
