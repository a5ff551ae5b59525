"""`@memory_tracked`: the function is what it was; its values, exceptions and ends pass through."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import traceback
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from tracked_support import async_generator, clean, coroutine, generator, last_of, nothing_kept, plain, run  # noqa: F401  (a fixture is not used by name)

from pytest_memleak.monitor.tracked import memory_of, memory_tracked

trims_tracebacks = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 keeps the first entry of a traceback")


# What a function was before it was decorated.


class Shop:
    @memory_tracked
    def method(self, count: int = 1) -> int:
        """Its own words."""
        return count

    @memory_tracked
    @classmethod
    def class_above(cls) -> type[Shop]:
        return cls

    @classmethod
    @memory_tracked
    def class_below(cls) -> type[Shop]:
        return cls

    @memory_tracked
    @staticmethod
    def static_above(value: int) -> int:
        return value

    @staticmethod
    @memory_tracked(name="static")
    def static_below(value: int) -> int:
        return value

    @memory_tracked
    async def coroutine(self) -> str:
        return "done"


def test_methods_of_every_kind_stay_what_they_are() -> None:
    shop: Any = Shop()
    assert [shop.method(3), shop.static_above(4), Shop.static_below(5)] == [3, 4, 5]
    assert shop.class_above() is Shop.class_below() is Shop
    assert asyncio.run(shop.coroutine()) == "done"
    for name in ("method", "class_above", "class_below", "static_above", "static_below", "coroutine"):
        assert getattr(shop, name).memory.calls == 1, name
    assert shop.method.__doc__ == "Its own words."
    assert memory_of(shop.method).name == f"{__name__}.Shop.method"
    assert memory_of(shop.static_below).name == "static"


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
@pytest.mark.parametrize("options", [None, {}, {"name": "mine", "log_above_bytes": 10, "collect": False}])
def test_a_decorated_function_looks_like_the_bare_one(function: Any, options: dict[str, Any] | None) -> None:
    tracked = memory_tracked(function) if options is None else memory_tracked(**options)(function)
    assert tracked is not function
    assert tracked.__wrapped__ is function
    for kind in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.isfunction,
        inspect.signature,
        inspect.getsourcelines,
    ):
        assert kind(tracked) == kind(function), kind
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__globals__"):
        assert getattr(tracked, name) == getattr(function, name), name


def test_partials_and_objects_that_are_called_are_tracked_too() -> None:
    class Greeting:
        def __call__(self, name: str) -> str:
            return f"hello {name}"

    tracked: Any = memory_tracked(functools.partial(Greeting(), "you"))
    assert tracked() == "hello you"
    assert memory_of(tracked).name.endswith("Greeting")


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: memory_tracked(3), "expects a function or a method, got 3"),
        (lambda: memory_tracked(Shop), "expects a function or a method, got <class"),
        (lambda: memory_tracked(property(lambda _: None)), "expects a function or a method, got <property"),
        (lambda: memory_tracked(name=3), "name expects text, got 3"),  # type: ignore[call-overload]
        (lambda: memory_tracked(log_above_bytes="1 MB"), "a whole number of bytes, got '1 MB'"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_be_tracked_is_refused_in_words(act: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        act()
    assert message in str(caught.value)


# Values, exceptions and ends pass through.


def echo() -> Generator[object, object, str]:
    got: object = "first"
    while got != "stop":
        try:
            got = yield got
        except ValueError as error:
            got = f"caught {error}"
    return "returned"


def test_a_generator_is_sent_to_thrown_into_and_returned_from() -> None:
    source = memory_tracked(echo)()
    assert next(source) == "first"
    assert source.send(2) == 2
    assert source.throw(ValueError("it")) == "caught it"
    with pytest.raises(StopIteration) as end:
        source.send("stop")
    assert end.value.value == "returned"


async def async_echo() -> Any:
    got: object = "first"
    while got != "stop":
        try:
            got = yield got
        except ValueError as error:
            await asyncio.sleep(0)
            got = f"caught {error}"


def test_an_async_generator_is_sent_to_thrown_into_and_closed() -> None:
    tracked: Any = memory_tracked(async_echo)

    async def main() -> None:
        source = tracked()
        assert await source.__anext__() == "first"
        assert await source.asend(2) == 2
        assert await source.athrow(ValueError("it")) == "caught it"
        with pytest.raises(StopAsyncIteration):
            await source.asend("stop")
        left = tracked()
        await left.__anext__()
        await left.aclose()

    asyncio.run(main())
    assert (memory_of(tracked).calls, memory_of(tracked).raised_calls) == (2, 0)


def test_a_generator_that_is_dropped_halfway_ends_its_call() -> None:
    closed: list[str] = []

    @memory_tracked
    def source() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append("closed")

    left: Any = source()
    next(left)
    del left
    gc.collect()
    assert (closed, memory_of(source).calls, memory_of(source).raised_calls) == (["closed"], 1, 0)
    never = source()
    del never
    assert memory_of(source).calls == 1


@pytest.mark.parametrize("result", [(1, 2), StopIteration(3), ValueError("kept"), None], ids=str)
def test_a_result_is_handed_on_as_it_is(result: object) -> None:
    @memory_tracked
    async def gives() -> object:
        return result

    assert asyncio.run(gives()) is result


def test_a_cancelled_call_ends_and_says_so() -> None:
    @memory_tracked
    async def sleeps() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(sleeps())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (memory_of(sleeps).calls, memory_of(sleeps).raised_calls) == (1, 1)
    assert last_of(sleeps).raised


def fails() -> None:
    raise ValueError("plain")


async def fails_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("coroutine")


def fails_in_a_generator() -> Iterator[int]:
    yield 1
    raise ValueError("generator")


async def fails_in_an_async_generator() -> AsyncIterator[int]:
    yield 1
    raise ValueError("async generator")


FAILING: list[Any] = [fails, fails_later, fails_in_a_generator, fails_in_an_async_generator]


def names_of(error: BaseException) -> list[str]:
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


@trims_tracebacks
@pytest.mark.parametrize("function", FAILING)
def test_a_traceback_is_that_of_the_bare_function(function: Any) -> None:
    found = []
    tracked = memory_tracked(function)
    for subject in (function, tracked):
        with pytest.raises(ValueError, match=r"^(plain|coroutine|generator|async generator)$") as caught:
            run(subject, 1)
        found.append(names_of(caught.value))
    assert found[0] == found[1]
    assert memory_of(tracked).raised_calls == 1


@pytest.mark.parametrize("function", FAILING)
def test_what_an_older_interpreter_keeps_in_a_traceback_hides_itself(function: Any) -> None:
    with pytest.raises(ValueError, match=r"plain|generator|coroutine") as caught:
        run(memory_tracked(function), 1)
    own = [
        entry
        for entry in _frames(caught.value.__traceback__)
        if "pytest_memleak/monitor" in entry.f_code.co_filename.replace("\\", "/")
    ]
    assert all(entry.f_locals.get("__tracebackhide__") for entry in own)
    assert len(own) <= (sys.version_info < (3, 11))


def _frames(entry: types.TracebackType | None) -> Iterator[types.FrameType]:
    while entry is not None:
        yield entry.tb_frame
        entry = entry.tb_next


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
def test_wrong_arguments_are_the_functions_own_complaint(function: Any) -> None:
    tracked = memory_tracked(function)
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) takes 0 positional arguments but 1 was given"):
        run(functools.partial(tracked, 1), 1)
    after = memory_tracked(clean)
    after()
    assert "another tracked call" not in last_of(after).shared_with
