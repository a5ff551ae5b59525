"""`@memory_tracked`: what a call keeps to the byte, what it shares said so, and the function none the worse."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import sys
import threading
import time
import traceback
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from pytest_memleak.monitor import alone, calls
from pytest_memleak.monitor.figures import FunctionMemory, LastCall
from pytest_memleak.monitor.tracked import memory_of, memory_tracked, records, tracked_functions
from pytest_memleak.probes import live

needs_statistics = pytest.mark.skipif(bool(live.pymalloc_probe()[1]), reason="the statistics cannot be read here")
needs_clocks = pytest.mark.skipif(not alone.Witness.fine, reason="the processor's clocks move in ticks here")
trims_tracebacks = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 keeps the first entry of a traceback")

BIG = 100_000
"""Bytes of a bytearray: its block in the C heap is 16 B aligned, its object 64 B (3.10 to 3.13)."""

KEPT: list[object] = [None] * 1_000
"""Filled in place: a list that grows would add its own growth now and then."""

COUNT = 0


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    global COUNT  # noqa: PLW0603
    COUNT = 0
    gc.collect()
    yield
    KEPT[:] = [None] * len(KEPT)


def keep(thing: object) -> None:
    global COUNT  # noqa: PLW0603
    KEPT[COUNT % len(KEPT)] = thing
    COUNT += 1


def plain() -> None:
    keep(bytearray(BIG))


async def coroutine() -> None:
    await asyncio.sleep(0)
    keep(bytearray(BIG))
    await asyncio.sleep(0)


def generator() -> Iterator[int]:
    yield 1
    keep(bytearray(BIG))
    yield 2


async def async_generator() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(0)
    keep(bytearray(BIG))
    yield 2


def clean() -> None:
    bytearray(BIG)


async def clean_coroutine() -> None:
    bytearray(BIG)
    await asyncio.sleep(0)


def clean_generator() -> Iterator[int]:
    yield bytearray(BIG)[0]


async def clean_async_generator() -> AsyncIterator[int]:
    yield bytearray(BIG)[0]


async def drain(source: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in source]


def run(tracked: Any, times: int = 5) -> None:
    """Call a function of any kind, to its end, one call after another."""

    async def go() -> None:
        for _ in range(times):
            await (drain(tracked()) if inspect.isasyncgenfunction(tracked) else tracked())

    if inspect.iscoroutinefunction(tracked) or inspect.isasyncgenfunction(tracked):
        asyncio.run(go())
        return
    for _ in range(times):
        done = tracked()
        if inspect.isgenerator(done):
            list(done)


def settled(tracked: Any) -> FunctionMemory:
    """The figures of calls after the first ones, in which the interpreter makes what it keeps for a function."""
    memory: FunctionMemory = tracked.memory
    run(tracked)
    for _ in range(50):
        memory.reset()
        run(tracked)
        if memory.exact_calls == memory.calls:
            break  # else a thread of somebody's in this process had something to do meanwhile
    return memory


def last_of(tracked: object) -> LastCall:
    memory = tracked if isinstance(tracked, FunctionMemory) else memory_of(tracked)
    last = memory.last
    assert last is not None
    return last


@needs_statistics
@needs_clocks
@pytest.mark.parametrize(
    "function, kept",
    [
        (plain, BIG),
        (coroutine, BIG),
        (generator, BIG),
        (async_generator, BIG),
        (clean, 0),
        (clean_coroutine, 0),
        (clean_generator, 0),
        (clean_async_generator, 0),
    ],
)
def test_a_call_beside_which_nothing_ran_is_weighed_exactly(function: Any, kept: int) -> None:
    memory = settled(memory_tracked(function))
    assert last_of(memory).shared_with == ()
    assert (memory.calls, memory.exact_calls, memory.shared_calls, memory.raised_calls) == (5, 5, 0, 0)
    last = last_of(memory)
    assert last.bytes is not None
    assert kept <= last.bytes <= kept + 100
    # 3.10 enlarges what it keeps for its frames once in a while.
    assert memory.mean_bytes is not None
    assert kept <= memory.mean_bytes <= kept + 200


@needs_statistics
def test_small_objects_are_weighed_to_the_byte() -> None:
    memory = settled(memory_tracked(lambda: keep(object())))
    assert last_of(memory).bytes == 16


@needs_statistics
@needs_clocks
def test_a_caller_is_charged_for_what_it_calls_and_shares_nothing_with_it() -> None:
    inner = memory_tracked(plain)

    @memory_tracked
    def outer() -> None:
        inner()

    memory = settled(outer)
    assert memory.exact_calls == 5
    assert memory_of(inner).calls >= 10
    assert BIG <= (last_of(memory).bytes or 0) <= BIG + 100


def rows() -> list[dict[str, object]]:
    return [{"number": number + 1_000, "words": f"row {number} of them"} for number in range(2_000)]


class Page:
    def __init__(self) -> None:
        self.rows = rows()


@needs_statistics
@needs_clocks
@pytest.mark.parametrize(
    "make, returns_something",
    [
        (lambda: bytearray(BIG), True),
        (lambda: bytes(BIG), True),
        (rows, True),
        (lambda: (rows(), rows()), True),
        (lambda: Page(), True),  # noqa: PLW0108  (a class is nothing to decorate)
        (lambda: None, False),
        (lambda: KEPT, False),
    ],
    ids=["bytearray", "bytes", "rows", "pair of rows", "object", "nothing", "what was there"],
)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_result_that_only_the_caller_holds_is_told_from_what_is_kept(
    make: Callable[[], object], returns_something: bool, kind: str
) -> None:
    async def later() -> object:
        return make()

    returned: Any = memory_tracked(make) if kind == "plain" else memory_tracked(later)

    @memory_tracked
    def kept() -> object:
        thing = make()
        keep(thing)
        return thing

    memory = settled(returned)
    assert (memory.exact_calls, last_of(memory).shared_with) == (5, ())
    assert memory.mean_bytes is not None
    assert memory.returned_mean_bytes is not None
    if returns_something:
        # Of the last call's dicts, 80 and their keys wait in the interpreter's free lists: 15 kB that it takes again.
        assert memory.returned_mean_bytes == pytest.approx(memory.mean_bytes, rel=0.1)
    else:
        assert memory.returned_mean_bytes == 0
    # The same things, in somebody's cache, are nobody's to take away.
    assert settled(kept).returned_mean_bytes == 0


@needs_statistics
def test_what_another_task_keeps_while_a_call_waits_is_not_its_own() -> None:
    @memory_tracked
    async def waits(gate: asyncio.Event) -> None:
        await gate.wait()

    @memory_tracked
    async def keeps(gate: asyncio.Event) -> None:
        await asyncio.sleep(0)
        plain()
        gate.set()

    async def main() -> None:
        for _ in range(3):
            gate = asyncio.Event()
            await asyncio.gather(waits(gate), keeps(gate))

    asyncio.run(main())
    assert "another tracked call" in last_of(waits).shared_with
    assert (memory_of(waits).shared_calls, memory_of(waits).mean_bytes) == (3, None)
    assert abs(last_of(waits).bytes or 0) < 2_000
    # Its own steps went uninterrupted: the other only waited.
    assert BIG <= (last_of(keeps).bytes or 0) <= BIG + 2_000


@needs_statistics
@needs_clocks
def test_tasks_that_never_wait_for_one_another_share_nothing() -> None:
    @memory_tracked
    async def at_once() -> None:
        plain()

    async def main() -> None:
        for _ in range(2):
            await asyncio.gather(*(at_once() for _ in range(4)))

    asyncio.run(main())
    assert memory_of(at_once).calls == 8
    assert "another tracked call" not in last_of(at_once).shared_with


@needs_clocks
def test_what_another_thread_keeps_meanwhile_is_in_no_figure() -> None:
    go, done, stop = threading.Event(), threading.Event(), threading.Event()

    def beside() -> None:
        while go.wait() and not stop.is_set():
            go.clear()
            plain()
            done.set()

    thread = threading.Thread(target=beside)
    thread.start()

    @memory_tracked
    def waits() -> None:
        done.clear()
        go.set()
        assert done.wait(30)

    @memory_tracked
    def alone_again() -> None:
        """The thread is there yet, and waits."""

    try:
        for _ in range(20):
            waits()
        assert (memory_of(waits).exact_calls, memory_of(waits).shared_calls) == (0, 20)
        assert last_of(waits).bytes is None
        assert last_of(waits).shared_with == ("another thread",)
        assert (
            memory_of(waits).mean_bytes is memory_of(waits).shared_mean_bytes is memory_of(waits).largest_bytes is None
        )
        # It may take a while until it waits again.
        until = time.monotonic() + 30
        while not memory_of(alone_again).exact_calls and time.monotonic() < until:
            alone_again()
        assert memory_of(alone_again).exact_calls
    finally:
        stop.set()
        go.set()
        thread.join()


def test_a_tracked_call_in_another_thread_that_only_waits_is_shared_all_the_same() -> None:
    entered, leave = threading.Event(), threading.Event()

    @memory_tracked
    def waits() -> None:
        entered.set()
        assert leave.wait(30)

    thread = threading.Thread(target=waits)
    thread.start()
    assert entered.wait(30)
    beside = memory_tracked(clean)
    beside()
    leave.set()
    thread.join()
    assert "another tracked call" in last_of(beside).shared_with
    assert "another tracked call" in last_of(waits).shared_with
    run(beside, 1)
    assert "another tracked call" not in last_of(beside).shared_with


@pytest.mark.parametrize(
    "before, after, inside, shared",
    [
        ((7, 0), (7, 0), False, False),
        ((7, 1), (7, 1), True, False),
        ((7, 0), (8, 0), False, True),
        ((7, 1), (7, 0), False, True),
        ((7, 2), (7, 1), True, True),
    ],
    ids=["none", "its own", "one began", "one was in flight", "one beside its own"],
)
def test_requests_that_had_a_turn_while_a_call_waited_are_named(
    before: tuple[int, int], after: tuple[int, int], inside: bool, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, at_once = memory_tracked(clean_coroutine), memory_tracked(clean)
    said = iter([before, after])
    monkeypatch.setattr(calls.REQUESTS, "seen", lambda: next(said))

    async def request() -> None:
        calls.IN_REQUEST.set(inside)
        await waits()

    asyncio.run(request())
    assert ("another request" in last_of(waits).shared_with) is shared
    # A call in one step gives no other request of its thread a turn.
    monkeypatch.setattr(calls.REQUESTS, "seen", lambda: (7, 5))
    at_once()
    assert "another request" not in last_of(at_once).shared_with


class Ring:
    def __init__(self) -> None:
        self.weight = bytearray(BIG)
        self.me = self


@needs_statistics
@needs_clocks
@pytest.mark.parametrize("collect, kept", [(True, 0), (False, BIG)])
def test_garbage_in_cycles_is_growth_until_it_is_collected(collect: bool, kept: int) -> None:
    def rings() -> None:
        Ring()

    tracked = memory_tracked(collect=collect)(rings)
    gc.disable()
    try:
        memory = settled(tracked)
    finally:
        gc.enable()
    assert memory.exact_calls == 5
    assert memory.mean_bytes is not None
    # A full collection empties the interpreter's free lists too.
    assert abs(memory.mean_bytes - kept) <= 4_000


@needs_clocks
def test_a_collection_that_frees_others_garbage_spoils_the_figure() -> None:
    @memory_tracked
    def collects() -> None:
        gc.collect()

    Ring()
    collects()
    assert "a garbage collection" in last_of(collects).shared_with
    assert last_of(collects).bytes is None


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


# The figures, their list and the log.


def test_the_list_of_tracked_functions_keeps_none_of_them_alive() -> None:
    def local() -> None:
        """Short-lived."""

    tracked: Any = memory_tracked(name="local of this test")(local)
    assert "local of this test" in [memory.name for memory in tracked_functions()]
    tracked()
    (found,) = [record for record in records() if record.name == "local of this test"]
    assert (found.calls, found.exact_calls + found.shared_calls, found.last) == (1, 1, tracked.memory.last)
    watch = weakref.ref(tracked.memory)
    del tracked
    assert watch() is None
    assert "local of this test" not in [memory.name for memory in tracked_functions()]


def test_figures_can_be_read_before_the_first_call_and_after_a_reset() -> None:
    tracked = memory_tracked(plain)
    for _ in range(2):
        memory = memory_of(tracked)
        assert (memory.calls, memory.exact_calls, memory.shared_calls) == (0, 0, 0)
        assert (memory.mean_bytes, memory.largest_bytes, memory.shared_mean_bytes, memory.last) == (None,) * 4
        assert str(memory) == f"{__name__}.plain: 0 calls, 0 exact"
        tracked()
        assert memory.calls == 1
        memory.reset()


def test_many_threads_lose_no_call() -> None:
    tracked = memory_tracked(clean)
    threads = [threading.Thread(target=run, args=(tracked, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory = memory_of(tracked)
    assert memory.calls == memory.exact_calls + memory.shared_calls == 200


@needs_statistics
@needs_clocks
@pytest.mark.parametrize("limit, level", [(None, "DEBUG"), (BIG * 2, "DEBUG"), (BIG // 2, "WARNING")])
def test_each_call_is_in_the_log_and_a_large_one_is_a_warning(
    limit: int | None, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = memory_tracked(name="shop.items", log_above_bytes=limit)(plain)
    settled(tracked)
    with caplog.at_level(logging.DEBUG, logger="pytest_memleak.monitor"):
        settled(tracked)
    assert (caplog.records[-1].name, caplog.records[-1].levelname) == ("pytest_memleak.monitor", level)
    assert caplog.records[-1].getMessage() == "shop.items: 100 kB of live memory in this call (exact)"


def test_nothing_grows_with_the_calls() -> None:
    tracked = memory_tracked(clean)
    run(tracked, 50)
    gc.collect()
    before = sys.getallocatedblocks()
    run(tracked, 500)
    gc.collect()
    assert sys.getallocatedblocks() - before < 100


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    steps = alone.HERE.steps
    steps.running += 1
    try:
        alone.HERE.__init__()  # type: ignore[misc]
        after = memory_tracked(clean)
        after()
        assert "another tracked call" not in last_of(after).shared_with
    finally:
        steps.running -= 1


def test_clocks_that_move_in_ticks_make_every_call_beside_a_thread_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone.Witness, "fine", False)
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    tracked = memory_tracked(clean)
    try:
        tracked()
    finally:
        leave.set()
        thread.join()
    assert "another thread" in last_of(tracked).shared_with


@pytest.mark.parametrize("ticks, fine", [((0, 0, 10_000_000), False), ((600, 700, 650), True)])
def test_the_grain_of_a_clock_is_found(ticks: tuple[int, ...], fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]

    def clock() -> int:
        now[0] += ticks[now[0] % len(ticks)]
        return now[0]

    monkeypatch.setattr(time, "thread_time_ns", clock)
    assert alone.clocks_are_fine() is fine
