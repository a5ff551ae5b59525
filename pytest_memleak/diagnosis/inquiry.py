"""The diagnosis: the same workload again, under tracemalloc, to answer what, where, who and what to do."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import gc
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pytest_memleak.diagnosis import allocations, causes, containers, handles, holders, native
from pytest_memleak.model import Growth, Leak, Resource
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.heap import Heap
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.workloads.steps import CallNumbers, Steps

_ROUNDS: Final = 6
"""Three before the middle survey and three after it; with the baseline they make a trend."""

# Growth that is to be named must stand out from what merely warms up under tracing: 40 entries do.
_WANTED_UNITS: Final = 40
# Where nothing runs out, more calls make the bytes exact; descriptors and threads do run out.
_WANTED_CALLS: Final = 240
_MIN_CALLS: Final = 30
_MAX_S: Final = 2.5
# Tracing 12 frames makes a call through the test client 8 times as slow, a bare ASGI call 20 times.
_SLOWDOWN: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What the verdict suspects: rates per call from the rounds, which resources are convicted so far."""

    resources: frozenset[Resource]
    rates: Mapping[str, float]
    seconds_per_call: float
    native_only: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the diagnosis saw. `memory` is bytes per call, weighed; None when nothing was traced."""

    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    memory: Growth | None
    shown_again: frozenset[Resource]
    known: frozenset[Resource]
    """The resources whose growth is at least in part no leak (a bounded container, a pool that fills)."""


def calls_wanted(suspicion: Suspicion) -> int:
    """How many calls the diagnosis makes: enough for the slowest growth, as far as its time allows."""
    if suspicion.resources & {Resource.FDS, Resource.THREADS, Resource.CHILDREN}:
        return _MIN_CALLS
    rates = [suspicion.rates[signal] for signal in ("objects", "blocks") if suspicion.rates.get(signal, 0) > 0]
    wanted = max(_WANTED_CALLS, math.ceil(_WANTED_UNITS / max(rates))) if rates else _WANTED_CALLS
    affordable = _MAX_S / max(1e-7, suspicion.seconds_per_call * _SLOWDOWN)
    return int(max(_MIN_CALLS, min(wanted, affordable)))


def inquire(
    suspicion: Suspicion,
    *,
    heap: Heap,
    probes: Probes,
    numbers: CallNumbers,
    loops: Sequence[asyncio.AbstractEventLoop],
    roots: Mapping[int, str],
    empty_stores: Callable[[], None],
) -> Steps[Findings]:
    """Repeat the workload under observation. Leaves the heap thawed and tracing as it was found."""
    calls = calls_wanted(suspicion)
    # Everything on a loop refers to everything: a path that reaches the loop has said enough.
    roots = {**roots, **{id(loop): "the event loop" for loop in loops}}
    share = max(1, math.ceil(calls / _ROUNDS))
    heap.thaw()
    census = containers.census()
    made_before = numbers.made
    threads, tasks, fds = handles.thread_ids(), handles.task_ids(loops), handles.open_fds()
    heap.freeze()
    with contextlib.ExitStack() as stack:
        stack.enter_context(allocations.tracing())
        yield numbers.take(min(3, share))
        empty_stores()
        yield from at_rest(probes)
        levels = _Levels(probes)
        surveys = [levels.survey()]
        levels.read(numbers.made)
        for number in range(_ROUNDS):
            yield numbers.take(share)
            empty_stores()
            yield from at_rest(probes)
            levels.read(numbers.made)
            if number in (_ROUNDS // 2 - 1, _ROUNDS - 1):
                surveys.append(levels.survey())
        made = numbers.made - made_before
        new = holders.new_objects()
        heap.thaw()
        held = holders.find(census, new, made, _least(suspicion, made), roots)
        del new[:]
        opened, notes = _handle_leaks(suspicion, fds, threads, tasks, loops, made)
        three = (surveys[0], surveys[1], surveys[2])
        memory = _memory(three, share * _ROUNDS, suspicion, held, opened) if surveys[2] else None
        sites = allocations.growing_sites(three, share * _ROUNDS)
    if suspicion.native_only:
        leaks = [(yield from _native(suspicion, numbers, probes, calls))]
    else:
        leaks = causes.causes(opened, held, sites, memory.per_call if memory else 0.0)
    return Findings(
        leaks=tuple(leaks),
        notes=(*notes, *held.notes),
        memory=memory,
        known=_known(held, notes),
        shown_again=levels.shown_again(suspicion, traced=bool(held.kept or held.known or held.loose or sites)),
    )


def _native(suspicion: Suspicion, numbers: CallNumbers, probes: Probes, calls: int) -> Steps[Leak]:
    rate = suspicion.rates["native"]
    if not native.is_memray_usable():
        return causes.native_leak(rate, native.installed_hint())
    sites, details = yield from native.native_sites(numbers, probes, calls, least=max(2, calls // 3))
    return causes.native_leak(rate, details, sites)


def _known(held: holders.Held, thread_notes: Sequence[str]) -> frozenset[Resource]:
    known = {Resource.MEMORY} if held.known else set()
    if thread_notes:
        # A pool that starts threads keeps their objects too.
        known |= {Resource.THREADS, Resource.MEMORY}
    return frozenset(known)


def _least(suspicion: Suspicion, calls: int) -> int:
    """How many entries a container has to gain to be worth a look: a fifth of the slowest growth expected."""
    rates = [rate for signal, rate in suspicion.rates.items() if signal != "rss" and rate > 0]
    expected = min(1.0, *rates, suspicion.rates.get("objects") or 1.0) * calls
    return max(3, round(expected / 5))


def _handle_leaks(
    suspicion: Suspicion,
    fds: dict[int, str],
    threads: Collection[int],
    tasks: Collection[int],
    loops: Sequence[asyncio.AbstractEventLoop],
    made: int,
) -> tuple[list[handles.Opened], list[str]]:
    leaks: list[handles.Opened] = []
    thread_leaks, notes = handles.thread_leaks(threads, made)
    if Resource.FDS in suspicion.resources:
        leaks += handles.fd_leaks(fds, made)
    if Resource.THREADS in suspicion.resources:
        leaks += thread_leaks
    if Resource.TASKS in suspicion.resources:
        leaks += handles.task_leaks(loops, tasks, made)
    return leaks, notes


def _memory(
    surveys: allocations.Surveys,
    calls: int,
    suspicion: Suspicion,
    held: holders.Held,
    opened: Sequence[handles.Opened],
) -> Growth:
    """Bytes per call: what tracemalloc saw stay, the containers' tables, and what only the C heap saw."""
    kept_at = [one.explained for one in held.kept] + [one.explained for one in opened]
    explained = frozenset[allocations.Places]().union(*kept_at)
    traced = allocations.weigh(surveys, calls, explained)
    tables = sum(kept.table_bytes_per_entry * kept.holder.entries_per_call for kept in held.kept)
    unseen = suspicion.rates.get("native", 0.0) - allocations.large_bytes_gained(surveys[0], surveys[2]) / calls
    # The tables of growing containers double in the C heap at moments of their own: only what is more
    # than Python's whole growth is a second leak.
    native = unseen if unseen > max(16.0, traced.per_call + tables) else 0.0
    return traced.minus(-tables - native)


