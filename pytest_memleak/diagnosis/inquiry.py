"""The diagnosis: the same workload again, under tracemalloc, to answer what, where, who and what to do."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pytest_memleak.diagnosis import allocations, causes, containers, handles, holders, native
from pytest_memleak.diagnosis.reach import Fresh
from pytest_memleak.model import Growth, Leak, Resource, Site
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.heap import Heap
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.workloads.steps import CallNumbers, Steps

_ROUNDS: Final = 6
"""Three before the middle survey and three after it; with the baseline they make a trend."""

# Growth that is to be named must stand out from what merely warms up under tracing: 40 entries do.
_WANTED_UNITS: Final = 40
# Two halves of a leak weigh the same to within a fifth.
_STEADY: Final = 5
# Where nothing runs out, more calls make the bytes exact; descriptors and threads do run out.
_WANTED_CALLS: Final = 120
_MIN_CALLS: Final = 30
_MAX_S: Final = 1.7
# Where the calls wanted would take so many times as long, stacks are cut short.
_PATIENCE: Final = 3
_SITES: Final = 3
"""Of the C heap's growth that are told; of a load of many endpoints as many for each."""

_FIRST_CALLS: Final = 3
"""Made under tracing before anything is read: they tell how slow a traced call is."""
# Traced calls are slower by a third when the trace has filled (measured: 0.50 ms, then 0.66).
_SLOWING: Final = 1.3
# Calls of half a millisecond are told from their first, cold ones.
_TIMED_S: Final = 0.05


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What the verdict suspects: rates per call from the rounds, which resources are convicted so far."""

    resources: frozenset[Resource]
    rates: Mapping[str, float]
    seconds_per_call: float
    native_only: bool
    share: float = 1.0
    """The share of the calls that the rarest leak shows in: below 1 where the calls are a load of many endpoints."""


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
    """How many calls the diagnosis would like to make: enough for the slowest growth to stand out."""
    if suspicion.share < 1:
        return math.ceil(_WANTED_UNITS / suspicion.share)
    if suspicion.resources & {Resource.FDS, Resource.THREADS, Resource.TASKS, Resource.CHILDREN}:
        return _MIN_CALLS
    rates = [suspicion.rates[signal] for signal in ("objects", "blocks") if suspicion.rates.get(signal, 0) > 0]
    return max(_WANTED_CALLS, math.ceil(_WANTED_UNITS / max(rates))) if rates else _WANTED_CALLS


def inquire(
    suspicion: Suspicion,
    *,
    heap: Heap,
    probes: Probes,
    numbers: CallNumbers,
    loops: Sequence[asyncio.AbstractEventLoop],
    roots: Mapping[int, str],
    empty_stores: Callable[[], None],
    clock: Callable[[], float],
    patience_s: float = _MAX_S,
) -> Steps[Findings]:
    """Repeat the workload under observation. Leaves the heap thawed and tracing as it was found.

    `patience_s` is how long the traced calls may take together.
    """
    if suspicion.native_only:
        return (yield from _inquire_native(suspicion, numbers, probes))
    # Everything on a loop refers to everything: a path that reaches the loop has said enough.
    roots = {**roots, **{id(loop): "the event loop" for loop in loops}}
    heap.thaw()
    census = containers.census()
    made_before = numbers.made
    threads, tasks, fds = handles.thread_ids(), handles.task_ids(loops), handles.open_fds()
    heap.freeze()
    with allocations.tracing() as shallow:
        taken = yield from _timed_calls(numbers, clock)
        if calls_wanted(suspicion) * taken > _PATIENCE * patience_s:
            shallow()
            taken = yield from _timed_calls(numbers, clock)
        share = _share(suspicion, taken, patience_s)
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
        observed, made = share * _ROUNDS, numbers.made - made_before
        new = holders.new_objects()
        heap.thaw()
        fresh = Fresh(new)
        held = holders.find(census, new, fresh, made, _least(suspicion, made), roots)
        del new[:]
        opened, notes = _handle_leaks(suspicion, fds, threads, tasks, loops, made, fresh)
        three = (surveys[0], surveys[1], surveys[2])
        memory = _memory(three, observed, suspicion, held, opened) if surveys[2] else None
        sites = allocations.growing_sites(three, observed)
    return Findings(
        leaks=tuple(causes.causes(opened, held, sites, memory.per_call if memory else 0.0)),
        notes=(*notes, *held.notes),
        memory=memory,
        known=_known(held, notes, is_all=not causes.unexplained(held, sites)),
        shown_again=levels.shown_again(suspicion, traced=bool(held.kept or held.known or held.loose or sites)),
    )


def _timed_calls(numbers: CallNumbers, clock: Callable[[], float]) -> Steps[float]:
    """The seconds that a call takes under tracing."""
    count = _FIRST_CALLS
    while True:
        before = clock()
        yield numbers.take(count)
        taken = clock() - before
        if taken >= _TIMED_S or count >= _WANTED_CALLS:
            return taken / count
        count *= 4


def _share(suspicion: Suspicion, traced_seconds_per_call: float, patience_s: float) -> int:
    """Calls in each round: what the slowest growth needs, as far as the time allows under tracing."""
    affordable = patience_s / max(1e-7, traced_seconds_per_call * _SLOWING)
    return max(1, math.ceil(min(calls_wanted(suspicion), affordable) / _ROUNDS))


def _inquire_native(suspicion: Suspicion, numbers: CallNumbers, probes: Probes) -> Steps[Findings]:
    """Only the C heap grows: tracemalloc would see nothing, and its own records would disturb the reading."""
    rate = suspicion.rates["native"]
    sites: list[Site] = []
    details: Sequence[str] = native.installed_hint()
    if native.is_memray_usable():
        calls = max(_MIN_CALLS, min(_WANTED_CALLS, round(_MAX_S / max(1e-7, suspicion.seconds_per_call * 10))))
        calls = round(calls / suspicion.share)
        least = max(2, round(calls * suspicion.share) // 3)
        most = round(_SITES / suspicion.share)
        sites, details = yield from native.native_sites(numbers, probes, calls, least, most)
    leaks = [causes.native_leak(rate, details, sites)]
    if suspicion.share < 1 and sites:
        # Of many endpoints: whose each is, its line tells.
        leaks = [causes.native_leak(site.bytes_per_call, (), [site]) for site in sites]
    return Findings(
        leaks=tuple(leaks),
        notes=(),
        memory=Growth(per_call=rate, low=rate, high=rate),
        known=frozenset(),
        shown_again=suspicion.resources,
    )


def _known(held: holders.Held, thread_notes: Sequence[str], *, is_all: bool) -> frozenset[Resource]:
    known = {Resource.MEMORY} if held.known and is_all else set()
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
    fresh: Fresh,
) -> tuple[list[handles.Opened], list[str]]:
    leaks: list[handles.Opened] = []
    thread_leaks, notes = handles.thread_leaks(threads, made, fresh)
    if Resource.FDS in suspicion.resources:
        leaks += handles.fd_leaks(fds, made, fresh)
    if Resource.THREADS in suspicion.resources:
        leaks += thread_leaks
    if Resource.TASKS in suspicion.resources:
        leaks += handles.task_leaks(loops, tasks, made, fresh)
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
    # What the interpreter takes from its free lists has no trace; the walk over the entries has seen it.
    walked = sum(kept.bytes_per_entry * kept.holder.entries_per_call for kept in held.kept)
    if walked and traced.high - traced.low > traced.per_call / _STEADY:
        # The halves disagree: a table was resized on the very line that leaks. The entries are exact.
        traced = Growth(per_call=walked, low=walked, high=walked)
    return traced.minus(-tables - native - max(0.0, walked - traced.per_call))


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
                # So slow a leak need not show in so few calls: silence proves nothing.
                rates = [suspicion.rates.get(signal, 0.0) for signal in ("objects", "blocks")]
                shown = traced or max(rates) * made < _WANTED_UNITS
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
