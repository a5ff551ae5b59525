"""A store's series as replicas with lives: whose memory it is, and which readings belong to one process.

Pure. A start time, where the store has one, says which process a reading is of: a new one is a new life, and two that
take turns are workers behind one port. Without it, a fall of more than half is taken for a restart.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from pytest_memleak.model_watch import Track

Labels: TypeAlias = tuple[tuple[str, str], ...]

# A process that is started anew holds a fraction of what a leak had reached; what is set free at work is less.
_FALL: Final = 0.5

# Some clients compute the start time anew from the boot time, which is in whole seconds and may be corrected by one.
_SAME_START_S: Final = 0.005
_CORRECTED_S: Final = 1.0

DOUBLE: Final = ("replica", "prometheus_replica", "receive_replica", "__replica__", "prometheus")
"""Labels by which two stores that scrape the same process differ."""

_PLACE: Final = ("__name__", "cluster", "namespace", "pod", "container", "instance", "name", "job")
"""Labels that tell one place in a fleet from another. A container that is restarted gets another `id`."""

_REPLICA: Final = ("pod", "instance", "name")
"""Those that tell one replica of a service from another."""


@dataclasses.dataclass(slots=True)
class Points:
    """A series as it grows span by span, in 16 bytes a point."""

    times: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    values: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    dropped: int = 0
    """Points that were no number."""

    def add(self, points: Iterable[tuple[float, float]]) -> None:
        """Append what follows in time; a point that is no number is left out."""
        for when, value in points:
            if not math.isfinite(value):
                self.dropped += 1
            elif not self.times or when > self.times[-1]:
                self.times.append(when)
                self.values.append(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One place in the fleet with the lives that it had, in the order they began."""

    labels: dict[str, str]
    lives: tuple[Track, ...]
    restarts: int
    takes_turns: bool
    """Whether several processes answered for it by turns."""


def labels_of(metric: Mapping[str, str]) -> Labels:
    """A series' labels as a key."""
    return tuple(sorted(metric.items()))


def without_name(found: dict[Labels, Points]) -> dict[Labels, Points]:
    """The series without the metric's name, which tells none from another unless there are several."""
    names = {dict(labels).get("__name__") for labels in found}
    if len(names) > 1:
        return found
    return {tuple(pair for pair in labels if pair[0] != "__name__"): points for labels, points in found.items()}


def without_doubles(found: dict[Labels, Points]) -> tuple[dict[Labels, Points], int]:
    """Each process once, by the store that saw most of it; and how many were left out."""
    best: dict[Labels, Labels] = {}
    for labels, points in found.items():
        key = tuple(pair for pair in labels if pair[0] not in DOUBLE)
        known = best.get(key)
        if known is None or len(points.times) > len(found[known].times):
            best[key] = labels
    return {labels: found[labels] for labels in best.values()}, len(found) - len(best)


def places(found: Mapping[Labels, Points], starts: Mapping[Labels, Points], origin: float) -> list[Place]:
    """The replicas; times count from `origin`. Series of one place that follow each other are its lives."""
    together: dict[Labels, list[list[Labels]]] = {}
    for labels in sorted(found, key=lambda one: found[one].times[0] if found[one].times else math.inf):
        if not found[labels].times:
            continue
        chains = together.setdefault(_placed(labels), [])
        chain = next((one for one in chains if found[one[-1]].times[-1] < found[labels].times[0]), None)
        if chain is None:
            chains.append([labels])
        else:
            chain.append(labels)
    by_place = {_placed(labels): points for labels, points in starts.items()}
    return [
        _place(
            [(labels, found[labels], starts.get(labels) or by_place.get(_placed(labels))) for labels in chain], origin
        )
        for chains in together.values()
        for chain in chains
    ]


def _placed(labels: Labels) -> Labels:
    """What tells a place; all labels where an expression has left none that does."""
    if not any(name in _REPLICA for name, _ in labels):
        return labels
    return tuple(pair for pair in labels if pair[0] in _PLACE)


def _place(chain: Sequence[tuple[Labels, Points, Points | None]], origin: float) -> Place:
    lives: list[tuple[list[float], list[float]]] = []
    for _, points, starts in chain:
        lives += _by_start(points, starts) if starts is not None and starts.times else _by_fall(points)
    takes_turns = any(one[0][-1] > other[0][0] for one, other in itertools.pairwise(lives))
    tracks = tuple(
        Track(name=f"life {number}", times_s=tuple(when - origin for when in times), levels=tuple(values))
        for number, (times, values) in enumerate(lives, start=1)
    )
    restarts = 0 if takes_turns else len(lives) - 1
    return Place(labels=dict(chain[-1][0]), lives=tracks, restarts=restarts, takes_turns=takes_turns)


def _by_start(points: Points, starts: Points) -> list[tuple[list[float], list[float]]]:
    """A life for each start time that was read with the memory."""
    begun = dict(zip(starts.times, starts.values, strict=True))
    lives: list[tuple[float, list[float], list[float]]] = []
    started = starts.values[0]
    for when, value in zip(points.times, points.values, strict=True):
        # A reading without a start time is of the process before.
        started = begun.get(when, started)
        life = next((one for one in reversed(lives) if _is_same(one[0], started)), None)
        if life is None:
            life = (started, [], [])
            lives.append(life)
        life[1].append(when)
        life[2].append(value)
    return [(times, values) for _, times, values in lives]


def _is_same(one: float, other: float) -> bool:
    apart = abs(one - other)
    return apart <= _SAME_START_S or abs(apart - _CORRECTED_S) <= _SAME_START_S


def _by_fall(points: Points) -> list[tuple[list[float], list[float]]]:
    """A life from each fall of more than half to the next."""
    lives: list[tuple[list[float], list[float]]] = [([], [])]
    before = 0.0
    for when, value in zip(points.times, points.values, strict=True):
        if lives[-1][0] and value < _FALL * before:
            lives.append(([], []))
        lives[-1][0].append(when)
        lives[-1][1].append(value)
        before = value
    return lives
