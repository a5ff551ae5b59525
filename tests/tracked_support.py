"""Functions to track, of every kind, and what is seen of them."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pytest_memleak.monitor import alone
from pytest_memleak.monitor.figures import FunctionMemory, LastCall
from pytest_memleak.monitor.tracked import memory_of
from pytest_memleak.probes import live

needs_statistics = pytest.mark.skipif(bool(live.pymalloc_probe()[1]), reason="the statistics cannot be read here")
needs_clocks = pytest.mark.skipif(not alone.Witness.fine, reason="the processor's clocks move in ticks here")

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
