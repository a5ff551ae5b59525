"""The levels of many processes over time, in bounded memory.

A life keeps at most 1,024 points: when they are full, pairs become their mean, and from then on so do as many readings
that follow each other. The judge looks at 32 batches, so a thousand means lose it nothing.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Final, NamedTuple

from pytest_memleak.logs.whose import Owner

MOST_POINTS: Final = 1024
MOST_LIVES: Final = 4000
"""16 kB each: 64 MB at most."""

# A pod that loses half of its memory from one figure to the next, and is back where it began, was restarted: what a
# garbage collector gives back of resident memory is less.
_RESTART_FALL: Final = 0.5
_RESTART_START: Final = 1.5


class SeriesName(NamedTuple):
    """Whose level it is, which of them, and from which log."""

    source: str
    owner: Owner
    metric: str
    rank: int


@dataclasses.dataclass(slots=True)
class Life:
    """The points of one life, thinned; `first`, `last`, `most` and `count` are of all its readings.

    `is_timed` says whether times are the log's; else they are the number of the reading.
    """

    number: int = 1
    times: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    levels: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    count: int = 0
    first: float = 0.0
    first_s: float = 0.0
    last: float = 0.0
    last_s: float = 0.0
    most: float = 0.0
    is_timed: bool = True
    is_over: bool = False
    is_sorted: bool = True
    per_point: int = 1
    _waiting: int = 0
    _time_sum: float = 0.0
    _level_sum: float = 0.0

    def add(self, time_s: float, level: float) -> None:
        """Take one reading."""
        if not self.count:
            self.first, self.first_s = level, time_s
        elif time_s < self.last_s:
            self.is_sorted = False
        self.count += 1
        self.last, self.last_s = level, time_s
        self.most = max(self.most, level)
        self._time_sum += time_s
        self._level_sum += level
        self._waiting += 1
        if self._waiting < self.per_point:
            return
        self.times.append(self._time_sum / self._waiting)
        self.levels.append(self._level_sum / self._waiting)
        self._waiting, self._time_sum, self._level_sum = 0, 0.0, 0.0
        if len(self.times) >= MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        for points in (self.times, self.levels):
            points[:] = array("d", [(points[at] + points[at + 1]) / 2 for at in range(0, len(points) - 1, 2)])
        self.per_point *= 2

    def points(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Increasing times and their levels; readings of one time are one, their mean."""
        pairs = list(zip(self.times, self.levels, strict=True))
        if self._waiting:
            pairs.append((self._time_sum / self._waiting, self._level_sum / self._waiting))
        if not self.is_sorted:
            pairs.sort()
        times: list[float] = []
        levels: list[float] = []
        same = 1
        for time_s, level in pairs:
            if times and time_s <= times[-1]:
                same += 1
                levels[-1] += (level - levels[-1]) / same
            else:
                times.append(time_s)
                levels.append(level)
                same = 1
        return tuple(times), tuple(levels)


class Book:
    """All lives, by whose they are."""

    def __init__(self) -> None:
        self.lives: dict[SeriesName, list[Life]] = {}
        self.dropped = 0
        """Readings of series that there was no room for."""

        self.untimed = 0
        self.restarts_seen = 0
        """Falls of a pod that were taken for a restart."""

        self._count = 0
        self._longest: dict[str, int] = {}
        self._names: dict[tuple[str, Owner], list[SeriesName]] = {}

    def add(self, name: SeriesName, time_s: float | None, level: float) -> None:
        """Take one reading; without a time it comes one step after the last of its series."""
        lives = self.lives.get(name)
        life = lives[-1] if lives else None
        if life is None or life.is_over or self._is_restart(name, life, level):
            if self._count >= MOST_LIVES:
                self.dropped += 1
                return
            life = Life(number=len(lives) + 1 if lives else 1, is_timed=time_s is not None)
            self._count += 1
            if lives is None:
                self._names.setdefault((name.source, name.owner), []).append(name)
            self.lives.setdefault(name, []).append(life)
            if time_s is None:
                # Readings without a time run beside those of the others, and a second life after the first.
                life.last_s = float(self._longest.get(name.source, 0)) - 1
        if time_s is None:
            self.untimed += 1
            if life.is_timed:
                return
            time_s = life.last_s + 1
            self._longest[name.source] = max(self._longest.get(name.source, 0), int(time_s))
        elif not life.is_timed:
            # The first time of a log comes after figures without one: they have no place beside it.
            life = Life(number=life.number)
            self.lives[name][-1] = life
        life.add(time_s, level)

    def end(self, source: str, owner: Owner) -> None:
        """The process is gone: what comes under its name is another life."""
        for name in self._names.get((source, owner), ()):
            self.lives[name][-1].is_over = True

    def latest(self, source: str | None, pid: int, place: str) -> tuple[SeriesName, Life] | None:
        """The life of a process or pod that a death speaks of, the highest ranked."""
        found = [
            (name, lives[-1])
            for name, lives in self.lives.items()
            if (source is None or name.source == source)
            and ((pid and name.owner.pid == pid) or (place and _is_place(place, name.owner.place)))
        ]
        return min(found, key=lambda pair: (pair[0].rank, -pair[1].last_s), default=None)

    def _is_restart(self, name: SeriesName, life: Life, level: float) -> bool:
        if not name.owner.place or name.owner.pid or life.count < 2:
            return False
        is_one = level < _RESTART_FALL * life.last and level < _RESTART_START * life.first
        self.restarts_seen += is_one
        return is_one


def _is_place(told: str, known: str) -> bool:
    """Whether a pod that died (`ns/web-1`, `web-1`) is one that has figures (`web-1`, `ns/web-1/app`)."""
    return bool(known) and (
        told == known or known.endswith("/" + told) or told.endswith("/" + known) or (f"/{told}/" in f"/{known}/")
    )
