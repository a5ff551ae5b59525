"""Seeing a suspected growth again: at deep rest, nothing frozen that may be dead, and beside a control round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pytest_memleak.hunt.pace import ROUND_S, Pace
from pytest_memleak.hunt.surroundings import Surroundings
from pytest_memleak.model import Budget, Judgement, Outcome, Resource
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.heap import Heap
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.units import format_rate
from pytest_memleak.verdict import exact
from pytest_memleak.workloads.steps import Rest, Steps

_ROUNDS: Final = 7
# Units of growth expected in each of them: ten in all stand clear of the five that the interval asks for.
_UNITS: Final = 1.5
# All of them together may take this share of the time limit.
_TIME_SHARE: Final = 0.1
# A round of more calls tells no more where each keeps something.
_MOST_CALLS: Final = 200.0
# A quarter of the growth may well come from elsewhere before the requests are not to blame for the rest.
_BACKGROUND_SHARE: Final = 0.75
_CONTROL_S: Final = 0.25
# Fewer than these in a control round are jitter.
_CONTROL_UNITS: Final = 8

_SIGNALS_OF: Final[Mapping[Resource, tuple[str, ...]]] = {
    Resource.MEMORY: ("blocks", "native"),
    Resource.OBJECTS: ("objects",),
    Resource.FDS: ("fds",),
    Resource.THREADS: ("threads",),
    Resource.TASKS: ("tasks",),
    Resource.CHILDREN: ("children",),
}


class Confirmation:
    """Confirms, for one hunt, what its rounds suspect.

    `ledger` has the readings of the last confirmation; `settles` is false when the process never came to rest.
    """

    def __init__(
        self,
        *,
        probes: Probes,
        pace: Pace,
        surroundings: Surroundings,
        budget: Budget,
        max_time: float,
        clock: Callable[[], float],
    ) -> None:
        self.ledger = Ledger(probes)
        self._probes = probes
        self._pace = pace
        self._surroundings = surroundings
        self._budget = budget
        self._max_time = max_time
        self._clock = clock
        self.settles = True

    def confirm(self, heap: Heap, judgements: Sequence[Judgement], watched: Ledger) -> Steps[tuple[Judgement, ...]]:
        """Judge again what `judgements` on the rounds in `watched` suspect; the others are passed on."""
        suspects = {judgement.resource: judgement for judgement in judgements if judgement.outcome is Outcome.LEAK}
        idle = yield from self._control(heap)
        signals = {signal for judgement in suspects.values() for signal in _deciding(judgement)}
        # One kept object may be several blocks: the objects tell how often something is kept.
        signals |= {"objects"} if "blocks" in signals else set()
        nominal = self._calls(signals & set(self._probes.read), watched)
        begun, made = self._clock(), self._pace.made
        for number in range(_ROUNDS + 1):
            yield from self._pace.round(nominal)
            yield from self._deep_rest(heap)
            if number == 0:
                # Up to here the preparations themselves were alive; the rounds start from this level.
                self.ledger.clear()
                begun, made = self._clock(), self._pace.made
            self.ledger.read(self._pace.made)
        # With the rests between them: what grows on its own grows then too.
        seconds_per_call = (self._clock() - begun) / (self._pace.made - made)
        # What may be gained in all was judged before; here the question is whether it goes on.
        strict = dataclasses.replace(self._budget, fds=0, threads=0, tasks=0, children=0)
        rounds = exact.rounds(self.ledger, self._probes.read, whole=True)
        seen = {judgement.resource: judgement for judgement in exact.judge(rounds, strict, exact.CONFIRM)}
        return tuple(
            self._confirmed(seen[judgement.resource], idle, seconds_per_call)
            if judgement.resource in suspects or _is_settled(judgement, seen, suspects)
            else judgement
            for judgement in judgements
        )

    def slope(self, signal: str) -> float:
        """The growth of a signal per call in the last confirmation."""
        return _slope(self.ledger, self._probes, signal)

    def _control(self, heap: Heap) -> Steps[dict[str, float]]:
        """Growth per second of each signal while no requests are made."""
        ledger = self.ledger
        yield from self._deep_rest(heap)
        idle_from = self._clock()
        ledger.clear()
        ledger.read(self._pace.made)
        yield Rest(_CONTROL_S)
        yield from self._deep_rest(heap)
        ledger.read(self._pace.made)
        idle_s = self._clock() - idle_from
        gained = {signal: ledger.latest(signal) - ledger.columns[signal][0] for signal in self._probes.read}
        return {
            signal: amount / idle_s if amount >= _CONTROL_UNITS * exact.UNITS.get(signal, 1) else 0.0
            for signal, amount in gained.items()
        }

    def _calls(self, signals: Collection[str], watched: Ledger) -> float:
        """Calls per round that let the growth of the suspected signals show some units in each quarter."""
        pace = self._pace
        slopes = [_slope(watched, self._probes, signal) / exact.UNITS[signal] for signal in signals]
        # A slope of a twentieth of the largest is noise beside it.
        slowest = max(min(slopes), max(slopes) / 20, 1e-6)
        longest = self._max_time * _TIME_SHARE / _ROUNDS / max(1e-9, pace.seconds_per_call)
        nominal = min(ROUND_S / max(1e-9, pace.seconds_per_call), _MOST_CALLS)
        nominal = pace.restrained(max(nominal, min(_UNITS / slowest, longest)), watched)
        # Handles that the rounds have piled up already leave less room.
        return nominal / 2 if pace.handles_per_call else nominal

    def _deep_rest(self, heap: Heap) -> Steps[None]:
        if self.settles:
            self.settles = yield from at_rest(self._probes, deep=True)
        else:
            # Something moves on its own; waiting longer for it each time would outlast the time limit.
            yield from at_rest(self._probes)
        self._surroundings.empty_stores()
        heap.refresh()
        self._probes.refreeze()

    def _confirmed(self, judgement: Judgement, idle: Mapping[str, float], seconds_per_call: float) -> Judgement:
        """A judgement of the confirmation, in doubt if all that convicts it goes on without requests."""
        deciding = [signal for signal in _deciding(judgement) if signal in self._probes.read]
        if deciding and all(self._is_background(signal, idle[signal] * seconds_per_call) for signal in deciding):
            rate, unit = idle[deciding[0]], "B of C heap" if deciding[0] == "native" else deciding[0]
            why = f"grows as fast without requests (+{format_rate(rate)} {unit} per second while idle)"
            return dataclasses.replace(judgement, outcome=Outcome.INCONCLUSIVE, why=why)
        if judgement.outcome is not Outcome.LEAK:
            why = f"growth was seen and did not show again at rest ({judgement.why})"
            return dataclasses.replace(judgement, why=why)
        return judgement

    def _is_background(self, signal: str, growth: float) -> bool:
        """Whether as much comes without requests: `growth` in the time of a call."""
        slope = self.slope(signal)
        return slope > 0 and growth >= _BACKGROUND_SHARE * slope


def _slope(ledger: Ledger, probes: Probes, signal: str) -> float:
    found = exact.rounds(ledger, probes.read, whole=True).trend(signal) if signal in exact.UNITS else None
    return found.growth.per_call if found else 0.0


def _deciding(judgement: Judgement) -> tuple[str, ...]:
    """The signals whose growth convicted a resource; of blocks and C heap one may be flat."""
    return judgement.signals or _SIGNALS_OF[judgement.resource]


def _is_settled(
    judgement: Judgement, seen: Mapping[Resource, Judgement], suspects: Mapping[Resource, Judgement]
) -> bool:
    """Whether a closer look settles memory or objects that the rounds left open.

    It may clear them, and convict them beside their twin: over so few calls a cache that fills is straight too.
    """
    twins = (Resource.MEMORY, Resource.OBJECTS)
    if judgement.outcome is not Outcome.INCONCLUSIVE or judgement.resource not in twins:
        return False
    return seen[judgement.resource].outcome is not Outcome.LEAK or any(twin in suspects for twin in twins)
