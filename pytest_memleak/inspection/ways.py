"""Which way into a process is taken: its own interface, a debugger, its monitor, or a command of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import psutil

from pytest_memleak.inspection import remote_exec
from pytest_memleak.inspection.act import Way
from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.inspection.gdb import Gdb
from pytest_memleak.inspection.interpreter import minor_of
from pytest_memleak.inspection.monitor_url import MonitorCounts
from pytest_memleak.inspection.started import started
from pytest_memleak.units import counted
from pytest_memleak.watch import sources
from pytest_memleak.watch.sources import Wanted

# A worker has imported the app, which its master need not have; a helper (a resource tracker) is far smaller.
_WORKER_SHARE: Final = 0.5


@contextlib.contextmanager
def opened(wanted: Wanted, interval_s: float) -> Iterator[tuple[Way, str, tuple[str, ...]]]:
    """A way to what is wanted, the words for it, and notes. Raises InspectionError, Gone, TargetError, StartError."""
    given = wanted.given()
    if len(given) > 1:
        raise InspectionError(f"{' and '.join(given)} name the process twice: use one of them")
    if wanted.command is not None:
        with started(wanted.command, interval_s) as (way, words):
            yield way, words, ()
    elif wanted.url:
        with MonitorCounts(wanted.url, wanted.token) as monitor:
            yield monitor, wanted.url, ()
    else:
        pid, words, notes = _process(wanted)
        with _into(pid) as inside:
            yield inside, words, notes


def _into(pid: int) -> Gdb | remote_exec.RemoteExec:
    if remote_exec.is_possible(pid):
        return remote_exec.RemoteExec(pid)
    return Gdb(pid)


def _process(wanted: Wanted) -> tuple[int, str, tuple[str, ...]]:
    """The process to read: that of --pid itself, else the largest worker of the tree that is meant."""
    found = sources.find(wanted)
    words = f"{found.pid} ({found.name})"
    workers = _workers(found.pid)
    if not workers:
        return found.pid, words, ()
    others = counted(len(workers), "worker")
    if wanted.pid:
        note = f"process {found.pid} has {others}, which are not read: --pid {workers[0]} is the largest"
        return found.pid, words, (note,)
    note = f"process {found.pid} has {others}; the largest is read, others by --pid"
    return workers[0], f"{workers[0]}, worker of {words}", (note,)


def _workers(root: int) -> list[int]:
    """The Python processes below a master, the largest first."""
    sizes: dict[int, int] = {}
    try:
        top = psutil.Process(root)
        least = _WORKER_SHARE * top.memory_info().rss
        for process in top.children(recursive=True):
            with contextlib.suppress(psutil.Error, InspectionError, Gone):
                size = int(process.memory_info().rss)
                if size >= least and minor_of(process.pid) is not None:
                    sizes[process.pid] = size
    except psutil.Error:
        return []
    return sorted(sizes, key=lambda pid: -sizes[pid])