class _Levels:
    """The levels at rest during the diagnosis, for seeing the growth again.

    What the surveys themselves take is subtracted from the readings after them.
    """

    __slots__ = ("calls", "overhead", "probes", "signals")

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.calls: list[int] = []
        self.signals: dict[str, list[int]] = collections.defaultdict(list)
        self.overhead: collections.Counter[str] = collections.Counter()

    def read(self, calls: int) -> None:
        self.calls.append(calls)
        for signal, probe in self.probes.read.items():
            self.signals[signal].append(probe() - self.overhead[signal])

    def survey(self) -> allocations.Survey:
        before = {signal: probe() for signal, probe in self.probes.read.items()}
        taken = allocations.survey()
        gc.collect()
        for signal, probe in self.probes.read.items():
            self.overhead[signal] += probe() - before[signal]
        return taken

    def shown_again(self, suspicion: Suspicion, *, traced: bool) -> frozenset[Resource]:
        """The suspected resources that grew in these rounds too, at a third of the suspected rate or more.

        `traced`: a container, type or site grew in both halves; it speaks for memory and objects, whose
        levels the tracing itself disturbs. The C heap and whole pieces are read.
        """
        made = max(1, self.calls[-1] - self.calls[0])
        again = set()
        for resource in suspicion.resources:
            if resource in (Resource.MEMORY, Resource.OBJECTS) and not suspicion.native_only:
                shown = traced
            else:
                signal = _SIGNALS[resource]
                rate = suspicion.rates.get(signal, 0.0)
                shown = self.signals[signal][-1] - self.signals[signal][0] >= made * rate / 3
            if shown:
                again.add(resource)
        return frozenset(again)


_SIGNALS: Final = {
    Resource.MEMORY: "native",
    Resource.FDS: "fds",
    Resource.THREADS: "threads",
    Resource.TASKS: "tasks",
    Resource.CHILDREN: "children",
}
