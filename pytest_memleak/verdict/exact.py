"""The verdict on exact readings: each resource's growth against its budget, tri-state.

Pure. `judge` looks at the rounds so far and says for each resource CLEAN, LEAK or, while it cannot know,
INCONCLUSIVE with the reason. It is asked after every round; the `Demand` says how much evidence convicts.
Memory is judged on two signals, Python's blocks and the C heap, since neither sees the other's leaks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from pytest_memleak.model import NO_GROWTH, Budget, Growth, Judgement, Outcome, Resource
from pytest_memleak.units import format_bound, format_bytes, format_bytes_bound, format_count, format_rate
from pytest_memleak.verdict.trend import Trend, trend, window

UNITS: Final[Mapping[str, float]] = {
    "blocks": 1, "objects": 1, "fds": 1, "threads": 1, "tasks": 1, "children": 1,
    # malloc rounds up to 16 B on the platforms that report their heap.
    "native": 16,
}  # fmt: skip

PYMALLOC_MAX_BYTES: Final = 512
"""A block is at most this large (Objects/obmalloc.c); larger ones go to malloc, where `native` sees them."""

# Until the diagnosis has weighed them; the mean of a FastAPI process's blocks (psutil.heap_info, 3.12).
_TYPICAL_BLOCK_BYTES: Final = 80

HANDLES: Final[Mapping[str, Resource]] = {
    "fds": Resource.FDS,
    "threads": Resource.THREADS,
    "tasks": Resource.TASKS,
    "children": Resource.CHILDREN,
}

# What "no growth at all" has to exclude before a bare marker passes, per call. A fiftieth of an object is
# one in 50 requests: about 230 calls without growth prove it, in 0.4 s through TestClient. A finer leak that
# shows is convicted all the same; these only say when a flat series is enough.
_TARGETS: Final[Mapping[str, float]] = {
    "blocks": 0.1, "objects": 0.02, "native": 16, "fds": 0.02, "threads": 0.02, "tasks": 0.02, "children": 0.02,
}  # fmt: skip

# A program that scatters (a SQLite connection drops its cursors by the 200) needs ever more calls for less
# and less; after those that would have convicted a leak, five times the target will do.
_PATIENCE: Final = 5

# Where a program's own jitter does not let the target be reached, a pass may say ten times less once the
# time is up; its sensitivity statement tells.
_LOOSE: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How long growth has to last before it convicts.

    `calls` and `units` hold for memory and objects (units of the signal gained), `handles` for what comes
    in whole pieces. `loose` accepts a pass that excludes ten times less.
    """

    calls: int
    units: int
    handles: int
    loose: bool = False


SUSPECT: Final = Demand(calls=1_500, units=5, handles=100)
"""While there is time. Fills look like leaks until they are full: SQLAlchemy's compiled cache takes 500 to
750 entries, re 512, hand-written ones 1,000; pools too: httpx and aiohttp hold 100 connections, anyio 40
threads, an executor 32."""

LATE: Final = Demand(calls=100, units=20, handles=45, loose=True)
"""When the time is up: a test of 100 ms a call makes 300 calls in its 30 s; 45 is more than anyio's 40 threads."""

CONFIRM: Final = Demand(calls=1, units=4, handles=4)
"""On a thawed heap, for growth that has met one of the demands above before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The readings to judge: cumulative `calls`, one column of levels per readable signal, oldest first."""

    calls: Sequence[int]
    levels: Mapping[str, Sequence[int]]
    whole: bool = False
    """Whether all rounds count; else the first third is taken as warm-up."""

    def trend(self, signal: str) -> Trend | None:
        """The trend of one signal after warm-up; None when it is missing or the rounds are too few."""
        if signal not in self.levels:
            return None
        first = 0 if self.whole else window(len(self.calls))
        return trend(self.calls[first:], self.levels[signal][first:], UNITS[signal])

    def late_trend(self, signal: str) -> Trend | None:
        """The trend of one signal over the later half of the calls; None when that is not a window of its own.

        Rounds grow longer, so a third of the rows may be a tenth of the calls: what filled then is over.
        """
        if self.whole or signal not in self.levels or not self.calls:
            return None
        half = (self.calls[0] + self.calls[-1]) / 2
        first = next(row for row, calls in enumerate(self.calls) if calls >= half)
        if first <= window(len(self.calls)):
            return None
        return trend(self.calls[first:], self.levels[signal][first:], UNITS[signal])

    def gained(self, signal: str) -> int:
        """The rise of a signal since the baseline."""
        levels = self.levels[signal]
        return levels[-1] - levels[0] if levels else 0


