"""Deaths with what preceded them, as the figures before tell it."""

from __future__ import annotations

import dataclasses
from typing import Final

from pytest_memleak.logs import deaths
from pytest_memleak.logs.series import Book, Life, SeriesName

MOST_DEATHS: Final = 1000

# Two lines of the kernel about one death are this near.
_SAME_DEATH: Final = 5


@dataclasses.dataclass(slots=True)
class Told:
    """A death with what preceded it: the life, as it was then."""

    death: deaths.Death
    source: str
    file: str
    line: int

    when: str
    text: str
    life: tuple[SeriesName, Life] | None = None
    first: float = 0.0
    last: float = 0.0
    seconds: float | None = None
    readings: int = 0

    def take(self, found: tuple[SeriesName, Life]) -> None:
        """Keep what the life was like."""
        life = found[1]
        self.life, self.first, self.last, self.readings = found, life.first, life.last, life.count
        self.seconds = life.last_s - life.first_s if life.is_timed else None


class Deaths:
    """Keeps them, the first thousand; two lines about one death are one."""

    def __init__(self, book: Book) -> None:
        self.told: list[Told] = []
        self.more = 0
        self._book = book

    def take(self, told: Told) -> None:
        """Take the next, with what the book knows of its life; that life is over."""
        death = told.death
        for known in self.told[-_SAME_DEATH:]:
            if death.pid and (known.death.pid, known.source, known.death.kind) == (death.pid, told.source, death.kind):
                known.death = _joined(known.death, death)
                return
        if len(self.told) >= MOST_DEATHS:
            self.more += 1
            return
        found = self._book.latest(told.source, death.pid, death.name)
        if found is not None:
            told.take(found)
            self._book.end(told.source, found[0].owner)
        self.told.append(told)

    def finish(self) -> None:
        """Look for what preceded the deaths that were told in other logs than the figures."""
        for told in self.told:
            if told.life is None:
                found = self._book.latest(None, told.death.pid, told.death.name)
                if found is not None:
                    told.take(found)
        self._join_suspected()

    def _join_suspected(self) -> None:
        """What gunicorn suspects and the kernel tells of the same process is one death, in two logs."""
        proven = [told for told in self.told if told.death.kind == deaths.KERNEL and told.death.pid]
        for suspected in [told for told in self.told if told.death.kind == deaths.SUSPECTED]:
            same = next((told for told in proven if told.death.pid == suspected.death.pid), None)
            if same is None:
                continue
            proven.remove(same)  # a pid that comes again is another process
            if same.life is None:
                same.life, same.first, same.last = suspected.life, suspected.first, suspected.last
                same.seconds, same.readings = suspected.seconds, suspected.readings
            self.told.remove(suspected)


def _joined(one: deaths.Death, other: deaths.Death) -> deaths.Death:
    """What two lines tell of one death."""
    return deaths.Death(
        one.kind,
        one.pid,
        one.name or other.name,
        max(one.level, other.level),
        one.cgroup or other.cgroup,
        one.is_limit or other.is_limit,
    )
