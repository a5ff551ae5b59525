"""A scan from paths to findings: in processes where that pays, from the cache where nothing changed."""

from __future__ import annotations

import concurrent.futures as futures
import gc
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Final

from pytest_memleak.model_scan import ScanResult, ScanWarning
from pytest_memleak.scan import measured, one, project
from pytest_memleak.scan.kept import Kept, stamp
from pytest_memleak.scan.one import Scanned, scan_entry
from pytest_memleak.scan.sources import Entry, ScanRefused, Walk

_MANY: Final = 60
"""Files. Below, starting a process (0.1 s) takes longer than it saves."""

_CHUNK_BYTES: Final = 256 * 1024
"""A worker's portion, about 7,000 lines or 0.1 s: handing it over costs a thousandth, and the last one ends soon."""


_MOST_WORKERS: Final = 3
"""On a million lines this process has 85 MB, and a worker 60 MB or, after a file of 1 MB, 95 MB: three of them stay
below 300 MB."""


def scan(
    paths: Sequence[str],
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    exclude: Sequence[str] = (),
    processes: int | None = None,
    cache_dir: Path | None = None,
    runtime: str | Path | None = None,
) -> ScanResult:
    """Scan files and folders (`-` is standard input).

    `select` and `ignore` are codes or their beginnings, `exclude` globs beside the usual ones. `cache_dir` is where
    results are kept between scans; None keeps none. Raises ScanRefused, in one sentence, for a path that does not
    exist, a code that no rule has, and a `runtime` that is no result.
    """
    seen = measured.load(runtime) if runtime is not None else None
    rules = _rules()
    active = _active([str(rule.CODE) for rule in rules], select, ignore)
    walk = Walk(paths, exclude)
    entries = list(walk.entries())
    kept = Kept(cache_dir) if cache_dir is not None and not _has_pipe(entries) else None
    key = stamp(entries, active, walk.warnings)
    result = kept.whole(key) if kept else None
    if result is None:
        result = _scanned(entries, rules, active, walk.warnings, processes, kept)
        if kept:
            kept.keep_whole(key, result)
    if seen is None:
        return result
    return ScanResult(
        findings=project.worst_first(measured.confirmed(result.findings, seen)),
        warnings=result.warnings,
        files=result.files,
        lines=result.lines,
    )


def _rules() -> tuple[ModuleType, ...]:
    from pytest_memleak.scan.registry import RULES

    return RULES


def _has_pipe(entries: Sequence[Entry]) -> bool:
    """What comes from a pipe has no time and no size to know it by, and no other process can read it."""
    return any(entry.size < 0 for entry in entries)


def _active(codes: Sequence[str], select: Sequence[str], ignore: Sequence[str]) -> tuple[str, ...]:
    for given in (*select, *ignore):
        if not given or not any(code.startswith(given.upper()) for code in codes):
            raise ScanRefused(f"{given or 'an empty code'} is no code of a rule: there are {', '.join(codes)}")
    chosen = tuple(code.upper() for code in select) or ("",)
    dropped = tuple(code.upper() for code in ignore)
    return tuple(code for code in codes if code.startswith(chosen) and not (dropped and code.startswith(dropped)))


def _scanned(
    entries: Sequence[Entry],
    rules: Sequence[ModuleType],
    active: Sequence[str],
    walked: Sequence[ScanWarning],
    processes: int | None,
    kept: Kept | None,
) -> ScanResult:
    known = kept.files(entries) if kept else {}
    rest = [entry for entry in entries if entry.shown not in known]
    for file in scanned_files(rest, rules, processes):
        known[file.shown] = file
    files = [known[entry.shown] for entry in entries]
    if kept and rest:
        kept.keep_files((entry, file) for entry, file in zip(entries, files, strict=True) if not file.warning)
    findings, unused = project.joined(files, active)
    warnings = [*walked, *(warning for file in files for warning in one.warning_of(file)), *unused]
    return ScanResult(
        findings=project.worst_first(findings),
        warnings=tuple(sorted(warnings, key=lambda warning: (warning.path, warning.reason))),
        files=sum(not file.warning for file in files),
        lines=sum(file.lines for file in files),
    )


def scanned_files(
    entries: Sequence[Entry], rules: Sequence[ModuleType], processes: int | None = None
) -> Iterator[Scanned]:
    """Scan files in no order; `processes` of None is as many as there are processors, up to a few."""
    workers = processes or min(_processors(), _MOST_WORKERS)
    if workers == 1 or len(entries) <= _MANY or _has_pipe(entries):
        for chunk in _chunks(entries):
            yield from _portion(chunk, rules)
        return
    yield from _in_processes(entries, workers, work)


def _processors() -> int:
    """Those that this process may use: a container has fewer than its machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def work(entries: Sequence[Entry]) -> list[Scanned]:
    """A worker's portion."""
    return _portion(entries, _rules())


def _portion(entries: Sequence[Entry], rules: Sequence[ModuleType]) -> list[Scanned]:
    # A tree is freed by counting; the collector would only look through it again and again.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return [scan_entry(entry, rules) for entry in entries]
    finally:
        if was_enabled:
            gc.enable()


def _in_processes(
    entries: Sequence[Entry], workers: int, work: Callable[[Sequence[Entry]], list[Scanned]]
) -> Iterator[Scanned]:
    """Scan in workers. One that dies takes its pool along: what was lost is scanned again, a file at a time."""
    lost: list[Entry] = []
    with _pool(workers) as pool:
        running = {pool.submit(work, chunk): chunk for chunk in _chunks(entries)}
        for done in futures.as_completed(running):
            try:
                yield from done.result()
            except (BrokenProcessPool, MemoryError):
                lost += running[done]
            # The workers' results are the caller's now: kept here they would be in memory twice.
            del running[done], done
    while lost:
        lost = yield from _alone(lost, work)


def _alone(
    entries: list[Entry], work: Callable[[Sequence[Entry]], list[Scanned]]
) -> Generator[Scanned, None, list[Entry]]:
    """One file after another in one worker, up to the one that ends it; gives back those that are left."""
    with _pool(1) as pool:
        for number, entry in enumerate(entries):
            try:
                yield from pool.submit(work, [entry]).result()
            except (BrokenProcessPool, MemoryError):
                yield Scanned(shown=entry.shown, warning="the process that scanned it ended; --exclude it")
                return entries[number + 1 :]
    return []


def _pool(workers: int) -> futures.ProcessPoolExecutor:
    # Not forked: a thread of the caller's could hold a lock for ever in the child.
    context = multiprocessing.get_context("spawn")
    return futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


def _start() -> None:
    _rules()
    gc.freeze()  # what the imports made stays


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