class Readings(Protocol):
    """A table of readings, one row per round; see `probes.ledger`."""

    def column(self, signal: str) -> Sequence[int]:
        """One signal's readings."""

    def calls_made(self) -> Sequence[int]:
        """The calls made when each row was read."""


def rounds(readings: Readings, signals: Iterable[str], *, whole: bool = False) -> Rounds:
    """The rows of a table as rounds, with the columns of `signals`."""
    levels = {signal: readings.column(signal) for signal in signals}
    return Rounds(calls=readings.calls_made(), levels=levels, whole=whole)


def judge(rounds: Rounds, budget: Budget, demand: Demand = SUSPECT) -> tuple[Judgement, ...]:
    """Judge each resource that can be read; what is not budgeted is CLEAN, with its growth.

    The growth of memory is in bytes a call: an upper estimate (each block counted as 512 B) until the
    diagnosis weighs it. A LEAK of memory under a budget above zero means "grows, and may grow too fast":
    the caller weighs it and decides by `weighed`.
    """
    judgements = [_memory(rounds, budget, demand)]
    if "objects" in rounds.levels:
        found = rounds.trend("objects")
        limit = budget.objects_per_request
        judgements.append(
            _unlimited(Resource.OBJECTS, found.growth if found else NO_GROWTH)
            if limit is None
            else _rate(Resource.OBJECTS, found, limit, "objects", demand)
        )
    limits = {
        "fds": budget.fds,
        "threads": budget.threads,
        "tasks": budget.tasks,
        "children": budget.children,
    }
    judgements += [_handles(rounds, signal, limits[signal], demand) for signal in HANDLES if signal in rounds.levels]
    return tuple(judgements)


