"""What the tests of whole hunts share: a clock that passes by the call, and hunts by that clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import cast

from pytest_memleak.hunt import hunt
from pytest_memleak.hunt.surroundings import NoSurroundings
from pytest_memleak.model import Result
from pytest_memleak.probes.catalogue import find_probes
from pytest_memleak.settings import Settings
from pytest_memleak.workloads.steps import Rest, Steps, drive

CALL_S = 0.0005
"""The seconds that a call takes by a `Clock`."""


class Clock:
    """Seconds that pass by the call, so that a hunt makes the same rounds on every machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def timed(self, call: Callable[[int], object]) -> Callable[[int], None]:
        """The same call; it takes `CALL_S`."""

        def timed_call(number: int) -> None:
            self.now += CALL_S
            call(number)

        return timed_call

    def resting(self, steps: Steps[Result], *, slept: bool = True) -> Steps[Result]:
        """The same steps; the rests among them take their time by this clock, and are left out unless `slept`."""
        with contextlib.closing(steps):
            while True:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    return cast(Result, stop.value)
                if isinstance(step, Rest):
                    self.now += step.seconds
                    if not slept:
                        continue
                yield step


def hunted(
    call: Callable[[int], object],
    settings: Settings | None = None,
    *,
    surroundings: NoSurroundings | None = None,
    rests_timed: bool = False,
) -> Result:
    """The result of a hunt that sleeps when it rests, so that threads beside the calls have time to work.

    The settings are those of 5 s unless given. Rests take no time by the clock unless `rests_timed`.
    """
    clock = Clock()
    steps = hunt(
        "workload", settings or Settings(max_time=5), probes=find_probes(), clock=clock, surroundings=surroundings
    )
    return drive(clock.resting(steps) if rests_timed else steps, clock.timed(call))


def hunted_at_once(call: Callable[[int], object], settings: Settings | None = None) -> Result:
    """The result of a hunt that never sleeps, for calls that have nothing at work beside them.

    The settings are those of 10 s unless given. Rests take their time by the clock all the same.
    """
    clock = Clock()
    steps = hunt("workload", settings or Settings(max_time=10), probes=find_probes(), clock=clock)
    return drive(clock.resting(steps, slept=False), clock.timed(call))
