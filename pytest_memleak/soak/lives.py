"""The records of a run as columns: a life for each worker, the load, the view from outside, the events.

The same while a run goes on and when it is read back. Arrays of doubles: a day of readings of four workers and
fifty endpoints takes some 40 MB.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any, Final

COLUMNS: Final = (
    "t",
    "live_bytes",
    "pymalloc_bytes",
    "native_bytes",
    "rss_bytes",
    "fds",
    "threads",
    "tasks",
    "held",
    "pause_ms",
)
"""`held`: the requests that were at the gate or inside when it was read."""


class Life:
    """One worker from its first reading to its last; a restarted worker is another life."""

    def __init__(self, segment: int, pid: int) -> None:
        self.segment = segment
        self.pid = pid
        self.columns = {name: array.array("d") for name in COLUMNS}
        self.counts: dict[str, array.array[float]] = {}
        """Finished requests by endpoint, cumulative, one for each reading."""

        self.missing: tuple[str, ...] = ()
        self.fd_limit = 0
        self.deep: Mapping[str, Any] | None = None
        """The reading at deep rest after the load."""

    @property
    def times_s(self) -> array.array[float]:
        """When each reading was made, seconds since the run's start."""
        return self.columns["t"]

    def __len__(self) -> int:
        return len(self.times_s)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a reading; endpoints that it does not name have not moved."""
        if record.get("deep"):
            self.deep = record
            return
        for name, column in self.columns.items():
            # What could not be read this once is as it was.
            column.append(float(record.get(name, column[-1] if column else 0)))
        self.columns["held"][-1] += float(record.get("in_flight", 0))
        row = len(self)
        for endpoint, count in record.get("requests", {}).items():
            column = self.counts.setdefault(endpoint, array.array("d"))
            column.extend([column[-1] if column else 0.0] * (row - 1 - len(column)))
            column.append(float(count))

    def count_column(self, endpoint: str) -> array.array[float]:
        """The cumulative requests of an endpoint, one for each reading."""
        column = self.counts.get(endpoint, array.array("d"))
        latest = column[-1] if column else 0.0
        return column + array.array("d", [latest] * (len(self) - len(column)))


class Recorded:
    """Everything that a run has recorded."""

    def __init__(self) -> None:
        self.lives: dict[tuple[int, int], Life] = {}
        self.segment = 0
        self.latest_s = 0.0
        self.windows: list[tuple[float, float | None]] = []
        """Begin and end of the measured load, one for each segment; None while it runs."""

        self.outside_times_s = array.array("d")
        self.outside_rss = array.array("d")
        self.uss = array.array("d")
        """The unique set size of all processes, read more seldom, under load."""

        self.processes = 0
        self.load: Mapping[str, Any] = {}
        self.loads_before: list[Mapping[str, Any]] = []
        self.events: list[tuple[float, str, str]] = []
        """Time, kind of event, and the sentence that tells it."""

        self.diagnoses: list[Mapping[str, Any]] = []
        self.is_complete = False
        """Whether the load ran for the whole time."""

        self.failure = ""
        """What ended the run, when the server or the load failed."""

        self.died_of_memory = ""

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in one record."""
        t = float(record.get("t", self.latest_s))
        self.latest_s = max(self.latest_s, t)
        kind = record["kind"]
        if kind == "reading":
            self._life(record["pid"]).add(record)
        elif kind == "hello":
            life = self._life(record["pid"])
            life.missing = tuple(record.get("missing", ()))
            life.fd_limit = int(record.get("fd_limit", 0))
        elif kind == "outside":
            self.outside_times_s.append(t)
            self.outside_rss.append(float(record["rss_bytes"]))
            self.processes = int(record.get("processes", 1))
            if "uss_bytes" in record and self.windows and self.windows[-1][1] is None:
                self.uss.append(float(record["uss_bytes"]))
        elif kind == "load":
            # A second load, for the diagnosis, is not what was measured.
            if not self.windows or self.windows[-1][1] is None:
                self.load = record
        elif kind == "event":
            self._event(t, record)
        elif kind == "diagnosis":
            self.diagnoses.append(record)

    @property
    def end_s(self) -> float:
        """When the measured load ended, or the last record when it did not."""
        closed = [end for _, end in self.windows if end is not None]
        return max(closed) if closed and len(closed) == len(self.windows) else self.latest_s

    @property
    def measured_s(self) -> float:
        """Seconds under load, all segments together."""
        return sum((self.latest_s if end is None else end) - begin for begin, end in self.windows)

    def serving(self) -> list[Life]:
        """The lives that have readings."""
        return [life for life in self.lives.values() if len(life)]

    def _life(self, pid: int) -> Life:
        return self.lives.setdefault((self.segment, pid), Life(self.segment, pid))

    def _event(self, t: float, record: Mapping[str, Any]) -> None:
        event = record["event"]
        if event == "started":
            self.segment += 1
            self._close_window(t)
            if self.load:
                self.loads_before.append(self.load)
                self.load = {}
        elif event == "load_started":
            self.windows.append((t, None))
            # A death of memory stays one, whatever the server does that comes after it.
            self.is_complete, self.failure = False, ""
        elif event == "load_over":
            self._close_window(t)
        elif event == "complete":
            self.is_complete = True
        elif event == "failed":
            self.failure = record["words"]
        elif event == "died_of_memory":
            self.died_of_memory = record["words"]
        if record.get("words"):
            self.events.append((t, event, record["words"]))

    def _close_window(self, t: float) -> None:
        if self.windows and self.windows[-1][1] is None:
            begin = self.windows[-1][0]
            # A run that was killed has no end: its last record is.
            self.windows[-1] = (begin, max(begin, t))
