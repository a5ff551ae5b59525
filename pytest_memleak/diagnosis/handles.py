"""What stays open: descriptors with their path and opener, threads and tasks with target and starter."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures.thread
import dataclasses
import gc
import io
import socket
import threading
import types
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_memleak.diagnosis import source
from pytest_memleak.diagnosis.allocations import Places
from pytest_memleak.diagnosis.reach import Fresh
from pytest_memleak.model import Leak, Resource, Site
from pytest_memleak.patterns import catalogue
from pytest_memleak.probes.catalogue import list_tasks

_DATABASE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3", ".db-wal", ".db-journal")
_DRIVERS: Final = frozenset(
    ("sqlite3", "aiosqlite", "psycopg", "psycopg2", "asyncpg", "pymysql", "aiomysql", "sqlalchemy", "redis", "pymongo")
)
_SHOWN: Final = 3
_SAMPLES: Final = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A leak of descriptors, threads or tasks, and the places that allocated what keeps them."""

    leak: Leak
    explained: frozenset[Places]


def open_fds() -> dict[int, str]:
    """The open descriptors with what they refer to: a path, `socket:[123]`, `pipe:[45]`. Empty off Linux."""
    found: dict[int, str] = {}
    folder = Path("/proc/self/fd")
    try:
        links = list(folder.iterdir())
    except OSError:
        return found
    for link in links:
        try:
            found[int(link.name)] = str(link.readlink())
        except OSError:  # closed meanwhile, as the one that listed the directory
            continue
    return found


