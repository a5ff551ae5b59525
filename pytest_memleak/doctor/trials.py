"""The trials of a check-up: something is allocated, and the probe has to see it.

Each runs in a process of its own, which prints what came of it: a trial that dies of a broken allocator or a broken
library costs nothing but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from pytest_memleak.model_doctor import State
from pytest_memleak.probes.catalogue import Blind, count_tasks, find_probes, native_probe
from pytest_memleak.units import format_bytes, format_count

_OBJECTS: Final = 10_000

# CPython's smallest block: what an `object()` takes at the least.
_BLOCK_BYTES: Final = 16

# Below malloc's mmap threshold (128 KiB), so that it comes out of the C heap itself.
_PIECE_BYTES: Final = 100_000
_PIECES: Final = 320

# What the process maps for itself meanwhile is 1 MB at the most; half of it has to show, for pages may be swapped out.
_LARGE_BYTES: Final = 32_000_000

_HANDFUL: Final = 3


class Unseen(Exception):
    """The probe cannot be had, or did not see what was allocated; the message says why."""


class NotHere(Exception):
    """This platform or this Python has no such thing."""


def allocated_blocks() -> str:
    gain = _gain("blocks", lambda: [object() for _ in range(_OBJECTS)], _OBJECTS)
    return f"{format_count(_OBJECTS)} objects made, {format_count(gain)} blocks seen"


def tracked_objects() -> str:
    gain = _gain("objects", lambda: [[] for _ in range(_OBJECTS)], _OBJECTS)
    return f"{format_count(_OBJECTS)} lists made, {format_count(gain)} objects seen"


def rss() -> str:
    gain = _gain("rss", lambda: b"\1" * _LARGE_BYTES, _LARGE_BYTES // 2)
    return f"{format_bytes(_LARGE_BYTES)} made, {format_bytes(gain)} seen"


def descriptors() -> str:
    with contextlib.ExitStack() as stack:
        gain = _gain("fds", lambda: [stack.enter_context(open(os.devnull)) for _ in range(_HANDFUL)], _HANDFUL)  # noqa: PTH123
    return f"{_HANDFUL} opened, {gain} seen"


def threads() -> str:
    end = threading.Event()

    def start() -> list[threading.Thread]:
        started = [threading.Thread(target=end.wait, daemon=True) for _ in range(_HANDFUL)]
        for thread in started:
            thread.start()
        return started

    try:
        gain = _gain("threads", start, _HANDFUL)
    finally:
        end.set()
    return f"{_HANDFUL} started, {gain} seen"


def children() -> str:
    with contextlib.ExitStack() as stack:
        gain = _gain("children", lambda: stack.enter_context(_kept_alive("import sys; sys.stdin.read()")), 1)
    return f"1 started, {gain} seen"


def tasks() -> str:
    async def count() -> int:
        loop = asyncio.get_running_loop()
        before = count_tasks(loop)
        started = [loop.create_task(asyncio.sleep(60)) for _ in range(_HANDFUL)]
        seen = count_tasks(loop) - before
        for task in started:
            task.cancel()
        return seen

    seen = asyncio.run(count())
    _see(seen, _HANDFUL, str)
    return f"{_HANDFUL} started, {seen} seen"


def allocating_line() -> str:
    tracemalloc.start()
    kept = bytearray(_PIECE_BYTES)
    found = [
        one
        for one in tracemalloc.take_snapshot().statistics("lineno")
        if one.traceback[0].filename == __file__ and one.size >= len(kept)
    ]
    tracemalloc.stop()
    if not found:
        raise Unseen(f"{format_bytes(_PIECE_BYTES)} were made and not traced")
    return f"{format_bytes(found[0].size)} made, its line found: {Path(__file__).name}:{found[0].traceback[0].lineno}"


def live_heap() -> str:
    from pytest_memleak.probes.live import pymalloc_probe

    probe, estimate = pymalloc_probe()
    if estimate:
        raise Unseen(estimate)
    before = probe()
    kept = [object() for _ in range(_OBJECTS)]
    gain = probe() - before
    _see(gain, _BLOCK_BYTES * len(kept), format_bytes)
    return f"{format_count(_OBJECTS)} objects made, {format_bytes(gain)} seen"


def c_heap() -> str:
    try:
        probe = native_probe()
    except (AttributeError, NotImplementedError, OSError, psutil.Error, Blind):
        raise Unseen(find_probes().missing.get("native", "its statistics stand still")) from None
    before = probe()
    kept = bytearray(_PIECE_BYTES)
    gain = probe() - before
    _see(gain, len(kept), format_bytes)
    return f"{format_bytes(len(kept))} made, {format_bytes(gain)} seen"


def heap_trim() -> str:
    """psutil.heap_trim: what lies free below a piece that is in use goes back to the system."""
    if not hasattr(psutil, "heap_trim"):
        raise NotHere("psutil has no heap_trim for this C library")
    process = psutil.Process()
    pieces = [b"\1" * _PIECE_BYTES for _ in range(_PIECES)]
    # The last one stays: the C library gives back by itself what is free at the end of its heap.
    del pieces[:-1]
    before = int(process.memory_info().rss)
    psutil.heap_trim()
    given = before - int(process.memory_info().rss)
    _see(given, _PIECES * _PIECE_BYTES // 2, format_bytes)
    return f"{format_bytes(_PIECES * _PIECE_BYTES)} freed, {format_bytes(given)} given back"


def smaps_rollup() -> str:
    from pytest_memleak.watch.composition import changes, composition

    before = composition([os.getpid()])
    if before is None:
        raise NotHere("the kernel does not tell what memory is made of (Linux from 4.14 on does)")
    kept = b"\1" * _LARGE_BYTES
    gain = round(sum(change for _, change in changes(before, composition([os.getpid()]))))
    _see(gain, len(kept) // 2, format_bytes)
    return f"{format_bytes(len(kept))} made, {format_bytes(gain)} seen"


def cgroup_limit() -> str:
    from pytest_memleak.watch.limits import limit_of

    if not Path("/proc/self/cgroup").exists():
        raise NotHere("control groups are Linux's")
    limit = limit_of(os.getpid())
    used = "" if limit.used is None else f", {format_bytes(limit.used)} of it used"
    return f"{limit.whose}: {format_bytes(limit.limit_bytes)}{used}"


_TARGET: Final = f"""
import sys, time
class Planted: pass
KEPT = [Planted() for _ in range({_OBJECTS})]
print(flush=True)
while True: time.sleep(0.01)
"""


def gdb() -> str:
    from pytest_memleak.inspection import rights
    from pytest_memleak.inspection.gdb import Gdb

    if not sys.platform.startswith("linux"):
        raise NotHere("a live process is read through gdb on Linux only")
    if not rights.has_gdb():
        raise Unseen("gdb is not installed")
    return _inspected(Gdb)


def remote_exec() -> str:
    from pytest_memleak.inspection.remote_exec import RemoteExec

    if not hasattr(sys, "remote_exec"):
        raise NotHere("Python has it from 3.14 on; gdb stands in for it")
    return _inspected(RemoteExec)


def _inspected(way: Callable[[int], Any]) -> str:
    """Start a Python that holds some objects, and count them from outside."""
    from pytest_memleak.inspection.errors import Gone, InspectionError

    with _kept_alive(_TARGET) as target:
        assert target.stdout is not None
        target.stdout.readline()
        try:
            with way(target.pid) as inside:
                answer = inside.ask({"what": "count", "most": 2_000_000, "mark": [], "most_marks": 0})
        except (Gone, InspectionError) as error:
            raise Unseen(str(error)) from None
    seen = sum(count for name, count in answer["counts"].items() if str(name).rpartition(".")[2] == "Planted")
    _see(seen, _OBJECTS, format_count)
    return f"{format_count(seen)} objects seen in a live process"


def memray() -> str:
    if sys.platform == "win32":
        raise NotHere("memray is not made for Windows")
    if importlib.util.find_spec("memray") is None:
        raise Unseen("memray is not installed")
    from memray import FileReader, Tracker

    with tempfile.TemporaryDirectory(prefix="memleak-doctor-") as folder:
        path = Path(folder) / "trace.bin"
        with Tracker(path, native_traces=True):
            kept = bytearray(_PIECE_BYTES)
        records = list(FileReader(path).get_leaked_allocation_records(merge_threads=True))
    sizes = [
        record.size
        for record in records
        if any(file == __file__ for _, file, _ in record.stack_trace(max_stacks=1)) and record.size >= len(kept)
    ]
    if not sizes:
        raise Unseen(f"{format_bytes(len(kept))} were made and not traced")
    return f"{format_bytes(len(kept))} made, {format_bytes(max(sizes))} traced to its line"


def _gain(signal: str, make: Callable[[], object], least: int) -> int:
    """What a probe of the plugin's gains by something. Raises Unseen."""
    probes = find_probes()
    if signal in probes.missing:
        raise Unseen(probes.missing[signal])
    before = probes.now(signal)
    made = make()
    gain = probes.now(signal) - before
    del made
    _see(gain, least, format_count)
    return gain


def _see(seen: int, least: int, words: Callable[[int], str]) -> None:
    if seen < least:
        raise Unseen(f"{words(least)} should have shown, and {words(seen)} did")


@contextlib.contextmanager
def _kept_alive(code: str) -> Any:
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


TRIALS: Final[Sequence[Callable[[], str]]] = (
    allocated_blocks, tracked_objects, allocating_line, rss, live_heap, c_heap, heap_trim, descriptors, threads, tasks,
    children, smaps_rollup, cgroup_limit, remote_exec, gdb, memray,
)  # fmt: skip


def main(name: str) -> None:
    """Make one trial and print what came of it."""
    trial = next(one for one in TRIALS if one.__name__ == name)
    # No collection between two readings: it would free what was there before.
    gc.collect()
    gc.disable()
    try:
        state, said = State.WORKS, trial()
    except NotHere as error:
        state, said = State.NOT_HERE, str(error)
    except Unseen as error:
        state, said = State.MISSING, str(error)
    sys.stdout.write(json.dumps({"state": state.value, "said": said}))
