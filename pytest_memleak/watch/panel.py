"""What the dashboard shows, as plain values: rows of the last readings, of the whole tree or of one process in it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psutil

from pytest_memleak.model_watch import TrackVerdict
from pytest_memleak.watch.sampling import Reading, Snapshot

# A day at 20 s; what `save` writes and the sparklines draw.
MOST_SNAPSHOTS: Final = 5_000

# Below this, a new highest level is an arena more or a page fault, not growth worth a mark.
_MARKED_BYTES: Final = 50_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One reading. Sizes in bytes, `share` of the machine's memory; `fds` is -1 where it may not be read."""

    t: float
    rss: int
    vms: int
    share: float
    threads: int
    fds: int
    change: int
    grew: bool
    """Whether it is higher than all readings before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process of the tree, as of now."""

    pid: int
    name: str
    rss: int
    levels: tuple[float, ...]
    grew: bool


class Panel:
    """Keeps the last snapshots and which process is looked at; 0 is the whole tree."""

    def __init__(self, total_bytes: int | None = None) -> None:
        self.snapshots: collections.deque[Snapshot] = collections.deque(maxlen=MOST_SNAPSHOTS)
        self.verdict: TrackVerdict | None = None
        self.chosen = 0
        self._total = total_bytes or psutil.virtual_memory().total

    def add(self, snapshot: Snapshot) -> None:
        """Take a reading; a process that was looked at and has ended gives way to the tree."""
        self.snapshots.append(snapshot)
        if self.chosen and self.chosen not in {reading.pid for reading in snapshot.readings}:
            self.chosen = 0

    def choose_next(self) -> None:
        """Look at the next process, behind the last one at the tree again."""
        if not self.snapshots:
            return
        choices = [0, *(reading.pid for reading in self.snapshots[-1].readings)]
        at = choices.index(self.chosen) if self.chosen in choices else -1
        self.chosen = choices[(at + 1) % len(choices)]

    def rows(self, count: int) -> list[Row]:
        """The last `count` readings, the newest last."""
        found = list(self._rows(self._of(self.chosen)))
        return found[-count:] if count > 0 else []

    def processes(self) -> list[ProcessRow]:
        """Those that run now, the largest first."""
        if not self.snapshots:
            return []
        found: list[ProcessRow] = []
        for reading in self.snapshots[-1].readings:
            levels = tuple(float(one.rss) for _, one in _lives(self.snapshots, reading.life))
            grew = len(levels) > 1 and levels[-1] > max(levels[:-1]) + _MARKED_BYTES
            found.append(ProcessRow(pid=reading.pid, name=reading.name, rss=reading.rss, levels=levels, grew=grew))
        return sorted(found, key=lambda row: -row.rss)

    def _of(self, pid: int) -> Callable[[Snapshot], Sequence[Reading]]:
        if not pid:
            return lambda snapshot: snapshot.readings
        return lambda snapshot: [reading for reading in snapshot.readings if reading.pid == pid]

    def _rows(self, pick: Callable[[Snapshot], Sequence[Reading]]) -> Iterator[Row]:
        before: int | None = None
        highest = 0
        for snapshot in self.snapshots:
            readings = pick(snapshot)
            if not readings:
                continue
            rss = sum(reading.rss for reading in readings)
            fds = [reading.fds for reading in readings]
            yield Row(
                t=snapshot.t,
                rss=rss,
                vms=sum(reading.vms for reading in readings),
                share=rss / self._total,
                threads=sum(reading.threads for reading in readings),
                fds=-1 if -1 in fds else sum(fds),
                change=0 if before is None else rss - before,
                grew=before is not None and rss > highest + _MARKED_BYTES,
            )
            before, highest = rss, max(highest, rss)


def _lives(
    snapshots: Sequence[Snapshot] | collections.deque[Snapshot], life: tuple[int, float]
) -> list[tuple[float, Reading]]:
    return [(snapshot.t, reading) for snapshot in snapshots for reading in snapshot.readings if reading.life == life]
