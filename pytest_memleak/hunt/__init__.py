"""One measurement: rounds of calls, readings at rest, the verdict, and only on suspicion the diagnosis.

    first call ─► warm-up ─► rounds on a frozen heap ─► verdict? ─► confirmation on a thawed heap ─► diagnosis
                             └──── again while it is open, until the time is up ────┘

A clean test leaves after the rounds. A suspect is confirmed at deep rest, beside a control round without
calls, before anything is said; what does not show again is not convicted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from pytest_memleak.diagnosis import known
from pytest_memleak.diagnosis.inquiry import Findings, Suspicion, inquire
from pytest_memleak.hunt import conclusion
from pytest_memleak.hunt.conclusion import RssWatch
from pytest_memleak.hunt.confirmation import Confirmation
from pytest_memleak.hunt.pace import Pace
from pytest_memleak.hunt.surroundings import NoSurroundings, Surroundings
from pytest_memleak.model import Judgement, Leak, Outcome, Resource, Result, RssAccount
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.heap import Heap, borrowed_heap
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.settings import Settings
from pytest_memleak.units import MB, format_count, format_seconds
from pytest_memleak.verdict import exact
from pytest_memleak.verdict.trend import MIN_ROUNDS
from pytest_memleak.workloads.steps import Steps

# Each further round is longer while the doubt lasts, so that 30 s are some 60 rounds.
_PATIENT_ROUNDS: Final = 12
_LENGTHENING: Final = 1.08

_MIN_CALLS: Final = 30
"""Fewer calls than these prove nothing: 4.6 units in 30 calls is a leak of one object in every seven."""


def hunt(
    name: str,
    settings: Settings,
    *,
    probes: Probes,
    loops: Sequence[asyncio.AbstractEventLoop] = (),
    surroundings: Surroundings | None = None,
    unit: str = "call",
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> Steps[Result]:
    """Measure one workload: a generator of `Calls` and `Rest` that returns a Result.

    `clock` gives seconds. Round sizes are drawn from `seed`, so that a run can be repeated exactly. The
    collector's state and tracemalloc's are left as they were found.
    """
    surroundings = surroundings or NoSurroundings()
    hunting = _Hunt(
        name=name,
        settings=settings,
        probes=probes,
        loops=loops,
        surroundings=surroundings,
        unit=unit,
        clock=clock,
        pace=Pace(probes, surroundings, clock, seed),
    )
    return hunting.run()


class _Hunt:
    """The state of one measurement."""

    def __init__(
        self,
        *,
        name: str,
        settings: Settings,
        probes: Probes,
        loops: Sequence[asyncio.AbstractEventLoop],
        surroundings: Surroundings,
        unit: str,
        clock: Callable[[], float],
        pace: Pace,
    ) -> None:
        self.name = name
        self.settings = settings
        self.budget = settings.budget()
        self.probes = probes
        self.loops = loops
        self.surroundings = surroundings
        self.unit = unit
        self.clock = clock
        self.pace = pace
        self.ledger = Ledger(probes)
        self.confirmation = Confirmation(
            probes=probes,
            pace=pace,
            surroundings=surroundings,
            budget=self.budget,
            max_time=settings.max_time,
            clock=clock,
        )
        self.rss: RssWatch  # begins when the warm-up is over
        self.deep = False
        self.started = 0.0
        self.diagnosis_s = 0.0

    def run(self) -> Steps[Result]:
        self.started = self.clock()
        yield self.pace.numbers.take(1)
        with borrowed_heap() as heap:
            # Coming to rest would otherwise walk the whole heap each time, long before it is judged.
            heap.hide()
            yield from self.pace.warm_up()
            self.rss = RssWatch(self.probes)
            if self._is_too_slow():
                # What is left of the time would not make it a verdict.
                return self._result(exact.judge(exact.rounds(self.ledger, self.probes.read), self.budget))
            earlier: Sequence[Judgement] = ()
            while True:
                judgements = yield from self._watch(heap)
                if earlier and self.ledger.length < MIN_ROUNDS:
                    # The time ended in a second look, before it could say anything.
                    return self._result(earlier)
                if exact.overall(judgements) is not Outcome.LEAK:
                    return self._result(judgements)
                self.surroundings.progress(f"{self.name}: growth seen, confirming")
                confirmed = yield from self.confirmation.confirm(heap, judgements, self.ledger)
                if exact.overall(confirmed) is Outcome.LEAK:
                    break
                if self._time_is_up():
                    return self._result(confirmed)
                earlier = confirmed
                # What ends a tenth of a second after its call is no growth, if one waits for it.
                self.deep = self.confirmation.settles
            # Before tracemalloc and memray take their share.
            account = self.rss.account(Outcome.LEAK)
            convicted = self.clock()
            findings = yield from self._inquire(heap, confirmed)
            self.diagnosis_s = self.clock() - convicted
            final = conclusion.final_judgements(confirmed, findings, self.budget, self.settings.ignore)
            return self._result(final, findings, account)

    def _watch(self, heap: Heap) -> Steps[tuple[Judgement, ...]]:
        """Rounds on a frozen heap until the judge knows, or the time is up."""
        yield from at_rest(self.probes)
        heap.show()
        self.surroundings.prepare()
        self.surroundings.empty_stores()
        heap.freeze()
        self.probes.refreeze()
        self.ledger.clear()
        nominal = self.pace.nominal
        # One round goes by before the baseline: what the preparations left is gone then, and the judge has
        # what it makes only once.
        yield from self.pace.round(self.pace.restrained(nominal, self.ledger))
        yield from at_rest(self.probes)
        self.ledger.read(self.pace.made)
        self._verdict(late=False)
        self.ledger.clear()
        yield from at_rest(self.probes, deep=self.deep)
        self.ledger.read(self.pace.made)
        memory_cap = _memory_cap()
        while True:
            if self.ledger.length > _PATIENT_ROUNDS:
                nominal *= _LENGTHENING
            yield from self.pace.round(self.pace.restrained(nominal, self.ledger))
            yield from at_rest(self.probes, deep=self.deep)
            self.ledger.read(self.pace.made)
            swollen = self.rss.gained() > memory_cap
            # Nothing of one round's judgement may live while the next is read: it would show.
            verdict = self._verdict(late=self._time_is_up() or swollen)
            if verdict is not None:
                return verdict

    def _verdict(self, *, late: bool) -> tuple[Judgement, ...] | None:
        """The judgements on the rounds so far, None while another round may say more."""
        rounds = exact.rounds(self.ledger, self.probes.read)
        self._show_progress(rounds)
        judgements = exact.judge(rounds, self.budget, exact.LATE if late else exact.SUSPECT)
        outcome = exact.overall(judgements)
        enough = self.pace.made >= max(self.settings.min_calls, _MIN_CALLS)
        is_known = outcome is Outcome.LEAK or late or (outcome is Outcome.CLEAN and enough)
        return judgements if is_known else None

    def _inquire(self, heap: Heap, judgements: Sequence[Judgement]) -> Steps[Findings]:
        self.surroundings.progress(f"{self.name}: leak confirmed, looking for its line and holder")
        resources = frozenset(judgement.resource for judgement in judgements if judgement.outcome is Outcome.LEAK)
        rates = {signal: self.confirmation.slope(signal) for signal in self.probes.read}
        native = next((judgement.signals for judgement in judgements if judgement.resource is Resource.MEMORY), ())
        suspicion = Suspicion(
            resources=resources,
            rates=rates,
            seconds_per_call=self.pace.seconds_per_call,
            native_only=resources == {Resource.MEMORY} and native == ("native",) and "blocks" in self.probes.read,
        )
        return (
            yield from inquire(
                suspicion,
                heap=heap,
                probes=self.probes,
                numbers=self.pace.numbers,
                loops=self.loops,
                roots=self.surroundings.roots(),
                empty_stores=self.surroundings.empty_stores,
                clock=self.clock,
            )
        )

    def _result(
        self, judgements: Sequence[Judgement], findings: Findings | None = None, account: RssAccount | None = None
    ) -> Result:
        rounds = exact.rounds(self.ledger, self.probes.read)
        outcome = exact.overall(judgements)
        notes = list(self.surroundings.notes())
        leaks: tuple[Leak, ...] = ()
        if findings is not None:
            kept, covered = conclusion.without_ignored(findings, self.settings.ignore)
            notes += findings.notes
            notes += [f"ignored as {known.is_ignored(leak, self.settings.ignore)!r}: {leak.what}" for leak in covered]
            leaks = tuple(kept) if outcome is not Outcome.CLEAN else ()
        account = account or self.rss.account(outcome)
        notes += conclusion.rss_notes(account, outcome)
        return Result(
            name=self.name,
            outcome=outcome,
            budget=self.budget,
            calls=self.pace.made,
            rounds=max(0, self.ledger.length - 1),
            seconds=self.clock() - self.started,
            diagnosis_seconds=self.diagnosis_s,
            judgements=tuple(judgements),
            leaks=leaks,
            notes=tuple(notes),
            sensitivity=exact.sensitivity(rounds) if outcome is Outcome.CLEAN else "",
            missing_probes=tuple(f"{signal}: {reason}" for signal, reason in self.probes.missing.items()),
            rss=account,
            table=conclusion.table(self.ledger, self.probes),
            why=next((judgement.why for judgement in judgements if judgement.outcome is outcome), ""),
            unit=self.unit,
            reason=self.settings.reason,
        )

    def _is_too_slow(self) -> bool:
        left = self.settings.max_time - (self.clock() - self.started)
        return (_MIN_CALLS - self.pace.made) * self.pace.seconds_per_call > left

    def _time_is_up(self) -> bool:
        return self.clock() - self.started >= self.settings.max_time

    def _show_progress(self, rounds: exact.Rounds) -> None:
        found = rounds.trend("objects") or rounds.trend("blocks")
        growth = f", {found.growth.per_call:+.3f} objects per {self.unit}" if found else ""
        spent = format_seconds(self.clock() - self.started)
        self.surroundings.progress(f"{self.name}: {format_count(self.pace.made)} calls in {spent}{growth}")


# What a developer's machine can spare without swapping; a leak of 100 kB a call still makes 10,000 calls.
_MOST_BYTES: Final = 1_000 * MB


def _memory_cap() -> float:
    """Bytes of RSS that a hunt may gain: a gigabyte, or a quarter of what is free, whichever is less."""
    return min(_MOST_BYTES, psutil.virtual_memory().available / 4, _free_in_container() / 4)


def _free_in_container() -> float:
    """What the container's own limit leaves (cgroup v2), in bytes; without bound where there is none.

    psutil tells of the host, and the kernel kills by the container.
    """
    cgroup = Path("/sys/fs/cgroup")
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return float(limit) - float(used)
    except (OSError, ValueError):  # no cgroup, another version of it, or "max"
        return math.inf
