"""One measurement: rounds of calls, readings at rest, the verdict, and only on suspicion the diagnosis.

    first call ─► warm-up ─► rounds on a frozen heap ─► verdict? ─► confirmation on a thawed heap ─► diagnosis
                             └──── again while it is open, until the time is up ────┘

A clean test leaves after the rounds. A suspect is confirmed at deep rest, beside a control round without
calls, before anything is said; what does not show again is not convicted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import psutil

from pytest_memleak.diagnosis import known
from pytest_memleak.diagnosis.inquiry import Findings, Suspicion, inquire
from pytest_memleak.model import Judgement, Leak, Outcome, Resource, Result, Round, RssAccount
from pytest_memleak.probes.catalogue import Probes, read_uss
from pytest_memleak.probes.heap import Heap, borrowed_heap
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.settings import Settings
from pytest_memleak.units import MB, format_bytes, format_count, format_rate, format_seconds
from pytest_memleak.verdict import exact
from pytest_memleak.verdict.trend import MIN_ROUNDS
from pytest_memleak.workloads.steps import CallNumbers, Rest, Steps

# Long against settling (a millisecond or two), short enough for seven readings in a second.
_ROUND_S: Final = 0.08
_WARM_UP_S: Final = 0.15
_MIN_ROUND_CALLS: Final = 4
# A leak of 1 in 1,000 calls needs thousands of calls; beyond this a round only delays the early stop.
_MAX_ROUND_CALLS: Final = 20_000
# Each further round is longer while the doubt lasts, so that 30 s are some 100 rounds.
_PATIENT_ROUNDS: Final = 12
_LENGTHENING: Final = 1.08
# Rounds of one size alias with containers that evict in batches; see docs/architecture.md.
_SIZES: Final = (0.4, 1.6)

# What a round may gain: handles run out (256 descriptors on macOS), memory is shared with others. Seven
# rounds still make a trend of 100 handles, and of as many calls as a suspicion demands.
_ROUND_HANDLES: Final = 16
_ROUND_BYTES: Final = 2 * MB
_ROUND_CALLS: Final = exact.SUSPECT.calls / 6

_RUNNING_OUT: Final = ("fds", "threads", "tasks", "children")

_CONFIRM_ROUNDS: Final = 7
# Units of growth expected in each of them: ten in all stand clear of the five that the interval asks for.
_CONFIRM_UNITS: Final = 1.5
# A quarter of the growth may well come from elsewhere before the requests are not to blame for the rest.
_BACKGROUND_SHARE: Final = 0.75
_CONTROL_S: Final = 0.25
# Fewer than these in a control round are jitter.
_CONTROL_UNITS: Final = 8

_MIN_CALLS: Final = 30
"""Fewer calls than these prove nothing: 4.6 units in 30 calls is a leak of one object in every seven."""

# RSS that moved by less than this is what the allocator's arenas round to.
_RSS_WORTH_A_WORD: Final = 8 * MB


class Surroundings(Protocol):
    """What the edge lends a hunt: stores of the test tools to empty, objects that have a name, progress."""

    def prepare(self) -> None:
        """Look for what records calls; the heap is thawed now and will be frozen next."""

    def empty_stores(self) -> None:
        """Empty what the harness itself records per call."""

    def notes(self) -> Sequence[str]:
        """What was left out of the readings and has to be named."""

    def roots(self) -> Mapping[int, str]:
        """Names of objects that end a reference path (fixture values), by identity."""

    def progress(self, line: str) -> None:
        """Show how far the measurement is."""


class NoSurroundings:
    """A hunt outside of any test."""

    __slots__ = ()

    def prepare(self) -> None:
        """Nothing is recorded."""

    def empty_stores(self) -> None:
        """Nothing is recorded."""

    def notes(self) -> Sequence[str]:
        """Nothing was left out."""
        return ()

    def roots(self) -> Mapping[int, str]:
        """Only modules end a path."""
        return {}

    def progress(self, line: str) -> None:
        """Nobody looks."""


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
    hunting = _Hunt(
        name=name,
        settings=settings,
        probes=probes,
        loops=loops,
        surroundings=surroundings or NoSurroundings(),
        unit=unit,
        clock=clock,
        rng=random.Random(seed),
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
        rng: random.Random,
    ) -> None:
        self.name = name
        self.settings = settings
        self.budget = settings.budget()
        self.probes = probes
        self.loops = loops
        self.surroundings = surroundings
        self.unit = unit
        self.clock = clock
        self.rng = rng
        self.ledger = Ledger(probes)
        self.confirmations = Ledger(probes)
        self.numbers = CallNumbers()
        self.seconds_per_call = 0.0
        self.started = 0.0
        self.handles_per_call = 0.0
        self.rss_first = 0
        self.uss_first: int | None = None
        self.native_first = 0
        self.account: RssAccount | None = None
        self.settles = True

    def run(self) -> Steps[Result]:
        self.started = self.clock()
        yield self.numbers.take(1)
        with borrowed_heap() as heap:
            # Coming to rest would otherwise walk the whole heap each time, long before it is judged.
            heap.hide()
            yield from self._warm_up()
            self.rss_first = self._now("rss")
            self.uss_first = read_uss()
            earlier: Sequence[Judgement] = ()
            while True:
                judgements = yield from self._watch(heap)
                if earlier and self.ledger.length < MIN_ROUNDS:
                    # The time ended in a second look, before it could say anything.
                    return self._result(earlier, None)
                if exact.overall(judgements) is not Outcome.LEAK:
                    return self._result(judgements, None)
                confirmed = yield from self._confirm(heap, judgements)
                if exact.overall(confirmed) is Outcome.LEAK:
                    break
                if self._time_is_up():
                    return self._result(confirmed, None)
                earlier = confirmed
            # Before tracemalloc and memray take their share.
            self.account = self._rss_account(Outcome.LEAK)
            findings = yield from self._inquire(heap, confirmed)
            return self._result(self._final(confirmed, findings), findings)

    def _warm_up(self) -> Steps[None]:
        """Double the rounds until one is long enough to tell how long a call takes."""
        count = 1
        begun = self.clock()
        handles = self._handles()
        while True:
            before = self.clock()
            yield self.numbers.take(count)
            taken = self.clock() - before
            self.seconds_per_call = taken / count
            self.surroundings.empty_stores()
            gained = self._handles() - handles
            self.handles_per_call = max(0.0, gained / self.numbers.made)
            left = _WARM_UP_S - (self.clock() - begun)
            if left <= 0 or count >= _MAX_ROUND_CALLS or gained >= _ROUND_HANDLES / 2:
                return
            count = min(2 * count, math.ceil(left / max(1e-9, self.seconds_per_call)))

    def _handles(self) -> int:
        """Descriptors, threads, tasks and processes: what the system runs out of, or slows down under."""
        return sum(self._now(signal) for signal in _RUNNING_OUT)

    def _restrained(self, nominal: float, ledger: Ledger) -> float:
        """Calls per round that keep what a leak piles up within bounds."""
        calls = ledger.calls[ledger.length - 1] - ledger.calls[0] if ledger.length > 1 else 0
        if calls:
            gained = sum(ledger.latest(signal) - ledger.columns[signal][0] for signal in _RUNNING_OUT)
            self.handles_per_call = max(0.0, gained / calls)
            bytes_per_call = (ledger.latest("rss") - ledger.columns["rss"][0]) / calls
            if bytes_per_call > 0:
                nominal = min(nominal, max(_ROUND_CALLS, _ROUND_BYTES / bytes_per_call))
        if self.handles_per_call > 0:
            nominal = min(nominal, _ROUND_HANDLES / self.handles_per_call)
        return nominal

    def _watch(self, heap: Heap) -> Steps[tuple[Judgement, ...]]:
        """Rounds on a frozen heap until the judge knows, or the time is up."""
        yield from at_rest(self.probes)
        heap.show()
        self.surroundings.prepare()
        self.surroundings.empty_stores()
        heap.freeze()
        self.probes.refreeze()
        self.ledger.clear()
        self.native_first = self._now("native")
        nominal = _ROUND_S / max(1e-9, self.seconds_per_call)
        # One round goes by before the baseline: what the preparations left is gone then, and the judge has
        # what it makes only once.
        yield from self._round(self._restrained(nominal, self.ledger))
        yield from at_rest(self.probes)
        self.ledger.read(self.numbers.made)
        self._verdict(late=False)
        self.ledger.clear()
        yield from at_rest(self.probes)
        self.ledger.read(self.numbers.made)
        memory_cap = _memory_cap()
        while True:
            if self.ledger.length > _PATIENT_ROUNDS:
                nominal *= _LENGTHENING
            yield from self._round(self._restrained(nominal, self.ledger))
            yield from at_rest(self.probes)
            self.ledger.read(self.numbers.made)
            swollen = self._now("rss") - self.rss_first > memory_cap
            # Nothing of one round's judgement may live while the next is read: it would show.
            verdict = self._verdict(late=self._time_is_up() or swollen)
            if verdict is not None:
                return verdict

    def _verdict(self, *, late: bool) -> tuple[Judgement, ...] | None:
        """The judgements on the rounds so far, None while another round may say more."""
        rounds = self._rounds(self.ledger)
        self._show_progress(rounds)
        judgements = exact.judge(rounds, self.budget, exact.LATE if late else exact.SUSPECT)
        outcome = exact.overall(judgements)
        enough = self.numbers.made >= max(self.settings.min_calls, _MIN_CALLS)
        is_known = outcome is Outcome.LEAK or late or (outcome is Outcome.CLEAN and enough)
        return judgements if is_known else None

    def _round(self, nominal: float) -> Steps[None]:
        """About `nominal` calls, drawn at random."""
        nominal = min(max(nominal, _MIN_ROUND_CALLS), _MAX_ROUND_CALLS)
        size = max(1, round(nominal * self.rng.uniform(*_SIZES)))
        before = self.clock()
        yield self.numbers.take(size)
        self.seconds_per_call = (self.clock() - before) / size
        self.surroundings.empty_stores()

    def _confirm(self, heap: Heap, judgements: Sequence[Judgement]) -> Steps[tuple[Judgement, ...]]:
        """See the growth again: at deep rest, nothing frozen that may be dead, and beside a control round."""
        self.surroundings.progress(f"{self.name}: growth seen, confirming")
        suspects = {judgement.resource: judgement for judgement in judgements if judgement.outcome is Outcome.LEAK}
        idle = yield from self._control(heap)
        signals = {signal for judgement in suspects.values() for signal in _deciding(judgement)}
        # One kept object may be several blocks: the objects tell how often something is kept.
        signals |= {"objects"} if "blocks" in signals else set()
        nominal = self._confirmation_calls(signals & set(self.probes.read))
        begun, made = self.clock(), self.numbers.made
        for number in range(_CONFIRM_ROUNDS + 1):
            yield from self._round(nominal)
            yield from self._deep_rest(heap)
            if number == 0:
                # Up to here the preparations themselves were alive; the rounds start from this level.
                self.confirmations.clear()
                begun, made = self.clock(), self.numbers.made
            self.confirmations.read(self.numbers.made)
        # With the rests between them: what grows on its own grows then too.
        seconds_per_call = (self.clock() - begun) / (self.numbers.made - made)
        rounds = self._rounds(self.confirmations, whole=True)
        # What may be gained in all was judged before; here the question is whether it goes on.
        strict = dataclasses.replace(self.budget, fds=0, threads=0, tasks=0, children=0)
        seen = {judgement.resource: judgement for judgement in exact.judge(rounds, strict, exact.CONFIRM)}
        return tuple(
            self._confirmed(seen[judgement.resource], idle, seconds_per_call)
            if judgement.resource in suspects or _is_open(judgement)
            else judgement
            for judgement in judgements
        )

    def _control(self, heap: Heap) -> Steps[dict[str, float]]:
        """Growth per second of each signal while no requests are made."""
        ledger = self.confirmations
        yield from self._deep_rest(heap)
        idle_from = self.clock()
        ledger.clear()
        ledger.read(self.numbers.made)
        yield Rest(_CONTROL_S)
        yield from self._deep_rest(heap)
        ledger.read(self.numbers.made)
        idle_s = self.clock() - idle_from
        gained = {signal: ledger.latest(signal) - ledger.columns[signal][0] for signal in self.probes.read}
        return {signal: amount / idle_s if amount >= _CONTROL_UNITS else 0.0 for signal, amount in gained.items()}

    def _confirmed(self, judgement: Judgement, idle: Mapping[str, float], seconds_per_call: float) -> Judgement:
        """A judgement of the confirmation, cleared if the growth goes on without requests."""
        for signal in _SIGNALS_OF[judgement.resource]:
            if signal not in self.probes.read:
                continue
            slope = self._slope(self.confirmations, signal)
            background = idle[signal] * seconds_per_call
            if slope > 0 and background >= _BACKGROUND_SHARE * slope:
                why = f"grows as fast without requests (+{format_rate(idle[signal])} {signal} per second while idle)"
                return dataclasses.replace(judgement, outcome=Outcome.INCONCLUSIVE, why=why)
        if judgement.outcome is not Outcome.LEAK:
            why = f"growth was seen and did not show again at rest ({judgement.why})"
            return dataclasses.replace(judgement, why=why)
        return judgement

    def _confirmation_calls(self, signals: Collection[str]) -> float:
        """Calls per round that let the growth of the suspected signals show some units in each quarter."""
        slopes = [self._slope(self.ledger, signal) / exact.UNITS[signal] for signal in signals]
        # A slope of a twentieth of the largest is noise beside it.
        slowest = max(min(slopes), max(slopes) / 20, 1e-6)
        longest = self.settings.max_time / 10 / _CONFIRM_ROUNDS / max(1e-9, self.seconds_per_call)
        nominal = min(_ROUND_S / max(1e-9, self.seconds_per_call), 200.0)
        return self._restrained(max(nominal, min(_CONFIRM_UNITS / slowest, longest)), self.ledger) / (
            2 if self.handles_per_call else 1
        )

    def _deep_rest(self, heap: Heap) -> Steps[None]:
        if self.settles:
            self.settles = yield from at_rest(self.probes, deep=True)
        else:
            # Something moves on its own; waiting longer for it each time would outlast the time limit.
            yield from at_rest(self.probes)
        self.surroundings.empty_stores()
        heap.refresh()
        self.probes.refreeze()

    def _inquire(self, heap: Heap, judgements: Sequence[Judgement]) -> Steps[Findings]:
        self.surroundings.progress(f"{self.name}: leak confirmed, looking for its line and holder")
        resources = frozenset(judgement.resource for judgement in judgements if judgement.outcome is Outcome.LEAK)
        rates = {signal: self._slope(self.confirmations, signal) for signal in self.probes.read}
        native = next((judgement.signals for judgement in judgements if judgement.resource is Resource.MEMORY), ())
        suspicion = Suspicion(
            resources=resources,
            rates=rates,
            seconds_per_call=self.seconds_per_call,
            native_only=resources == {Resource.MEMORY} and native == ("native",) and "blocks" in self.probes.read,
        )
        return (
            yield from inquire(
                suspicion,
                heap=heap,
                probes=self.probes,
                numbers=self.numbers,
                loops=self.loops,
                roots=self.surroundings.roots(),
                empty_stores=self.surroundings.empty_stores,
                clock=self.clock,
            )
        )

    def _final(self, judgements: Sequence[Judgement], findings: Findings) -> tuple[Judgement, ...]:
        """The judgements with weighed bytes, with known growth taken out, and with doubt where it did not repeat."""
        leaks, covered = self._without_ignored(findings)
        explained = {_group(leak.resource) for leak in leaks}
        known_groups = {_group(resource) for resource in findings.known} | {_group(leak.resource) for leak in covered}
        return tuple(
            self._final_of(judgement, findings, is_known=_group(judgement.resource) in known_groups - explained)
            if judgement.outcome is Outcome.LEAK
            else _with_weight(judgement, findings)
            for judgement in judgements
        )

    def _final_of(self, judgement: Judgement, findings: Findings, *, is_known: bool) -> Judgement:
        if judgement.resource is Resource.MEMORY and findings.memory is not None:
            judgement = exact.weighed(judgement, findings.memory, self.budget)
        if judgement.outcome is not Outcome.LEAK:
            return judgement
        if judgement.resource not in findings.shown_again:
            why = "growth was confirmed, but did not show again under diagnosis"
            return dataclasses.replace(judgement, outcome=Outcome.INCONCLUSIVE, why=why)
        if is_known:
            return dataclasses.replace(judgement, outcome=Outcome.CLEAN, why="all of its growth is known")
        return judgement

    def _without_ignored(self, findings: Findings) -> tuple[list[Leak], list[Leak]]:
        """The leaks that count, and those that the user's list covers."""
        kept: list[Leak] = []
        covered: list[Leak] = []
        for leak in findings.leaks:
            (covered if known.is_ignored(leak, self.settings.ignore) else kept).append(leak)
        return kept, covered

    def _result(self, judgements: Sequence[Judgement], findings: Findings | None) -> Result:
        rounds = self._rounds(self.ledger)
        outcome = exact.overall(judgements)
        notes = list(self.surroundings.notes())
        leaks: tuple[Leak, ...] = ()
        if findings is not None:
            kept, covered = self._without_ignored(findings)
            notes += findings.notes
            notes += [f"ignored as {known.is_ignored(leak, self.settings.ignore)!r}: {leak.what}" for leak in covered]
            leaks = tuple(kept) if outcome is not Outcome.CLEAN else ()
        account = self.account or self._rss_account(outcome)
        if account is not None:
            notes += _rss_notes(account, outcome)
        why = next((judgement.why for judgement in judgements if judgement.outcome is outcome), "")
        return Result(
            name=self.name,
            outcome=outcome,
            budget=self.budget,
            calls=self.numbers.made,
            rounds=max(0, self.ledger.length - 1),
            seconds=self.clock() - self.started,
            judgements=tuple(judgements),
            leaks=leaks,
            notes=tuple(notes),
            sensitivity=exact.sensitivity(rounds) if outcome is Outcome.CLEAN else "",
            missing_probes=tuple(f"{signal}: {reason}" for signal, reason in self.probes.missing.items()),
            rss=account,
            table=self._table(),
            why=why,
            unit=self.unit,
            reason=self.settings.reason,
        )

    def _rss_account(self, outcome: Outcome) -> RssAccount | None:
        if "rss" not in self.probes.read:
            return None
        rss = self._now("rss") - self.rss_first
        native = self._now("native") - self.native_first if "native" in self.probes.read else None
        uss = read_uss()
        trimmed = None
        if outcome is Outcome.CLEAN and rss > _RSS_WORTH_A_WORD and hasattr(psutil, "heap_trim"):
            before = self._now("rss")
            psutil.heap_trim()
            trimmed = before - self._now("rss")
        return RssAccount(
            rss_bytes=rss,
            uss_bytes=None if uss is None or self.uss_first is None else uss - self.uss_first,
            native_bytes=native,
            trimmed_bytes=trimmed,
        )

    def _table(self) -> tuple[Round, ...]:
        """The rounds as changes since the baseline, at most a dozen lines of them."""
        ledger = self.ledger
        rows: Sequence[int] = range(ledger.length)
        if ledger.length > 12:
            step = -(-(ledger.length - 1) // 10)
            rows = [*range(0, ledger.length - 1, step), ledger.length - 1]
        first = {signal: column[0] for signal, column in ledger.columns.items()}

        def change(signal: str, row: int) -> int | None:
            if signal not in self.probes.read:
                return None
            return ledger.columns[signal][row] - first[signal]

        return tuple(
            Round(
                calls=ledger.calls[row] - ledger.calls[0],
                blocks=change("blocks", row),
                objects=change("objects", row),
                native_bytes=change("native", row),
                rss_bytes=change("rss", row),
            )
            for row in rows
        )

    def _rounds(self, ledger: Ledger, *, whole: bool = False) -> exact.Rounds:
        levels = {signal: ledger.column(signal) for signal in self.probes.read}
        return exact.Rounds(calls=ledger.calls[: ledger.length], levels=levels, whole=whole)

    def _slope(self, ledger: Ledger, signal: str) -> float:
        found = self._rounds(ledger, whole=True).trend(signal) if signal in exact.UNITS else None
        return found.growth.per_call if found else 0.0

    def _now(self, signal: str) -> int:
        probe = self.probes.read.get(signal)
        return probe() if probe else 0

    def _time_is_up(self) -> bool:
        return self.clock() - self.started >= self.settings.max_time

    def _show_progress(self, rounds: exact.Rounds) -> None:
        found = rounds.trend("objects") or rounds.trend("blocks")
        growth = f", {found.growth.per_call:+.3f} objects per {self.unit}" if found else ""
        spent = format_seconds(self.clock() - self.started)
        self.surroundings.progress(f"{self.name}: {format_count(self.numbers.made)} calls in {spent}{growth}")


_SIGNALS_OF: Final[Mapping[Resource, tuple[str, ...]]] = {
    Resource.MEMORY: ("blocks", "native"),
    Resource.OBJECTS: ("objects",),
    Resource.FDS: ("fds",),
    Resource.THREADS: ("threads",),
    Resource.TASKS: ("tasks",),
    Resource.CHILDREN: ("children",),
}


def _deciding(judgement: Judgement) -> tuple[str, ...]:
    """The signals whose growth convicted a resource; of blocks and C heap one may be flat."""
    return judgement.signals or _SIGNALS_OF[judgement.resource]


def _is_open(judgement: Judgement) -> bool:
    """Whether the rounds left it open for memory or objects, which a closer look may settle."""
    return judgement.outcome is Outcome.INCONCLUSIVE and _group(judgement.resource) is Resource.MEMORY


def _with_weight(judgement: Judgement, findings: Findings) -> Judgement:
    """Memory that is not convicted itself, in weighed bytes when another resource's leak was diagnosed."""
    if judgement.resource is not Resource.MEMORY or findings.memory is None:
        return judgement
    return dataclasses.replace(judgement, growth=findings.memory)


def _group(resource: Resource) -> Resource:
    """Memory and objects are two views of one growth."""
    return Resource.MEMORY if resource is Resource.OBJECTS else resource


def _memory_cap() -> float:
    """Bytes of RSS that a hunt may gain: a gigabyte, or a quarter of what is free, whichever is less."""
    return min(1000 * MB, psutil.virtual_memory().available / 4)


def _rss_notes(account: RssAccount, outcome: Outcome) -> list[str]:
    if outcome is not Outcome.CLEAN or account.rss_bytes <= _RSS_WORTH_A_WORD:
        return []
    returned = (
        f"; heap_trim gave back {format_bytes(account.trimmed_bytes)}" if account.trimmed_bytes is not None else ""
    )
    return [
        f"RSS grew {format_bytes(account.rss_bytes)} while live memory is flat: fragmentation, not a leak{returned}"
    ]
