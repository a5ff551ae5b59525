"""What the monitor answers, as models that pydantic 1.10 and 2 both read: sizes in bytes, times in seconds.

Nothing here shows the content of an object, an argument or the environment: types, places in the source, counts.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import BaseModel, Field


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("a number is wanted")  # noqa: TRY004  (pydantic makes an answer of this one)
    return value


# Else `true` is taken for 1, and "60" for 60; to be strict would refuse 1.0 for a whole number, which it is in JSON.
# pydantic 1 has no such word, and takes them.
_PLAIN: Final[Any] = pydantic.BeforeValidator(_plain) if hasattr(pydantic, "BeforeValidator") else None
Number = Annotated[float, _PLAIN]
Whole = Annotated[int, _PLAIN]


class Answer(BaseModel):
    """What every answer says: which worker gave it, and by how much that stalled the event loop."""

    pid: int
    stalled_ms: float


class Allocation(BaseModel):
    """A line of the source and what it has allocated that still lives."""

    site: str
    bytes: int
    count: int


class TrackedFunction(BaseModel):
    """A function under `@memory_tracked`."""

    name: str
    calls: int
    mean_bytes: float | None


class Snapshot(Answer):
    """The state of now."""

    t: float
    rss_bytes: int
    vms_bytes: int
    live_bytes: int | None
    objects: int | None = Field(description="of the last walk; none is made for this")
    tracing: bool
    tracing_left_s: float | None = Field(description="none where somebody else has switched it on")
    top: list[Allocation]
    top_missing: str | None
    tracked: list[TrackedFunction]


class TracingOrder(BaseModel):
    """For how long allocations are traced, and how many frames of each; 0 seconds switch it off."""

    seconds: Number = Field(60, ge=0, le=600)
    frames: Whole = Field(1, ge=1, le=25)


class TracingState(Answer):
    """Whether allocations are traced now."""

    tracing: bool
    tracing_left_s: float | None
    frames: int


class TypeGrowth(BaseModel):
    """The objects of one type; a path leads from a module's variable to one of the newest."""

    type: str
    count: int
    baseline: int | None
    delta: int | None
    growth_percent: float | None
    site: str
    path: list[str]


class Growth(Answer):
    """Which types accumulate."""

    t: float | None
    baseline_t: float | None
    objects: int
    declined: str | None
    types: list[TypeGrowth]


class Baseline(Answer):
    """The walk that growth is held against from now on."""

    t: float | None
    objects: int
    declined: str | None


class PastReading(BaseModel):
    """One reading."""

    t: float
    rss_bytes: int
    vms_bytes: int
    live_bytes: int | None
    in_flight: int
    requests: int = Field(description="finished since the start")


class History(Answer):
    """The past readings, oldest first."""

    interval_s: float
    minutes: float
    every: int = Field(description="above 1: each n-th reading")
    readings: list[PastReading]


class Generation(BaseModel):
    """The collector's runs over one generation, since the monitor listens."""

    generation: int
    collections: int
    collected: int
    uncollectable: int
    pause_ms_total: float
    pause_ms_longest: float


class GcStats(Answer):
    """The garbage collector."""

    enabled: bool
    thresholds: list[int]
    counts: list[int]
    generations: list[Generation]


class Collected(Answer):
    """One collection that was asked for."""

    generation: int
    collected: int
    uncollectable: int
    live_bytes_before: int | None
    live_bytes_after: int | None
    rss_bytes_before: int
    rss_bytes_after: int
    declined: str | None


class Interval(BaseModel):
    """A figure with its 99 % interval; an end that is missing is unbounded."""

    value: float
    low: float | None
    high: float | None


class Trend(BaseModel):
    """The verdict on one series."""

    verdict: Literal["clean", "leak", "inconclusive"]
    mb_per_min: Interval
    shape: str
    why: str


class EndpointShare(BaseModel):
    """What the requests of an endpoint keep; several endpoints where they cannot be told apart."""

    endpoints: list[str]
    requests: int
    leaks: bool
    bytes_per_request: Interval
    mb_per_min: Interval


class Leaks(Answer):
    """The verdict: of the live heap where it can be read, else of RSS."""

    t: float
    verdict: Literal["clean", "leak", "inconclusive"]
    severity: Literal["none", "medium", "high", "critical"]
    basis: Literal["live heap", "RSS"]
    mb_per_min: Interval
    shape: str
    why: str
    readings: int
    seconds: float
    rss: Trend
    endpoints: list[EndpointShare]
    unattributed_mb_per_min: float
    notes: list[str]


class ProcessInfo(Answer):
    """The process."""

    created_s: float
    started_s: float
    uptime_s: float
    stage: Literal["startup", "idle", "serving"]
    rss_bytes: int
    vms_bytes: int
    live_bytes: int | None
    threads: int
    fds: int | None
    fd_limit: int | None
    cpu_percent: float = Field(description="of one processor, since the last time that this was asked")
    cpu_user_s: float
    cpu_system_s: float
    python: str
    requests: int
    in_flight: int


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str
