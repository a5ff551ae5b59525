"""The probes: each moves by what is kept before its eyes, comes back with it, and is never a silent zero."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_memleak.probes import catalogue
from pytest_memleak.probes.catalogue import SIGNALS, count_tasks, find_probes, list_tasks, read_uss, running_loops
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.probes.rest import forget_lookups

needs_native = pytest.mark.skipif("native" in find_probes().missing, reason="the C heap in use has no statistics")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors as Linux does")


def moved(signal: str, keep: Callable[[], object], release: Callable[[], object]) -> tuple[int, int]:
    """By how much a probe moves while something is kept, and after its release."""
    probe = find_probes().read[signal]
    gc.collect()
    before = probe()
    keep()
    gc.collect()
    kept = probe() - before
    release()
    gc.collect()
    return kept, probe() - before


def test_blocks_move_by_the_objects_that_are_kept() -> None:
    kept: list[object] = [None] * 10_000

    def keep() -> None:
        kept[:] = [object() for _ in range(10_000)]

    gained, left = moved("blocks", keep, kept.clear)
    assert gained == pytest.approx(10_000, abs=20)
    assert abs(left) < 20


def test_objects_move_by_the_tracked_objects_that_are_kept() -> None:
    kept: list[list[object]] = []

    def keep() -> None:
        kept.extend([] for _ in range(5_000))

    gained, left = moved("objects", keep, kept.clear)
    assert gained == pytest.approx(5_000, abs=5)
    assert abs(left) < 5


def test_objects_do_not_see_what_the_collector_does_not_track() -> None:
    kept: list[object] = []
    gained, _ = moved("objects", lambda: kept.extend(object() for _ in range(5_000)), kept.clear)
    assert abs(gained) < 5


@needs_native
def test_the_native_heap_moves_by_a_large_bytearray() -> None:
    kept: list[bytearray] = []
    gained, left = moved("native", lambda: kept.append(bytearray(100_000)), kept.clear)
    assert gained == pytest.approx(100_000, abs=2_000)
    assert abs(left) < 2_000


@needs_native
@on_linux
def test_the_native_heap_moves_by_what_c_code_allocates() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pointers: list[Any] = [None] * 100

    def keep() -> None:
        for number in range(100):
            pointers[number] = libc.malloc(1_000)

    def release() -> None:
        for pointer in pointers:
            libc.free(pointer)

    gained, left = moved("native", keep, release)
    # malloc rounds up to 1,008 bytes, and counts the seven pieces that a thread keeps at hand as in use.
    assert gained == pytest.approx(100_800, abs=8_000)
    assert abs(left) < 10_000


@on_linux
def test_descriptors_move_by_the_files_that_are_open() -> None:
    with contextlib.ExitStack() as files:

        def keep() -> None:
            for _ in range(7):
                files.enter_context(Path(os.devnull).open())

        assert moved("fds", keep, files.close) == (7, 0)


def test_threads_move_by_the_threads_that_are_alive() -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(5)]

    def keep() -> None:
        for thread in threads:
            thread.start()

    def release() -> None:
        end.set()
        for thread in threads:
            thread.join()

    assert moved("threads", keep, release) == (5, 0)


def test_children_move_by_the_processes_that_run() -> None:
    children: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        children.extend(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2))

    def release() -> None:
        for child in children:
            child.kill()
            child.wait()

    assert moved("children", keep, release) == (2, 0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


async def waiting_tasks(count: int) -> list[asyncio.Task[bool]]:
    tasks: list[asyncio.Task[bool]] = [asyncio.create_task(asyncio.Event().wait()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def cancelled(tasks: list[asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_tasks_move_by_the_unfinished_tasks_of_a_loop_in_another_thread(loop: asyncio.AbstractEventLoop) -> None:
    probe = find_probes([loop]).read["tasks"]
    before = probe()
    tasks = asyncio.run_coroutine_threadsafe(waiting_tasks(9), loop).result()
    while len(list_tasks(loop)) > 9:  # the task that made them is about to end
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    kept = probe()
    asyncio.run_coroutine_threadsafe(cancelled(tasks), loop).result()
    while list_tasks(loop):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    assert (before, kept, probe()) == (0, 9, 0)


def test_a_loop_that_runs_in_another_thread_is_found(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    assert any(found is loop for found in running_loops())


def test_a_closed_loop_has_no_tasks() -> None:
    made = asyncio.new_event_loop()
    made.close()
    assert count_tasks(made) == 0


def test_tasks_of_a_loop_that_keeps_changing_them_are_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def changing(loop: object) -> set[object]:
        asked.append(loop)
        raise RuntimeError("Set changed size during iteration")

    made = asyncio.new_event_loop()
    monkeypatch.setattr(asyncio, "all_tasks", changing)
    assert list_tasks(made) == set()
    made.close()
    assert len(asked) > 1


def test_rss_and_uss_are_bytes_of_this_process() -> None:
    rss = find_probes().read["rss"]()
    uss = read_uss()
    assert rss > 1_000_000
    assert uss is None or 1_000_000 < uss <= 2 * rss


def test_every_signal_is_either_read_or_missing_with_its_reason() -> None:
    probes = find_probes()
    assert probes.read.keys() | probes.missing.keys() == set(SIGNALS)
    assert not probes.read.keys() & probes.missing.keys()
    assert all(probes.missing.values())


def test_blocks_that_are_not_counted_are_missing() -> None:
    program = (
        "from pytest_memleak.probes.catalogue import find_probes\n"
        "probes = find_probes()\n"
        "print('blocks' in probes.read, '|', probes.missing['blocks'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False | this interpreter does not count its allocated blocks"


def missing(signal: str) -> str:
    """Why a signal cannot be read; it must not be read then, not even as zero."""
    probes = find_probes()
    assert signal not in probes.read
    ledger = Ledger(probes)
    ledger.read(1)
    assert not any(ledger.column(signal))
    return probes.missing[signal]


def test_a_native_heap_whose_statistics_stand_still_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standing:
        heap_used = 1_000_000
        mmap_used = 0

    monkeypatch.setattr(psutil, "heap_info", Standing, raising=False)
    assert "the C heap in use reports no statistics" in missing("native")


def test_a_native_heap_without_statistics_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "heap_info", raising=False)
    assert "old psutil" in missing("native")


def test_objects_that_the_interpreter_does_not_list_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(gc, "get_freeze_count")
    assert missing("objects") == "this interpreter does not list the objects of its collector"
    assert find_probes().objects is None


@pytest.mark.parametrize(
    "signal, attribute, raised, reason",
    [
        ("fds", "num_fds", psutil.AccessDenied(), "the platform does not report open descriptors"),
        ("rss", "memory_info", NotImplementedError(), "the platform does not report the process's memory"),
        ("children", "children", OSError(), "child processes cannot be listed here"),
    ],
)
@on_linux
def test_a_reading_that_fails_is_missing(
    monkeypatch: pytest.MonkeyPatch, signal: str, attribute: str, raised: Exception, reason: str
) -> None:
    def failing(*arguments: object, **options: object) -> int:
        raise raised

    monkeypatch.setattr(psutil.Process, attribute, failing)
    assert missing(signal) == reason


def test_a_unique_set_size_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(process: object) -> int:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "memory_full_info", failing)
    assert read_uss() is None


def test_tasks_that_cannot_be_counted_are_missing_with_the_reason_given() -> None:
    probes = find_probes(tasks_missing="the loop runs in a process of its own")
    assert "tasks" not in probes.read
    assert probes.missing["tasks"] == "the loop runs in a process of its own"


def test_names_that_c_code_looks_up_do_not_stay() -> None:
    def look_up(count: int) -> None:
        # C code asks for "search" by its C string, a new text each time.
        kept.extend(re.finditer("x", "x") for _ in range(count))
        kept.clear()

    probe = find_probes().read["blocks"]
    kept: list[object] = []
    look_up(5_000)
    full = probe()
    forget_lookups()
    emptied = probe()
    assert full - emptied > 200
    look_up(5_000)
    forget_lookups()
    assert abs(probe() - emptied) < 20


def test_the_c_heap_is_read_though_another_thread_gives_back_in_the_moment_of_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = iter([500_000, 400_000, 400_000, 900_000, 900_000])

    def heap_info() -> SimpleNamespace:
        return SimpleNamespace(heap_used=next(used), mmap_used=0)

    monkeypatch.setattr(psutil, "heap_info", heap_info)
    assert catalogue.native_probe()() == 900_000


def test_statistics_that_stand_still_each_time_are_those_of_another_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "heap_info", lambda: SimpleNamespace(heap_used=400_000, mmap_used=0))
    with pytest.raises(catalogue.Blind):
        catalogue.native_probe()