def overall(judgements: Sequence[Judgement]) -> Outcome:
    """One leak convicts; without one, one doubt leaves it open."""
    outcomes = {judgement.outcome for judgement in judgements}
    for outcome in (Outcome.LEAK, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.CLEAN


def weighed(judgement: Judgement, growth: Growth, budget: Budget) -> Judgement:
    """The judgement on memory after its bytes were weighed: `growth` in bytes a call."""
    limit = budget.bytes_per_request
    if limit == 0:
        # That it grows is known from the blocks; the scales only say how much, if they are fine enough.
        return dataclasses.replace(judgement, growth=growth) if growth.low > 0 else judgement
    if limit is None or growth.high <= limit:
        why = f"grew {format_bytes(growth.per_call)} per call, within its budget of {format_bytes(limit or 0)}"
        return dataclasses.replace(judgement, outcome=Outcome.CLEAN, growth=growth, why=why)
    if growth.low > limit:
        return dataclasses.replace(judgement, growth=growth)
    why = (
        f"grew between {format_bytes(growth.low)} and {format_bytes(growth.high)} per call: "
        f"too close to its budget of {format_bytes(limit)} to tell"
    )
    return dataclasses.replace(judgement, outcome=Outcome.INCONCLUSIVE, growth=growth, why=why)


def sensitivity(rounds: Rounds) -> str:
    """The smallest leak that these rounds exclude, as a sentence; empty when nothing could be excluded."""
    parts = []
    objects = rounds.trend("objects")
    if objects is not None:
        parts.append(f"{format_bound(max(objects.growth.high, 0))} objects")
    memory = _memory_bound(rounds.trend("blocks"), rounds.trend("native"))
    if memory is not None:
        parts.append(format_bytes_bound(memory.high))
    return f"no leak above {' or '.join(parts)} per call (99 %)" if parts else ""


def _memory_bound(blocks: Trend | None, native: Trend | None) -> Growth | None:
    """Bytes per call at the most: blocks at their largest size, plus the C heap."""
    if blocks is None and native is None:
        return None
    block_growth = blocks.growth if blocks else NO_GROWTH
    native_growth = native.growth if native else NO_GROWTH
    # What is not told from zero is shown as zero; the interval's end says how much it may be.
    likely = [
        size * growth.per_call
        for size, growth in ((_TYPICAL_BLOCK_BYTES, block_growth), (1, native_growth))
        if growth.low > 0
    ]
    return Growth(
        per_call=sum(likely),
        low=max(0.0, native_growth.low),
        high=max(0.0, PYMALLOC_MAX_BYTES * block_growth.high) + max(0.0, native_growth.high),
    )


def _unlimited(resource: Resource, growth: Growth) -> Judgement:
    """What has no budget is measured all the same."""
    return Judgement(resource=resource, outcome=Outcome.CLEAN, growth=growth, limit=None, why="not limited")


def _memory(rounds: Rounds, budget: Budget, demand: Demand) -> Judgement:
    blocks, native = rounds.trend("blocks"), rounds.trend("native")
    bound = _memory_bound(blocks, native)
    limit = budget.bytes_per_request
    if limit is None:
        return _unlimited(Resource.MEMORY, bound or NO_GROWTH)
    if bound is None:
        why = (
            "too few rounds"
            if "blocks" in rounds.levels or "native" in rounds.levels
            else "no probe of memory works here"
        )
        return Judgement(resource=Resource.MEMORY, outcome=Outcome.INCONCLUSIVE, growth=NO_GROWTH, limit=limit, why=why)
    if limit > 0 and bound.high <= limit:
        why = f"grew at most {format_bytes(bound.high)} per call, within its budget of {format_bytes(limit)}"
        return Judgement(resource=Resource.MEMORY, outcome=Outcome.CLEAN, growth=bound, limit=limit, why=why)
    parts = {
        signal: _rate_or_late(Resource.MEMORY, rounds, 0.0, signal, demand)
        for signal, part in (("blocks", blocks), ("native", native))
        if part is not None
    }
    outcome = overall(tuple(parts.values()))
    # The part that decided explains; a flat C heap has nothing to say about leaking blocks.
    if limit > 0 and outcome is Outcome.CLEAN:
        # Flat as far as a bare marker would ask, but this budget asks for more.
        why = f"up to {format_bytes(bound.high)} per call are possible, its budget is {format_bytes(limit)}"
        return Judgement(resource=Resource.MEMORY, outcome=Outcome.INCONCLUSIVE, growth=bound, limit=limit, why=why)
    deciding = tuple(signal for signal, part in parts.items() if part.outcome is outcome)
    return Judgement(
        resource=Resource.MEMORY,
        outcome=outcome,
        growth=bound,
        limit=limit,
        why=parts[deciding[0]].why,
        signals=deciding if outcome is Outcome.LEAK else (),
    )


def _rate_or_late(resource: Resource, rounds: Rounds, limit: float, signal: str, demand: Demand) -> Judgement:
    """Judge all rounds after warm-up; where these leave it open, the later half may clear it."""
    judgement = _rate(resource, rounds.trend(signal), limit, signal, demand)
    if judgement.outcome is Outcome.INCONCLUSIVE:
        late = _rate(resource, rounds.late_trend(signal), limit, signal, demand)
        if late.outcome is Outcome.CLEAN:
            return late
    return judgement


def _rate(resource: Resource, found: Trend | None, limit: float, signal: str, demand: Demand) -> Judgement:
    """Judge a rate of growth per call against `limit` (same unit)."""

    def judgement(outcome: Outcome, why: str) -> Judgement:
        return Judgement(
            resource=resource,
            outcome=outcome,
            growth=found.growth if found else NO_GROWTH,
            limit=limit,
            why=why,
        )

    if found is None:
        return judgement(Outcome.INCONCLUSIVE, "too few rounds")
    growth = found.growth
    grows = growth.low > limit
    patient = found.calls >= SUSPECT.calls and not grows
    target = limit if limit > 0 else _TARGETS[signal] * (_PATIENCE if patient else 1)
    if limit > 0 and growth.high <= limit:
        return judgement(Outcome.CLEAN, f"grew {format_rate(growth.per_call)} per call, within its budget")
    if _is_flat(found, signal, grows) and growth.high <= target:
        return judgement(Outcome.CLEAN, f"flat over {format_count(found.calls)} calls")
    if found.bounded and not grows and found.calls >= SUSPECT.calls:
        return judgement(Outcome.CLEAN, f"rises and falls within bounds over {format_count(found.calls)} calls")
    lasted = found.calls >= demand.calls and found.gained >= demand.units * UNITS[signal]
    if grows and found.sustained and not found.fading and lasted:
        return judgement(Outcome.LEAK, f"grew steadily over {format_count(found.calls)} calls")
    if demand.loose and growth.high <= (target if limit > 0 else target * _LOOSE) and not (grows and found.sustained):
        return judgement(Outcome.CLEAN, f"no lasting growth over {format_count(found.calls)} calls")
    return judgement(Outcome.INCONCLUSIVE, _doubt(found, grows, signal))


# A rise within so many standard deviations of the readings is what jitter does to the first and the last.
_JITTERS: Final = 2.5


def _is_flat(found: Trend, signal: str, grows: bool) -> bool:
    """Whether a series may pass: no growth that stands out from the jitter, even if it is below the target.

    Blocks may rise while they fade: free lists and small caches fill ever slower. The C heap may rise in steps,
    whenever a table or an arena of somebody else is resized.
    """
    if signal == "native":
        return not (grows and found.sustained)
    if signal == "blocks" and found.fading:
        return True
    return not grows and found.gained <= _JITTERS * found.deviation


def _doubt(found: Trend, grows: bool, signal: str) -> str:
    over = f"over {format_count(found.calls)} calls"
    unit = "B" if signal == "native" else signal
    growth = found.growth
    if not grows:
        low, high = format_rate(growth.low), format_rate(growth.high)
        return f"the readings scatter: between {low} and {high} {unit} per call {over}"
    grown = f"grows by {format_rate(growth.per_call)} {unit} per call"
    if found.fading:
        return f"{grown}, but ever slower {over}: a cache that fills?"
    if not found.sustained:
        return f"grows in steps {over}, not with every round"
    return f"{grown}, but only {over}: a cache that fills?"


def _handles(rounds: Rounds, signal: str, allowed: int, demand: Demand) -> Judgement:
    """Judge what comes in whole pieces (descriptors, threads, tasks, processes) against a number allowed."""
    resource = HANDLES[signal]
    found = rounds.trend(signal)
    gained = max(rounds.gained(signal), round(found.gained) if found else 0)

    def judgement(outcome: Outcome, why: str) -> Judgement:
        return Judgement(
            resource=resource,
            outcome=outcome,
            growth=found.growth if found else NO_GROWTH,
            limit=allowed,
            why=why,
        )

    if found is None:
        return judgement(Outcome.INCONCLUSIVE, "too few rounds")
    grows = found.growth.low > 0
    # Within what is allowed, and not on the way out of it.
    if gained <= allowed and (not grows or found.calls >= demand.calls):
        return judgement(Outcome.CLEAN, f"{gained:+d} in all")
    if not grows and found.growth.high <= _TARGETS[signal] * (_LOOSE if demand.loose else 1):
        return judgement(Outcome.CLEAN, f"flat over {format_count(found.calls)} calls, {gained:+d} in all")
    if grows and found.sustained and not found.fading and gained > allowed and gained >= demand.handles:
        return judgement(Outcome.LEAK, f"grew steadily over {format_count(found.calls)} calls")
    return judgement(Outcome.INCONCLUSIVE, _doubt(found, grows, signal))
