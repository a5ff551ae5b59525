"""The act of an inspection: a baseline, some readings, the judge, and a look at what grew."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from pytest_memleak.inspection import judging
from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.model import Outcome
from pytest_memleak.model_objects import Held, ObjectsResult, Reading, TypeGrowth
from pytest_memleak.units import format_count

MOST_OBJECTS: Final = 2_000_000
"""Counted in a reading, some 60 to 100 ns each; of more, each n-th is."""

_LOOKED_AT: Final = 8
"""Types whose samples are traced to their holder: each walk of the heap costs the process 10 ns an object."""

_SAMPLES: Final = 3

# Objects that are met on the way up from the samples of a type; a path of a cache or a registry meets some tens.
_NODES: Final = 500

_MARKED: Final = 12
"""Types that have grown so far whose instances are told apart from the next reading's, and how many of each."""

_MOST_MARKS: Final = 20_000

_FRESH: Final = 8
"""New instances of a type that are looked for again: those of requests in flight are gone by then."""

# The longest that a look may hold the process, but for the walk that it is in.
_LOOK_S: Final = 0.25

# Blocks of untracked objects (texts, numbers, arrays): what fluctuates is far below, what matters far above.
_LEAST_BLOCKS: Final = 1_000


class Way(Protocol):
    """How a process is asked. `ask` raises Gone and InspectionError; `attached_s` are a debugger's stays."""

    name: str
    attached_s: list[float]

    def ask(self, order: dict[str, Any]) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often to read after the baseline, and how far apart."""

    interval_s: float = 10.0
    samples: int = 3
    most: int = MOST_OBJECTS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is; `top` is the type that grew most so far, None before the second reading."""

    elapsed_s: float
    wanted_s: float
    objects: int
    top: TypeGrowth | None


def checked(plan: Plan) -> Plan:
    """The plan itself. Raises InspectionError."""
    if not (math.isfinite(plan.interval_s) and plan.interval_s >= 0.5):
        raise InspectionError(f"--interval: expects at least 0.5 seconds, got {plan.interval_s:g}")
    if not 2 <= plan.samples <= 1000:
        raise InspectionError(f"--samples: expects 2 to 1000 readings after the baseline, got {plan.samples}")
    if plan.most < 1000:
        raise InspectionError(f"--max-objects: expects at least 1000, got {plan.most}")
    return plan


def track(
    way: Way, plan: Plan, *, target: str, notes: Sequence[str] = (), progress: Callable[[Progress], None],
    sleep: Callable[[float], None] = time.sleep,
) -> ObjectsResult:  # fmt: skip
    """Read, judge, look. What ends it early is told. Raises what the first reading raises."""
    found = _Tracking(way, plan, progress, sleep)
    ended_early = found.follow()
    return found.result(target, notes, ended_early)


