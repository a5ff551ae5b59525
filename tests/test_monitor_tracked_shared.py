"""`@memory_tracked`: a call beside which something else ran says so."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc

import pytest
from tracked_support import (  # noqa: F401  (a fixture is not used by name)
    BIG,
    clean,
    clean_coroutine,
    last_of,
    needs_clocks,
    needs_statistics,
    nothing_kept,
    plain,
    run,
)

from pytest_memleak.monitor import alone, calls
from pytest_memleak.monitor.live import LIVE, Live, Traced
from pytest_memleak.monitor.tracked import memory_of, memory_tracked


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


def test_requests_say_that_they_are_some_once_a_function_is_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls.REQUESTS, "are_asked_for", False)
    memory_tracked(clean)
    assert calls.REQUESTS.are_asked_for


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


@pytest.mark.parametrize("when", ["before", "inside", "till inside"])
def test_no_figure_is_made_while_allocations_are_traced(when: str) -> None:
    @memory_tracked
    def traced() -> None:
        plain()
        if when == "inside":
            tracemalloc.start()
        elif when == "till inside":
            tracemalloc.stop()

    traced()
    tracemalloc.stop()
    memory_of(traced).reset()
    if when != "inside":
        tracemalloc.start()
    try:
        traced()
    finally:
        tracemalloc.stop()
    memory = memory_of(traced)
    assert "tracemalloc" in last_of(traced).shared_with
    assert last_of(traced).bytes is None
    assert (memory.exact_calls, memory.mean_bytes, memory.shared_mean_bytes) == (0, None, None)
    traced()
    assert ("tracemalloc" in last_of(traced).shared_with) is (when == "inside")
    tracemalloc.stop()


def test_the_first_reading_may_be_wanted_while_allocations_are_traced() -> None:
    live = Live()
    tracemalloc.start()
    try:
        with pytest.raises(Traced):
            live.now()
    finally:
        tracemalloc.stop()
    # Else the statistics would be taken for broken, for good.
    assert live.now() > 1_000_000
    assert live.caveats == LIVE.caveats
