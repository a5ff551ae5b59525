"""The gate of a worker: requests are held, let through one by one, and never stuck."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from agent_support import App

from pytest_memleak.agent.traffic import Traffic


async def held(traffic: Traffic, count: int) -> None:
    while traffic.held != count:
        await asyncio.sleep(0.001)


async def raw(traffic: Traffic, app: App | None = None) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)

    await traffic.pass_through(app or nothing, {"type": "http", "method": "GET"}, None, None)


@pytest.fixture
def bare() -> Traffic:
    made = Traffic()
    made.on_start = lambda: None
    return made


def test_a_closed_gate_holds_what_comes_and_an_open_one_lets_it_pass(bare: Traffic) -> None:
    async def scene() -> None:
        bare.close()
        tasks = [asyncio.create_task(raw(bare)) for _ in range(5)]
        await held(bare, 5)
        assert (bare.in_flight, bare.finished) == (0, {})
        assert bare.wait_until_empty(0)
        bare.open()
        await asyncio.gather(*tasks)
        assert (bare.held, bare.in_flight) == (0, 0)

    asyncio.run(scene())
    assert bare.finished == {"GET (no route)": 5}


def test_the_worker_is_empty_when_the_last_request_inside_is_over(bare: Traffic) -> None:
    async def scene() -> None:
        over = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await over.wait()

        inside = [asyncio.create_task(raw(bare, slow)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert bare.in_flight == 3
        bare.close()
        assert not bare.wait_until_empty(0)
        over.set()
        await asyncio.gather(*inside)
        assert bare.wait_until_empty(0)
        bare.open()

    asyncio.run(scene())


@pytest.mark.parametrize("admitted", [1, 4, 10])
def test_so_many_are_admitted_and_the_gate_closes_behind_them(bare: Traffic, admitted: int) -> None:
    async def scene() -> None:
        bare.close()
        tasks = [asyncio.create_task(raw(bare)) for _ in range(10)]
        await held(bare, 10)
        bare.open(admitted=admitted)
        while sum(bare.finished.values()) < admitted:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert sum(bare.finished.values()) == admitted
        assert bare.held == 10 - admitted
        late = asyncio.create_task(raw(bare))
        await held(bare, 11 - admitted)
        assert bare.wait_until_empty(0)
        bare.open()
        await asyncio.gather(*tasks, late)

    asyncio.run(scene())
    assert bare.finished == {"GET (no route)": 11}


def test_those_who_come_later_are_admitted_too(bare: Traffic) -> None:
    async def scene() -> None:
        bare.open(admitted=3)
        tasks = [asyncio.create_task(raw(bare)) for _ in range(8)]
        await held(bare, 5)
        assert bare.finished == {"GET (no route)": 3}
        bare.open(admitted=2)
        await held(bare, 3)
        bare.open()
        await asyncio.gather(*tasks)

    asyncio.run(scene())
    assert bare.finished == {"GET (no route)": 8}


def test_a_request_that_comes_while_the_gate_opens_is_never_stuck(bare: Traffic) -> None:
    over = threading.Event()

    def reader() -> None:
        # On a busy machine a turn may take 25 ms, for the threads wait for each other's time slices.
        enough = time.monotonic() + 10
        for turn in range(2_000):
            if time.monotonic() > enough:
                break
            bare.close()
            bare.wait_until_empty(0.001)
            bare.open(admitted=3 if turn % 5 == 0 else None)
            if turn % 5 == 0:
                time.sleep(0.0002)
                bare.open()
        bare.open()
        over.set()

    async def user() -> int:
        made = 0
        while not over.is_set():
            await raw(bare)
            made += 1
        return made

    async def scene() -> list[int]:
        thread = threading.Thread(target=reader)
        thread.start()
        made = await asyncio.wait_for(asyncio.gather(*(user() for _ in range(20))), timeout=60)
        thread.join()
        return made

    before = sys.getswitchinterval()
    # The threads change places in the middle of everything.
    sys.setswitchinterval(1e-5)
    try:
        made = asyncio.run(scene())
    finally:
        sys.setswitchinterval(before)
    assert min(made) > 0
    assert bare.finished == {"GET (no route)": sum(made)}
    assert (bare.held, bare.in_flight) == (0, 0)


def test_a_request_that_is_cancelled_at_the_gate_is_gone(bare: Traffic) -> None:
    async def scene() -> None:
        bare.close()
        waiting = asyncio.create_task(raw(bare))
        await held(bare, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert bare.held == 0
        bare.open()
        await raw(bare)

    asyncio.run(scene())
    assert bare.finished == {"GET (no route)": 1}


def test_opening_outlives_a_loop_that_was_closed(bare: Traffic) -> None:
    async def scene() -> None:
        bare.close()
        task = asyncio.create_task(raw(bare))
        await held(bare, 1)
        # As a server that is killed: nobody ever wakes who waits.
        loop_and_future = bare._waiting[0]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bare._waiting.append(loop_and_future)

    asyncio.run(scene())
    bare.open()
    assert bare.held == 0