class _Tracking:
    """One inspection while it runs."""

    def __init__(
        self, way: Way, plan: Plan, progress: Callable[[Progress], None], sleep: Callable[[float], None]
    ) -> None:
        self._way = way
        self._plan = plan
        self._progress = progress
        self._sleep = sleep
        self._readings: list[Reading] = []
        self._pauses: list[float] = []
        self._look_s: float | None = None
        self._notes: list[str] = []
        self._marks: dict[str, set[int]] = {}
        self._fresh: dict[str, list[int]] = {}

    def follow(self) -> str:
        """All readings; gives why it ended before its time, or nothing."""
        self._take()
        start = self._readings[0].t
        try:
            for count in range(1, self._plan.samples + 1):
                self._wait(start + count * self._plan.interval_s, start)
                self._take()
        except KeyboardInterrupt:
            return "it was interrupted"
        except (Gone, InspectionError) as error:
            return str(error)
        return ""

    def result(self, target: str, notes: Sequence[str], ended_early: str) -> ObjectsResult:
        """The judged readings, the growing types looked at."""
        readings = self._readings
        types = judging.judge(readings)
        last = readings[-1]
        types = judging.explained(types, self._looked(types), collecting=last.collecting)
        outcome, why = judging.outcome_of(types, len(readings))
        if outcome is Outcome.LEAK and last.every > 1:
            why += f" (of each {last.every} objects one was counted)"
        times = tuple(round(reading.t - readings[0].t, 3) for reading in readings)
        blocks = [reading.blocks for reading in readings if reading.blocks is not None]
        return ObjectsResult(
            target=target,
            way=self._way.name,
            outcome=outcome,
            why=why,
            types=tuple(types),
            seconds=times[-1],
            times_s=times,
            pauses_s=tuple(self._pauses),
            look_s=self._look_s,
            attached_s=tuple(self._way.attached_s),
            python=last.python,
            objects=tuple(reading.objects for reading in readings),
            blocks=tuple(blocks) if len(blocks) == len(readings) else (),
            notes=(*notes, *self._notes, *_remarks(readings)),
            ended_early=ended_early,
        )

    def _take(self) -> None:
        grown = [one for one in judging.judge(self._readings) if one.delta > 0] if len(self._readings) > 1 else []
        mark = [one.name for one in sorted(grown, key=lambda one: -one.delta)[:_MARKED]]
        answer = self._way.ask({"what": "count", "most": self._plan.most, "mark": mark, "most_marks": _MOST_MARKS})
        reading = _reading(answer)
        self._readings.append(reading)
        if reading.pause_s is not None:
            self._pauses.append(reading.pause_s)
        marks = {str(name): set(found) for name, found in answer.get("marks", {}).items()}
        self._fresh = {
            name: _spread(sorted(found - self._marks[name]), _FRESH)
            for name, found in marks.items()
            if name in self._marks
        }
        self._marks = marks

    def _wait(self, until: float, start: float) -> None:
        """Sleep, a second at a time, and show how far it is."""
        top = next(iter(judging.judge(self._readings)), None) if len(self._readings) > 1 else None
        while (left := until - time.monotonic()) > 0:
            self._progress(
                Progress(
                    elapsed_s=time.monotonic() - start,
                    wanted_s=self._plan.samples * self._plan.interval_s,
                    objects=self._readings[-1].objects,
                    top=top if top is not None and top.delta > 0 else None,
                )
            )
            self._sleep(min(left, 1.0))

    def _looked(self, types: Sequence[TypeGrowth]) -> dict[str, Held]:
        """What is found about samples of the types that leak, those of modules before the built-in ones."""
        leaking = [one.name for one in types if one.leaks]
        wanted = sorted(leaking, key=lambda name: "." not in name)[:_LOOKED_AT]
        if not wanted:
            return {}
        order = {
            "what": "look", "types": wanted, "samples": _SAMPLES, "nodes": _NODES, "limit_s": _LOOK_S,
            "fresh": {name: self._fresh[name] for name in wanted if self._fresh.get(name)},
        }  # fmt: skip
        try:
            answer = self._way.ask(order)
            self._look_s = float(answer["pause_s"])
            return {
                str(name): Held(
                    path=tuple(map(str, found["path"])), is_garbage=bool(found["garbage"]), site=str(found["site"])
                )
                for name, found in answer.get("held", {}).items()
            }
        except KeyboardInterrupt:
            self._notes.append("interrupted before the holders of the growing types were looked for")
        except (Gone, InspectionError) as error:
            self._notes.append(f"who holds the growing types was not found: {error}")
        except (KeyError, TypeError, ValueError, AttributeError):
            self._notes.append("the answer about holders could not be read")
        return {}


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """Some of them, evenly."""
    return list(numbers[:: -(-len(numbers) // most) or 1])


def _reading(answer: Mapping[str, Any]) -> Reading:
    try:
        counts = {str(name): int(count) for name, count in answer["counts"].items()}
        return Reading(
            pid=int(answer["pid"]),
            t=time.monotonic(),
            counts=counts,
            objects=int(answer.get("objects", sum(counts.values()))),
            every=int(answer.get("every", 1)),
            blocks=None if answer.get("blocks") is None else int(answer["blocks"]),
            collecting=answer.get("collecting"),
            pause_s=answer.get("pause_s"),
            python=str(answer.get("python", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InspectionError(f"the answer holds no counts ({error!r})") from None


def _remarks(readings: Sequence[Reading]) -> list[str]:
    """What the table of types cannot show."""
    remarks = []
    last = readings[-1]
    if last.every > 1:
        remarks.append(
            f"{format_count(last.objects)} objects: each {last.every}th was counted, and the counts are scaled up"
        )
    blocks = [reading.blocks for reading in readings if reading.blocks is not None]
    gains = [after - before for before, after in itertools.pairwise(blocks)]
    tracked = last.objects - readings[0].objects
    if len(gains) > 1 and min(gains) > 0 and sum(gains) >= max(_LEAST_BLOCKS, 5 * abs(tracked)):
        remarks.append(
            f"allocated blocks grew by {format_count(sum(gains))} and tracked objects by {format_count(tracked)}: "
            "texts, bytes or numbers accumulate, which the garbage collector does not track; "
            "a container that holds them may be one object that gains entries"
        )
    return remarks
