"""The drivers: calls numbered without a gap, rests taken, exceptions passed on after the clean-up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import trio

from pytest_memleak.workloads.steps import CallNumbers, Calls, Rest, Steps, drive, drive_async, runs_trio

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


def run_asyncio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main())


def run_trio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return trio.run(main)


in_each_loop = pytest.mark.parametrize("run", [run_asyncio, run_trio], ids=["asyncio", "trio"])


class Hunt:
    """A hunt that notes how it went and whether it was cleaned up."""

    def __init__(self, *asked: Calls | Rest) -> None:
        self.asked = asked
        self.cleaned_up = False

    def __call__(self) -> Steps[str]:
        try:
            yield from self.asked
        finally:
            self.cleaned_up = True
        return "verdict"


class Boom(Exception):
    pass


def fail_on_second(number: int) -> None:
    if number == 2:
        raise Boom


async def afail_on_second(number: int) -> None:
    fail_on_second(number)


def test_calls_are_made_with_the_numbers_that_were_asked_for() -> None:
    made: list[int] = []
    hunt = Hunt(Calls(1, 3), Rest(0), Calls(4, 2), Calls(6, 0))
    assert drive(hunt(), made.append) == "verdict"
    assert made == [1, 2, 3, 4, 5]
    assert hunt.cleaned_up


def test_a_rest_sleeps_for_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    drive(Hunt(Rest(0.25), Calls(1, 1), Rest(0))(), lambda number: None)
    assert slept == [0.25, 0]


def test_a_hunt_sees_calls_done_before_it_goes_on() -> None:
    made: list[int] = []

    def hunt() -> Steps[list[int]]:
        seen = []
        for first in (1, 11):
            yield Calls(first, 2)
            seen.append(len(made))
        return seen

    assert drive(hunt(), made.append) == [2, 4]


def test_what_a_call_raises_passes_through_after_the_hunt_has_cleaned_up() -> None:
    hunt = Hunt(Calls(1, 3))
    with pytest.raises(Boom):
        drive(hunt(), fail_on_second)
    assert hunt.cleaned_up


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_even_what_ends_the_program_lets_the_hunt_clean_up(raised: type[BaseException]) -> None:
    hunt = Hunt(Calls(1, 1))

    def call(number: int) -> None:
        raise raised

    with pytest.raises(raised):
        drive(hunt(), call)
    assert hunt.cleaned_up


def test_what_the_hunt_itself_raises_passes_through() -> None:
    def hunt() -> Steps[None]:
        yield Calls(1, 1)
        raise Boom

    with pytest.raises(Boom):
        drive(hunt(), lambda number: None)


@in_each_loop
def test_async_calls_are_made_with_the_numbers_that_were_asked_for(run: Run) -> None:
    made: list[int] = []
    hunt = Hunt(Calls(1, 3), Rest(0), Calls(4, 2), Rest(0.001))

    async def call(number: int) -> None:
        made.append(number)

    async def main() -> str:
        return await drive_async(hunt(), call)

    assert run(main) == "verdict"
    assert made == [1, 2, 3, 4, 5]
    assert hunt.cleaned_up


@in_each_loop
def test_what_an_async_call_raises_passes_through_after_the_hunt_has_cleaned_up(run: Run) -> None:
    hunt = Hunt(Calls(1, 3))

    async def main() -> None:
        await drive_async(hunt(), afail_on_second)

    with pytest.raises(Boom):
        run(main)
    assert hunt.cleaned_up


@in_each_loop
def test_an_async_hunt_knows_the_loop_that_runs_it(run: Run) -> None:
    async def main() -> bool:
        return runs_trio()

    assert run(main) is (run is run_trio)


def test_outside_of_any_loop_nothing_runs_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not runs_trio()
    monkeypatch.delitem(sys.modules, "trio")
    assert not runs_trio()
    assert "trio" not in sys.modules


def test_a_rest_of_zero_gives_other_tasks_of_asyncio_a_turn() -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async def main() -> None:
        task = asyncio.create_task(other())
        await drive_async(Hunt(Rest(0))(), noted)
        turns.append("hunt")
        await task

    async def noted(number: int) -> None: ...

    asyncio.run(main())
    assert turns == ["other", "hunt"]


def test_a_rest_of_zero_gives_other_tasks_of_trio_a_turn() -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async def noted(number: int) -> None: ...

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await drive_async(Hunt(Rest(0), Rest(0))(), noted)
            turns.append("hunt")

    trio.run(main)
    assert turns == ["other", "hunt"]


def test_a_cancelled_hunt_of_asyncio_is_cleaned_up() -> None:
    hunt = Hunt(Rest(60))

    async def call(number: int) -> None: ...

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(drive_async(hunt(), call), 0.01)

    asyncio.run(main())
    assert hunt.cleaned_up


def test_a_cancelled_hunt_of_trio_is_cleaned_up() -> None:
    hunt = Hunt(Rest(60))

    async def call(number: int) -> None: ...

    async def main() -> bool:
        with trio.move_on_after(0.01) as scope:
            await drive_async(hunt(), call)
        return scope.cancelled_caught

    assert trio.run(main)
    assert hunt.cleaned_up


def test_each_async_call_is_over_before_the_next_begins() -> None:
    running = 0
    most = 0

    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    made: Awaitable[str] = drive_async(Hunt(Calls(1, 5))(), call)

    async def main() -> str:
        return await made

    assert asyncio.run(main()) == "verdict"
    assert (most, running) == (1, 0)


def test_each_call_of_a_measurement_has_its_own_number_from_one_on() -> None:
    numbers = CallNumbers()
    assert numbers.made == 0
    assert [numbers.take(1), numbers.take(4), numbers.take(2)] == [Calls(1, 1), Calls(2, 4), Calls(6, 2)]
    assert numbers.made == 7
