"""How many calls a round makes: enough to tell, drawn at random, and no more than a leak allows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

from pytest_memleak.hunt.surroundings import Surroundings
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.units import MB
from pytest_memleak.verdict import exact
from pytest_memleak.workloads.steps import CallNumbers, Steps

ROUND_S: Final = 0.07
"""Long against settling (a millisecond or two), short enough for seven readings in a second."""

_WARM_UP_S: Final = 0.12
_MIN_ROUND_CALLS: Final = 4
# A leak of 1 in 1,000 calls needs thousands of calls; beyond this a round only delays the early stop.
_MAX_ROUND_CALLS: Final = 20_000
# Rounds of one size alias with containers that evict in batches; see docs/architecture.md.
_SIZES: Final = (0.4, 1.6)

# What a round may gain: handles run out (256 descriptors on macOS), memory is shared with others. Seven
# rounds still make a trend of 100 handles, and of as many calls as a suspicion demands.
_ROUND_HANDLES: Final = 16
_ROUND_BYTES: Final = 2 * MB
_ROUND_CALLS: Final = exact.SUSPECT.calls / 6

_RUNNING_OUT: Final = ("fds", "threads", "tasks", "children")


class Pace:
    """Makes the rounds of one hunt; knows what a call takes, in seconds and in handles."""

    def __init__(self, probes: Probes, surroundings: Surroundings, clock: Callable[[], float], seed: int) -> None:
        self.numbers = CallNumbers()
        self.seconds_per_call = 0.0
        self.handles_per_call = 0.0
        self._probes = probes
        self._surroundings = surroundings
        self._clock = clock
        self._rng = random.Random(seed)

    @property
    def made(self) -> int:
        """The calls made so far."""
        return self.numbers.made

    @property
    def nominal(self) -> float:
        """The calls of a round of the usual length."""
        return ROUND_S / max(1e-9, self.seconds_per_call)

    def warm_up(self) -> Steps[None]:
        """Double the rounds until one is long enough to tell how long a call takes."""
        count = 1
        begun = self._clock()
        handles = self._handles()
        while True:
            yield from self._timed(count)
            gained = self._handles() - handles
            self.handles_per_call = max(0.0, gained / self.made)
            left = _WARM_UP_S - (self._clock() - begun)
            if left <= 0 or count >= _MAX_ROUND_CALLS or gained >= _ROUND_HANDLES / 2:
                return
            count = min(2 * count, math.ceil(left / max(1e-9, self.seconds_per_call)))

    def round(self, nominal: float) -> Steps[None]:
        """About `nominal` calls, drawn at random."""
        nominal = min(max(nominal, _MIN_ROUND_CALLS), _MAX_ROUND_CALLS)
        yield from self._timed(max(1, round(nominal * self._rng.uniform(*_SIZES))))

    def restrained(self, nominal: float, ledger: Ledger) -> float:
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

    def _timed(self, count: int) -> Steps[None]:
        before = self._clock()
        yield self.numbers.take(count)
        self.seconds_per_call = (self._clock() - before) / count
        self._surroundings.empty_stores()

    def _handles(self) -> int:
        """Descriptors, threads, tasks and processes: what the system runs out of, or slows down under."""
        return sum(self._probes.now(signal) for signal in _RUNNING_OUT)
