"""The words of a soak as frozen values, beside those of a test in `model`: what was measured, judged and compared.

As there, nothing has an effect or refers to an object of the measured program. `SoakResult` is what a run's
`result.json` and `memleak soak --json` hold, `Verification` what `memleak verify --json` prints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pytest_memleak.model import SCHEMA_VERSION, Leak, Outcome, Resource, plain


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its interval (99 %, unless its owner says otherwise); the owner names the unit."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit; `factor` is at least 0."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def plus(self, other: Estimate) -> Estimate:
        """The estimate of a sum; its interval is at least as wide as it has to be."""
        return Estimate(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointGrowth:
    """What the requests of an endpoint keep in a soak; several `endpoints` where they cannot be told apart.

    `bytes_per_request` is an estimate over the requests of all of them; `mb_per_min` is it at their real rate.
    """

    endpoints: tuple[str, ...]
    requests: int
    bytes_per_request: Estimate
    mb_per_min: Estimate

    @property
    def name(self) -> str:
        """The endpoints as one name."""
        return " + ".join(self.endpoints)

    @property
    def leaks(self) -> bool:
        """Whether its growth is told from zero."""
        return self.bytes_per_request.low > 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """An endpoint and what each of its requests keeps of a resource, a count."""

    endpoint: str
    per_request: Estimate


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResourceGrowth:
    """A resource of the whole service over a soak: `per_min` in its own unit (memory: MB) per minute."""

    resource: Resource
    outcome: Outcome
    per_min: Estimate
    gained: float
    why: str
    endpoints: tuple[Culprit, ...] = ()
    """Who keeps it; for memory see the result's own `endpoints`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A series for the reader, thinned: seconds since the start, and bytes."""

    name: str
    times_s: tuple[float, ...]
    levels: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the load did: totals over the measured time."""

    requests: int
    failures: int
    requests_per_s: float
    users: int
    errors: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """What the readings held requests for: in ms, and as a share of the measured time."""

    count: int
    median_ms: float
    longest_ms: float
    share: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SoakResult:
    """What a soak found. Rates are of the whole service, all workers together, at the real rate of requests.

    `basis` names the series that was judged. `failure` is set when the server or the load failed, and the
    verdict is only on what was seen until then.
    """

    name: str
    outcome: Outcome
    why: str
    basis: str
    limit_mb_per_min: float
    growth: Estimate
    """MB/min."""

    seconds: float
    wanted_seconds: float
    warm_up_s: float
    workers: int
    readings: int
    resources: tuple[ResourceGrowth, ...] = ()
    endpoints: tuple[EndpointGrowth, ...] = ()
    leaks: tuple[Leak, ...] = ()
    culprits: tuple[str, ...] = ()
    """For each of `leaks` the endpoint in whose code it lies, empty where that is not known."""

    load: Load | None = None
    pauses: Pauses | None = None
    curves: tuple[Curve, ...] = ()
    rss_mb_per_min: float | None = None
    uss_bytes: tuple[float, ...] = ()
    """The unique set size of all processes at the beginning of the load and at its end; empty where it is not read."""

    cores: float | None = None
    """Processor time by the second: what a watch knows of the load that it does not see. None for a soak."""

    notes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    failure: str = ""
    folder: str = ""
    measured: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The model as it is, as plain values for JSON, with the schema's version."""
        return {"version": SCHEMA_VERSION, **plain(dataclasses.asdict(self))}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """An endpoint before and after, in bytes per request; None where a run has no figure for it."""

    endpoint: str
    before: Estimate | None
    after: Estimate | None
    words: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether a fix worked: `answer` is "fixed", "not fixed" or "can't tell". Rates in MB/min.

    `after` is at the rate of requests of the run before, where that was higher.
    """

    answer: Literal["fixed", "not fixed", "can't tell"]
    why: str
    limit_mb_per_min: float
    before: Estimate | None
    after: Estimate
    endpoints: tuple[EndpointChange, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The model as it is, as plain values for JSON, with the schema's version."""
        return {"version": SCHEMA_VERSION, **plain(dataclasses.asdict(self))}
