"""The words for what logs tell, as frozen values: figures, series, deaths, and the verdict on them.

As in `model`, nothing has an effect. Sizes are bytes, times seconds, rates MB/min (1 MB = 1,000,000 bytes).

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from pytest_memleak.model import Outcome, plain
from pytest_memleak.model_watch import Severity, Track, TrackVerdict

LOGS_SCHEMA_VERSION: Final = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogSeries:
    """One figure of one service, pod or container, and the verdict on all lives that it had."""

    name: str
    log: str
    metric: str
    """As the log calls it: `rss`, `memory usage`, `container_memory_working_set_bytes`."""

    verdict: TrackVerdict
    limit_mb_per_min: float
    readings: int
    first: float
    last: float
    most: float
    lives: int
    is_timed: bool
    tracks: tuple[Track, ...] = ()
    """The longest lives, thinned."""

    processes: tuple[TrackVerdict, ...] = ()
    """The verdict on each of these lives, where there are several."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One process or pod that died by want of memory, and what preceded it."""

    kind: str
    name: str
    pid: int
    file: str
    line: int

    when: str
    """The time as the log has it; empty where it has none."""

    text: str
    killed_at: float
    """The resident memory that the kernel told, 0 where it did not."""

    cgroup: str
    is_limit: bool
    """Whether a container's limit was met, and not the machine's end."""

    series: str
    """Which series tells what preceded; empty where none does, and the following are 0."""

    readings: int
    first: float
    last: float
    seconds: float
    """From the first to the last reading of that life; 0 where the log has no times."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogResult:
    """What `memleak analyze-logs` found."""

    name: str
    outcome: Outcome
    severity: Severity
    why: str
    files: tuple[str, ...]
    size: int
    """Bytes read, unpacked."""

    lines: int
    figures: tuple[tuple[str, int], ...]
    """How many by the form that they came in: text, JSON, Prometheus…"""

    broken: int
    """Lines of JSON that could not be read, among those that speak of memory."""

    series: tuple[LogSeries, ...]
    deaths: tuple[Death, ...]
    interval_s: float
    """What lies between two readings of a log without times."""

    notes: tuple[str, ...] = ()
    ended_early: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The model as it is, as plain values for JSON, with the schema's version."""
        return {"version": LOGS_SCHEMA_VERSION, **plain(dataclasses.asdict(self))}
