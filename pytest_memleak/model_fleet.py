"""The words for a fleet as a metrics store remembers it: replicas, the deployments they make, what all of it shows.

As in `model`, nothing has an effect. A `Replica` is one place in the fleet (a pod's container, an instance), with all
the lives it had. Sizes are bytes, times seconds, rates MB/min (1 MB = 1,000,000 bytes).

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

from pytest_memleak.model import Outcome, plain
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Forecast, Severity, TrackVerdict

FLEET_SCHEMA_VERSION: Final = 1


class Spread(str, enum.Enum):
    """How a leak is spread over the replicas of a deployment; what cannot be told is `UNTOLD`."""

    NONE = "none leaks"
    SOME = "some leak"
    SAME = "all leak at the same rate"
    DIFFERENT = "all leak at different rates"
    UNTOLD = "all leak"
    ONE = "its only replica leaks"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One place in the fleet. `level` is its last reading, `limit_mb_per_min` what its verdict was measured against.

    `restarts` counts the lives that followed another. A replica that nothing can be said of has the verdict's shape
    "too short".
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    verdict: TrackVerdict
    limit_mb_per_min: float
    level: float
    restarts: int = 0
    forecast: Forecast | None = None

    @property
    def is_judged(self) -> bool:
        """Whether there was enough of it to judge."""
        return self.verdict.shape != "too short"

    @property
    def is_doubtful(self) -> bool:
        """Whether it may well leak: not proven, but what was measured lies above the limit."""
        verdict = self.verdict
        unsure = self.is_judged and verdict.outcome is Outcome.INCONCLUSIVE
        return unsure and verdict.gained > 0 and verdict.rate.value > self.limit_mb_per_min


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What runs the same code, the replicas that leak fastest first.

    `rate` is that of one replica: the common one where all leak at the same rate, else the fastest one's.
    """

    name: str
    outcome: Outcome
    severity: Severity
    spread: Spread
    rate: Estimate
    replicas: tuple[Replica, ...]

    @property
    def judged(self) -> int:
        """How many of its replicas could be judged."""
        return sum(replica.is_judged for replica in self.replicas)

    @property
    def leaking(self) -> tuple[Replica, ...]:
        """Its replicas that leak."""
        return tuple(replica for replica in self.replicas if replica.verdict.outcome is Outcome.LEAK)

    @property
    def level(self) -> float:
        """The memory of its largest replica."""
        return max((replica.level for replica in self.replicas), default=0.0)

    @property
    def restarts(self) -> int:
        """Of all its replicas."""
        return sum(replica.restarts for replica in self.replicas)

    @property
    def forecast(self) -> Forecast | None:
        """Whose limit is met first."""
        known = [replica.forecast for replica in self.replicas if replica.forecast is not None]
        return min(known, key=lambda one: one.seconds, default=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """What `memleak fleet` found, the worst deployment first.

    `limit_mb_per_min` is that of a replica that was there all the time.
    """

    store: str
    query: str
    outcome: Outcome
    why: str
    limit_mb_per_min: float
    span_s: float
    step_s: float
    series: int
    deployments: tuple[Deployment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def too_short(self) -> int:
        """How many replicas had too few readings to be judged."""
        return sum(len(deployment.replicas) - deployment.judged for deployment in self.deployments)

    def to_dict(self) -> dict[str, Any]:
        """The model as plain values for JSON, labels by their name, with the schema's version."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        for deployment in found["deployments"]:
            for replica in deployment["replicas"]:
                replica["labels"] = dict(replica["labels"])
        return {"version": FLEET_SCHEMA_VERSION, "too_short": self.too_short, **found}
