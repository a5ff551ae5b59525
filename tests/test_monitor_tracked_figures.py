"""`@memory_tracked`: the figures, their list and the log."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from tracked_support import BIG, clean, needs_clocks, needs_statistics, nothing_kept, plain, run, settled  # noqa: F401  (a fixture is not used by name)

from pytest_memleak.monitor.tracked import memory_of, memory_tracked, records, tracked_functions


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
        assert str(memory) == f"{plain.__module__}.plain: 0 calls, 0 exact"
        tracked()
        assert memory.calls == 1
        memory.reset()


@needs_statistics
def test_with_collect_a_generator_of_many_steps_that_keeps_nothing_reads_nothing() -> None:
    @memory_tracked(collect=True)
    def numbers() -> Iterator[int]:
        yield from range(101)

    for _ in range(50):
        assert sum(numbers()) == 5_050
        last = memory_of(numbers).last
        if last is not None and last.bytes is not None:
            break  # else a thread of somebody's in this process had something to do meanwhile
    assert last is not None
    assert last.bytes is not None
    # What our own look at a step makes and drops is none of the function's: it was 592 bytes a step.
    assert abs(last.bytes) < 101 * 100


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
