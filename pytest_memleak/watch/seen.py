"""What a watch has seen so far: one track for each life, bounded in memory, and what happened meanwhile."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from pytest_memleak.model_soak import Curve
from pytest_memleak.model_watch import Track
from pytest_memleak.units import format_seconds
from pytest_memleak.watch.sampling import Reading, Snapshot

# The judge takes medians of 32 batches: more than a hundred readings for each say nothing more. Where there are twice
# as many, every second one is dropped, and a day of a hundred workers stays within 13 MB.
_MOST_READINGS: Final = 4_096

# A chart of a terminal's width.
_CURVE_POINTS: Final = 120

# More are told as a number: a server that restarts its workers all day has thousands.
_MOST_EVENTS: Final = 200


class _Line:
    """Levels at times, thinned evenly as they grow too many."""

    def __init__(self) -> None:
        self.times = array.array("d")
        self.levels = array.array("d")
        self._stride = 1
        self._skipped = 0

    def add(self, t: float, level: float) -> None:
        """Keep a reading, or every n-th of them."""
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self.times.append(t)
        self.levels.append(level)
        if len(self.times) > _MOST_READINGS:
            self.times, self.levels = self.times[::2], self.levels[::2]
            self._stride *= 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a watch began; what a record of it begins with."""

    target: str
    wanted_seconds: float
    interval_s: float


class Seen:
    """Collects snapshots; `record` gives each as plain values, and `replay` takes those back."""

    def __init__(self, root_pid: int) -> None:
        self.root_pid = root_pid
        self.initial_bytes = 0.0
        self.final_bytes = 0.0
        self.first_s = 0.0
        self.last_s = 0.0
        self.count = 0
        self.events: list[str] = []
        self.more_events = 0
        self._lines: dict[tuple[int, float], _Line] = {}
        self._names: dict[tuple[int, float], str] = {}
        self._cpu: dict[tuple[int, float], tuple[float, float]] = {}
        self._total = _Line()
        self._present: set[tuple[int, float]] = set()

    @property
    def seconds(self) -> float:
        """From the first snapshot to the last."""
        return self.last_s - self.first_s

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot; times must increase."""
        if not self.count:
            self.first_s = snapshot.t
            self.initial_bytes = float(snapshot.rss)
        t = snapshot.t - self.first_s
        self.last_s, self.final_bytes = snapshot.t, float(snapshot.rss)
        self._total.add(t, snapshot.rss)
        present = {reading.life for reading in snapshot.readings}
        if self.count:
            self._tell_changes(present)
        self._present = present
        self.count += 1
        for reading in snapshot.readings:
            self._names.setdefault(reading.life, f"{reading.pid} {reading.name}")
            self._lines.setdefault(reading.life, _Line()).add(t, reading.rss)
            if reading.cpu_s >= 0:
                first = self._cpu.get(reading.life, (reading.cpu_s,))[0]
                self._cpu[reading.life] = (first, reading.cpu_s)

    def happened(self, words: str) -> None:
        """Note an event, at the time of the last snapshot."""
        if len(self.events) < _MOST_EVENTS:
            self.events.append(f"{format_seconds(self.seconds)}: {words}")
        else:
            self.more_events += 1

    def tracks(self) -> list[Track]:
        """The lives in the order in which they were first seen, the root first."""
        return [
            Track(name=self._names[life], times_s=tuple(line.times), levels=tuple(line.levels))
            for life, line in self._lines.items()
            if len(line.times)
        ]

    @property
    def cores(self) -> float | None:
        """The processor time of all of them together by the second; None where it could not be read."""
        if not self._cpu or self.seconds <= 0:
            return None
        return sum(last - first for first, last in self._cpu.values()) / self.seconds

    def later(self) -> tuple[int, float]:
        """How many of the present processes were not there at first, and what they hold in bytes."""
        lines = [self._lines[life] for life in self._present if life in self._lines]
        came = [line for line in lines if len(line.times) and line.times[0] > 0]
        return len(came), sum(line.levels[-1] for line in came)

    def curve(self) -> Curve:
        """The tree's memory over time, for the reader."""
        times, levels = self._total.times, self._total.levels
        step = max(1, -(-len(times) // _CURVE_POINTS))
        return Curve(name="RSS", times_s=tuple(times[::step]), levels=tuple(levels[::step]))

    def _tell_changes(self, present: set[tuple[int, float]]) -> None:
        for life in sorted(present - self._present):
            if life not in self._names:
                self.happened(f"process {life[0]} began")
        for life in sorted(self._present - present):
            self.happened(f"process {self._names[life]} ended")


def record(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as one record of a folder."""
    return {
        "kind": "tree",
        "t": round(snapshot.t, 3),
        "processes": [
            [one.pid, one.created_s, one.name, one.rss, one.vms, round(one.cpu_s, 2)] for one in snapshot.readings
        ],
    }


def replayed(values: Mapping[str, Any]) -> Snapshot:
    """The snapshot that a record holds. Raises ValueError, KeyError or TypeError for what is none."""
    return Snapshot(
        t=float(values["t"]),
        readings=tuple(
            Reading(
                pid=int(pid),
                created_s=float(created),
                name=str(name),
                rss=int(rss),
                vms=int(vms),
                threads=0,
                fds=-1,
                cpu_s=float(cpu[0]) if cpu else -1.0,
            )
            # Early records have no processor time.
            for pid, created, name, rss, vms, *cpu in values["processes"]
        ),
    )
