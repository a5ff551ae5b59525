"""The place of a coroutine or a generator between its caller and itself, without a trace in tracebacks."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from pytest_memleak.monitor.calls import Call


class Stepwise:
    """What `await` and `yield from` drive in the place of a coroutine or a generator: each step is measured."""

    __slots__ = ("_call", "_inner", "_item", "_make")

    def __init__(self, call: Call, make: Callable[[], Any]) -> None:
        self._call = call
        self._make = make
        self._inner: Any = None
        self._item: Any = None

    def __await__(self) -> Stepwise:
        return self

    def __iter__(self) -> Stepwise:
        return self

    def __next__(self) -> Any:
        return self._step("send", None)

    def send(self, value: Any) -> Any:
        """Resume with a value."""
        return self._step("send", value)

    def throw(self, *error: Any) -> Any:
        """Resume with an exception."""
        return self._step("throw", *error)

    def close(self) -> None:
        """End it where it is."""
        if self._inner is not None:
            self._step("close")

    def _step(self, act: str, *given: Any) -> Any:
        self._call.begin()
        try:
            ended = self._advance(act, given)
        except BaseException:
            self._inner = None
            self._call.end()
            raise
        self._call.end()
        item, self._item = self._item, None
        if ended is StopIteration:
            raise StopIteration(item)
        if ended is not None:
            raise ended
        return item

    def _advance(self, act: str, given: tuple[Any, ...]) -> type[BaseException] | None:
        """Resume what is driven; how it ended, if it did.

        The coroutine and the exception that carried its result are not what the call kept: they are gone when
        this returns, and with it the frame object that every exception leaves behind in its frame.
        """
        try:
            if self._inner is None:
                # Within the measured step: its frame is freed at the end of the last one, within that.
                self._inner = self._make()
            self._item = getattr(self._inner, act)(*given)
        except StopIteration as stop:
            self._item = stop.value
            self._inner = None
            return StopIteration
        except StopAsyncIteration:
            self._inner = None
            return StopAsyncIteration
        return None


OWN_FILES: set[str] = {__file__}


def clear_away(error: BaseException) -> None:
    """Take the frames of this package off the top of a traceback, as far as the interpreter lets them go.

    A bare `raise` adds no frame of its own: from Python 3.11 on it goes on with the exception's own traceback.
    3.10 kept the first entry in its hands: that one stays, with `__tracebackhide__` in it.
    """
    head = error.__traceback__
    if head is None:
        return
    rest: types.TracebackType | None = head.tb_next
    while rest is not None and rest.tb_frame.f_code.co_filename in OWN_FILES:
        rest = rest.tb_next
    head.tb_next = rest
    error.__traceback__ = rest