def fd_leaks(before: dict[int, str], calls: int, fresh: Fresh) -> list[Opened]:
    """The descriptors opened since `before`, grouped by where their Python object was made."""
    gained = {number: target for number, target in open_fds().items() if before.get(number) != target}
    openers = _fd_openers(gained, fresh)
    connections = _connection_sites(fresh)
    groups: dict[str, list[int]] = collections.defaultdict(list)
    sites: dict[str, Site | None] = {}
    for number, target in gained.items():
        site = openers.get(number)
        if site is None or not site.frame.source:
            site = connections or site
        key = f"{site.frame}" if site else target.partition("[")[0]
        groups[key].append(number)
        sites[key] = site
    leaks = []
    for key, numbers in sorted(groups.items(), key=lambda item: -len(item[1])):
        targets = [gained[number] for number in numbers]
        if 2 * len(numbers) < max(4, calls // 50):
            continue
        shown = sorted(set(targets))[:_SHOWN]
        site = sites[key]
        is_connection = site is not None and site is connections
        database = is_connection or any(target.endswith(_DATABASE_SUFFIXES) for target in targets)
        name = "database_connection" if database else "file_handle"
        sockets = all(target.startswith("socket:") for target in targets)
        leaks.append(
            _opened(
                fresh,
                site,
                what=f"file descriptor ({', '.join(shown)})",
                count_per_call=len(numbers) / calls,
                resource=Resource.FDS,
                pattern=None if sockets and not database else name,
                fix="close the socket on every path, also when the call is cancelled"
                if sockets and not database
                else catalogue.BY_NAME[name].fix,
                details=() if site else ("opened outside Python objects: where is not known",),
            )
        )
    return leaks


def _fd_openers(gained: Collection[int], fresh: Fresh) -> dict[int, Site]:
    """Where the Python object behind each descriptor was allocated, by descriptor."""
    found = {}
    for obj in gc.get_objects():
        kind = type(obj)
        number = -1
        try:
            # The C methods of the base types: a subclass of the user's is not asked.
            if issubclass(kind, io.FileIO):
                number = -1 if io.FileIO.closed.__get__(obj) else io.FileIO.fileno(obj)
            elif issubclass(kind, socket.socket):
                number = socket.socket.fileno(obj)
        except (ValueError, OSError):
            continue
        if number in gained:
            site = fresh.site_of(obj)
            if site is not None:
                found[number] = site
    return found


def _connection_sites(fresh: Fresh) -> Site | None:
    """The user's line that made most of the new database connections, None when there are none."""
    found: collections.Counter[str] = collections.Counter()
    sites = {}
    for obj in gc.get_objects():
        kind = type(obj)
        if is_connection(kind):
            site = fresh.site_of(obj)
            if site is not None:
                found[str(site.frame)] += 1
                sites[str(site.frame)] = site
    own = [key for key, _ in found.most_common() if not sites[key].frame.is_library]
    return sites[own[0]] if own else None


def is_connection(kind: type) -> bool:
    """Whether a type is a database driver's connection or session, by its name and module."""
    name = kind.__name__
    module = source.module_name(kind).partition(".")[0]
    drivers = {
        "sqlite3",
        "aiosqlite",
        "psycopg",
        "psycopg2",
        "asyncpg",
        "pymysql",
        "aiomysql",
        "sqlalchemy",
        "redis",
        "pymongo",
    }
    return module in drivers and (name.endswith(("Connection", "Session", "Engine")) or name == "connection")


def thread_leaks(before: Collection[int], calls: int, fresh: Fresh) -> tuple[list[Opened], list[str]]:
    """The threads started since `before` (identifiers), grouped; and the notes on pools that merely fill."""
    groups: dict[tuple[str, str], list[threading.Thread]] = collections.defaultdict(list)
    notes = []
    filling: set[str] = set()
    for thread in threading.enumerate():
        if thread.ident in before:
            continue
        pool = _pool_of(thread)
        if pool is not None and fresh.site_of(pool) is None:
            # The pool is older than the trace: it starts threads up to its bound.
            filling.add(f"a ThreadPoolExecutor started threads (up to {pool._max_workers})")
            continue
        if type(thread).__module__.startswith("anyio.") and type(thread).__name__ == "WorkerThread":
            filling.add("anyio's thread pool started threads (up to its limiter's 40)")
            continue
        site = fresh.site_of(pool) if pool is not None else fresh.site_of(thread)
        groups[(_target_of(thread), str(site.frame) if site else "")].append(thread)
    notes.extend(sorted(filling))
    leaks = []
    for (target, _), threads in sorted(groups.items(), key=lambda item: -len(item[1])):
        if 2 * len(threads) < max(4, calls // 50):
            continue
        pool = _pool_of(threads[0])
        site = fresh.site_of(pool) if pool is not None else fresh.site_of(threads[0])
        name, fix = _thread_pattern(target, pool is not None)
        leaks.append(
            _opened(
                fresh,
                site,
                threads[:_SAMPLES] if pool is None else [pool],
                what=f"thread running {target}",
                count_per_call=len(threads) / calls,
                resource=Resource.THREADS,
                pattern=name,
                fix=fix,
                details=(f"names: {', '.join(thread.name for thread in threads[:_SHOWN])} …",),
            )
        )
    return leaks, notes


def _thread_pattern(target: str, pooled: bool) -> tuple[str | None, str]:
    if pooled:
        return "thread_pool", catalogue.BY_NAME["thread_pool"].fix
    if "connection" in target.lower():
        return "database_connection", catalogue.BY_NAME["database_connection"].fix
    return None, "end the thread's loop and join it when its owner is done"


def _pool_of(thread: threading.Thread) -> concurrent.futures.ThreadPoolExecutor | None:
    """The executor that a worker thread belongs to, None for other threads and dead executors."""
    if getattr(_raw_target(thread), "__module__", "") != "concurrent.futures.thread":
        return None
    for part in getattr(thread, "_args", ()) or ():
        pool = part() if callable(part) and type(part).__name__ in ("ReferenceType", "weakref") else None
        if isinstance(pool, concurrent.futures.ThreadPoolExecutor):
            return pool
    # 3.14 hands the worker a context in place of arguments: the executor is found by its set of threads.
    for obj in gc.get_objects():
        if issubclass(type(obj), concurrent.futures.ThreadPoolExecutor) and thread in obj._threads:
            return obj  # type: ignore[no-any-return]
    return None


def _raw_target(thread: threading.Thread) -> Any:
    return getattr(thread, "_target", None)


def _target_of(thread: threading.Thread) -> str:
    target = _raw_target(thread)
    if target is None:
        kind = type(thread)
        return f"{kind.__module__}.{kind.__qualname__}.run"
    return _callable_name(target)


def _callable_name(target: Any) -> str:
    if isinstance(target, types.MethodType):
        return f"{type(target.__self__).__module__}.{type(target.__self__).__qualname__}.{target.__func__.__name__}"
    module = getattr(target, "__module__", None) or type(target).__module__
    return f"{module}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def task_leaks(
    loops: Iterable[asyncio.AbstractEventLoop], before: Collection[int], calls: int, fresh: Fresh
) -> list[Opened]:
    """The tasks created since `before` (identities) that have not ended, grouped by coroutine and creator."""
    groups: dict[tuple[str, str], int] = collections.Counter()
    sites: dict[tuple[str, str], Site | None] = {}
    waiting: dict[tuple[str, str], str] = {}
    samples: dict[tuple[str, str], list[object]] = collections.defaultdict(list)
    for loop in loops:
        for task in list_tasks(loop):
            if id(task) in before:
                continue
            coroutine: Any = task.get_coro()
            site = fresh.site_of(task)
            key = (getattr(coroutine, "__qualname__", "a coroutine"), str(site.frame) if site else "")
            groups[key] += 1
            sites[key] = site
            if len(samples[key]) < _SAMPLES:
                samples[key].append(task)
            waiting[key] = _waiting_at(coroutine)
    leaks = []
    for key, count in sorted(groups.items(), key=lambda item: -item[1]):
        if 2 * count < max(4, calls // 50):
            continue
        site = sites[key]
        leaks.append(
            _opened(
                fresh,
                site,
                samples[key],
                what=f"asyncio task running {key[0]}()",
                count_per_call=count / calls,
                resource=Resource.TASKS,
                pattern="async_task",
                fix=catalogue.BY_NAME["async_task"].fix,
                details=(waiting[key],) if waiting[key] else (),
            )
        )
    return leaks


def _opened(fresh: Fresh, site: Site | None, samples: Sequence[object] = (), **leak: Any) -> Opened:
    """A leak at a site, with the places that allocated what the samples keep; the site's own among them."""
    places = fresh.reach(samples)[1]
    if site is not None:
        places.add((site.place, site.inner_place))
    return Opened(leak=Leak(sites=(site,) if site else (), **leak), explained=frozenset(places))


def _waiting_at(coroutine: Any) -> str:
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return ""
    place = source.frame((frame.f_code.co_filename, frame.f_lineno))
    return f"waits at {place}: {place.source}"


def task_ids(loops: Sequence[asyncio.AbstractEventLoop]) -> set[int]:
    """The identities of the unfinished tasks now."""
    return {id(task) for loop in loops for task in list_tasks(loop)}


def thread_ids() -> set[int]:
    """The identifiers of the threads that are alive now."""
    return {thread.ident for thread in threading.enumerate() if thread.ident is not None}
