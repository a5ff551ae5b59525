"""`@memory_tracked`: the live memory that each call of a function adds, whatever kind of function it is.

    @app.get("/items")
    @memory_tracked
    async def items() -> list[Item]: ...

    items.memory.mean_bytes

A decorated function stays what it was: its signature, its kind, its place in a traceback.
"""

from __future__ import annotations

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, overload

from pytest_memleak.monitor import stepwise
from pytest_memleak.monitor.calls import REQUESTS, Call
from pytest_memleak.monitor.figures import FunctionFigures, FunctionMemory, LastCall

__all__ = [
    "FunctionFigures",
    "FunctionMemory",
    "LastCall",
    "memory_of",
    "memory_tracked",
    "records",
    "tracked_functions",
]

_Any = TypeVar("_Any")


class _Decorator(Protocol):
    def __call__(self, function: _Any, /) -> _Any: ...


_FUNCTIONS: Final[weakref.WeakSet[FunctionMemory]] = weakref.WeakSet()
_TURN: Final = threading.Lock()


def tracked_functions() -> tuple[FunctionMemory, ...]:
    """The figures of every tracked function that is still alive in this process, by name."""
    with _TURN:
        found = list(_FUNCTIONS)
    return tuple(sorted(found, key=lambda memory: memory.name))


def records() -> list[FunctionFigures]:
    """The figures of `tracked_functions()` at this moment, as frozen values."""
    return [memory.figures() for memory in tracked_functions()]


def memory_of(function: object) -> FunctionMemory:
    """`function.memory`, for type checkers: to them a decorated function is of the type that it was of.

    Raises TypeError for a function that is not tracked.
    """
    memory = getattr(function, "memory", None)
    if not isinstance(memory, FunctionMemory):
        raise TypeError(f"expects a function that memory_tracked decorates, got {function!r}")
    return memory


@overload
def memory_tracked(function: _Any, /) -> _Any: ...
@overload
def memory_tracked(
    *, name: str | None = None, log_above_bytes: int | None = None, collect: bool = False
) -> _Decorator: ...
def memory_tracked(
    function: Any = None, /, *, name: str | None = None, log_above_bytes: int | None = None, collect: bool = False
) -> Any:
    """Measure the live memory that each call of a function adds; bare, or with options.

    For plain functions, coroutine functions, generators, async generators and methods, above or below
    `@staticmethod` and `@classmethod`. The figures are at `function.memory` and in `tracked_functions()`, each
    call is in the log `pytest_memleak.monitor` (DEBUG). `name` is what it is called there; a call that added
    `log_above_bytes` or more is a warning. With `collect` the heap is collected before and after each step:
    garbage in cycles is then no growth, at the price of two full collections.

    A call beside which anything else ran is counted as shared, and its growth kept out of the mean. A step of a
    call costs two readings (0.3 ms and more on large heaps): not for functions that are called in a loop.
    Raises TypeError for what cannot be called, or for options of the wrong type.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"memory_tracked: name expects text, got {name!r}")
    if log_above_bytes is not None and (isinstance(log_above_bytes, bool) or not isinstance(log_above_bytes, int)):
        raise TypeError(f"memory_tracked: log_above_bytes expects a whole number of bytes, got {log_above_bytes!r}")
    options = functools.partial(_track, name=name, log_above_bytes=log_above_bytes, collect=bool(collect))
    return options if function is None else options(function)


def _track(function: Any, *, name: str | None, log_above_bytes: int | None, collect: bool) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        inner = _track(function.__func__, name=name, log_above_bytes=log_above_bytes, collect=collect)
        return type(function)(inner)
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"memory_tracked expects a function or a method, got {function!r}")
    memory = FunctionMemory(name or _name_of(function), log_above_bytes=log_above_bytes, collect=collect)
    tracked: Any = functools.wraps(function)(_placed(_wrapper(function, memory), function))
    tracked.memory = memory
    with _TURN:
        _FUNCTIONS.add(memory)
    REQUESTS.are_asked_for = True
    return tracked


def _name_of(function: Any) -> str:
    bare = function.func if isinstance(function, functools.partial) else function
    name = getattr(bare, "__qualname__", None) or type(bare).__qualname__
    return f"{getattr(bare, '__module__', None) or '?'}.{name}"


def _wrapper(function: Any, memory: FunctionMemory) -> Any:
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, memory)
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, memory)
    if inspect.isgeneratorfunction(function):
        made = _generator(function, memory)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            made = types.coroutine(made)
        return made
    return _plain(function, memory)


def _placed(wrapper: types.FunctionType, function: Any) -> types.FunctionType:
    """The wrapper among the function's own globals: FastAPI below 0.118 looks annotations up there.

    So a wrapper uses what it closes over, and no global of this module.
    """
    bare = inspect.unwrap(function)
    own = getattr(bare, "__globals__", None)
    if own is None:
        return wrapper
    return types.FunctionType(wrapper.__code__, own, wrapper.__name__, None, wrapper.__closure__)


def _plain(function: Callable[..., Any], memory: FunctionMemory) -> Any:
    begin, clear = Call, stepwise.clear_away

    def tracked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = begin(memory)
        call.begin()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end()
            call.finish()
            clear(error)
            raise
        call.end()
        call.finish([result])
        return result

    return tracked


def _coroutine(function: Callable[..., Any], memory: FunctionMemory) -> Any:
    begin, clear, drive, bound = Call, stepwise.clear_away, stepwise.Stepwise, functools.partial

    async def tracked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = begin(memory)
        try:
            result = await drive(call, bound(function, *args, **kwargs))
        except BaseException as error:
            call.finish()
            clear(error)
            raise
        call.finish([result])
        return result

    return tracked


def _generator(function: Callable[..., Any], memory: FunctionMemory) -> Any:
    begin, clear, drive, bound = Call, stepwise.clear_away, stepwise.Stepwise, functools.partial

    def tracked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = begin(memory)
        try:
            result = yield from drive(call, bound(function, *args, **kwargs))
        except BaseException as error:
            call.finish([] if isinstance(error, GeneratorExit) else None)
            clear(error)
            raise
        call.finish([result])
        return result

    return tracked


def _async_generator(function: Callable[..., Any], memory: FunctionMemory) -> Any:
    begin, clear, drive, bound = Call, stepwise.clear_away, stepwise.Stepwise, functools.partial

    async def tracked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = begin(memory)
        try:
            # What the loop keeps for a generator goes with it: its making and its end are steps too.
            call.begin()
            try:
                source = function(*args, **kwargs)
            finally:
                call.end()
            item = await drive(call, source.__anext__)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await drive(call, source.aclose)
                    raise
                except BaseException as error:  # noqa: BLE001  (whatever it is, it is the generator's)
                    item = await drive(call, bound(source.athrow, error))
                else:
                    item = await drive(call, bound(source.asend, sent))
        except StopAsyncIteration:
            pass
        except BaseException as error:
            call.finish([] if isinstance(error, GeneratorExit) else None)
            clear(error)
            raise
        call.begin()
        source = None
        call.end()
        call.finish([])

    return tracked


stepwise.OWN_FILES.add(__file__)
