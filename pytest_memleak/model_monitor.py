"""The words of the monitor as frozen values: what its instruments hand to each other, and to the metrics.

As in `model`, nothing has an effect or refers to an object of the monitored program. Sizes are bytes, times seconds
unless a name says otherwise, rates MB/min (1 MB = 1,000,000 bytes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from pytest_memleak.model_soak import EndpointGrowth
from pytest_memleak.model_watch import TrackVerdict

UNMATCHED: Final = "(no route)"
"""Every request that no route serves, whatever its path and method: a path scan makes one endpoint."""

OTHERS: Final = "(other endpoints)"
"""Those beyond the first few hundred."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of this process. `live_bytes` is -1 where the allocators cannot be asked."""

    t: float
    """The wall clock's, as `time.time()`."""

    rss_bytes: int
    vms_bytes: int
    live_bytes: int
    in_flight: int
    """Requests inside at that moment: what they hold is part of the figures."""

    full_collections: int = -1
    """Garbage collections of all generations until then; -1 where none will come, or where they are not counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One run of the garbage collector."""

    generation: int
    pause_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one request changed live memory by, as it was seen; not every request is looked at.

    `is_alone`: no other request was inside meanwhile, so that `delta_bytes` is the whole change of the process. Else
    it is the sum over the steps that the event loop ran of it, without what threads and child tasks did for it.
    """

    endpoint: str
    delta_bytes: int
    is_alone: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The tracked objects by type, at one moment; all of them were counted."""

    t: float
    objects: int
    counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the ring of readings says: of the live heap where it can be read (`heap`), and of RSS."""

    t: float
    heap: TrackVerdict | None
    rss: TrackVerdict
    endpoints: tuple[EndpointGrowth, ...]
    unattributed_mb_per_min: float
    """The growth that no request explains; it is in no endpoint's figure."""

    notes: tuple[str, ...]

    @property
    def verdict(self) -> TrackVerdict:
        """The live heap's, which falls when memory is freed; RSS where there is no other."""
        return self.heap or self.rss
