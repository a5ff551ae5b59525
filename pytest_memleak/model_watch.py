"""The words for what is seen from outside as frozen values: a live process tree, the lines of a log, a fleet.

As in `model`, nothing has an effect. A `Track` is what one process (or pod) did while it lived; a process that is
restarted is a new track, not a fall. Sizes are bytes, times seconds, rates MB/min (1 MB = 1,000,000 bytes).

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

from pytest_memleak.model import Outcome, plain
from pytest_memleak.model_soak import Curve, Estimate

WATCH_SCHEMA_VERSION: Final = 1


class Severity(str, enum.Enum):
    """How soon growth hurts, by its rate; the value is the word in reports."""

    NONE = "none"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which growth on a severity holds, in MB/min. Growth below `medium` passes."""

    medium: float = 1.0
    high: float = 5.0
    critical: float = 20.0

    def severity(self, mb_per_min: float) -> Severity:
        """The severity of a rate."""
        if mb_per_min >= self.critical:
            return Severity.CRITICAL
        if mb_per_min >= self.high:
            return Severity.HIGH
        return Severity.MEDIUM if mb_per_min >= self.medium else Severity.NONE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One life of one process: its memory at increasing times, which need not be regular."""

    name: str
    """A process ("1234 uvicorn"), a pod, a log's source."""

    times_s: tuple[float, ...]
    levels: tuple[float, ...]

    @property
    def length_s(self) -> float:
        """From the first reading to the last."""
        return self.times_s[-1] - self.times_s[0] if self.times_s else 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrackVerdict:
    """What one track, or several together, did. `rate` is MB/min with its 99 % interval, `gained` bytes.

    `shape` is drift's word for it: linear, fading, late, step, sawtooth, flat, unclear, too short.
    """

    name: str
    outcome: Outcome
    severity: Severity
    rate: Estimate
    gained: float
    shape: str
    why: str
    lives: int = 1
    readings: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When growth at this rate meets a limit: bytes, seconds from now, and whose limit it is."""

    limit_bytes: float
    whose: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchResult:
    """What `memleak detect` found. `verdict` is of the tree as a whole, `processes` of each life in it."""

    target: str
    verdict: TrackVerdict
    limit_mb_per_min: float
    initial_bytes: float
    final_bytes: float
    seconds: float
    wanted_seconds: float
    interval_s: float
    basis: str
    """Which figure was judged: "RSS", or "USS"."""

    processes: tuple[TrackVerdict, ...] = ()
    cores: float | None = None
    """Processor time by the second, of all processes together; None where it was not read."""

    made_of: tuple[tuple[str, float], ...] = ()
    """The growth by kind (heap, mapped files, shared, swap), bytes."""

    forecast: Forecast | None = None
    curves: tuple[Curve, ...] = ()
    events: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ended_early: str = ""
    """Why it ended before its time: the process ended, Ctrl-C, a certain leak; else empty."""

    folder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The model as it is, as plain values for JSON, with the schema's version."""
        return {"version": WATCH_SCHEMA_VERSION, **plain(dataclasses.asdict(self))}
