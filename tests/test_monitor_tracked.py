"""`@memory_tracked`: what a call keeps to the byte, and what of it is the result."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from tracked_support import (  # noqa: F401  (a fixture is not used by name)
    BIG,
    KEPT,
    async_generator,
    clean,
    clean_async_generator,
    clean_coroutine,
    clean_generator,
    coroutine,
    generator,
    keep,
    last_of,
    needs_clocks,
    needs_statistics,
    nothing_kept,
    plain,
    settled,
)

from pytest_memleak.monitor.tracked import memory_of, memory_tracked


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
    # What another call has left behind may go in this one; 3.10 enlarges what it keeps for its frames once in a while.
    assert abs(last.bytes - kept) <= 100
    assert memory.mean_bytes is not None
    assert kept - 100 <= memory.mean_bytes <= kept + 200


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
