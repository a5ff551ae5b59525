"""The words for the objects of a live process as frozen values: which types accumulate, who holds a sample.

As in `model`, nothing has an effect. Counts are of objects that the garbage collector tracks.

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from pytest_memleak.model import Outcome, plain

OBJECTS_SCHEMA_VERSION: Final = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The tracked objects of one process by type, at one moment.

    `every` is 1 where all were counted, n where each n-th was and the counts are scaled up. `pause_s` is how long the
    process stood still for it. None: not told.
    """

    pid: int
    t: float
    counts: dict[str, int]
    objects: int
    every: int = 1
    blocks: int | None = None
    collecting: bool | None = None
    """Whether the garbage collector runs by itself there."""

    pause_s: float | None = None
    python: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was found about a sample of a growing type.

    `path` leads from a module to the sample, empty where none was found. `is_garbage`: nothing outside its own cycle
    refers to any sample. `site` is where one was allocated, if the process traces allocations.
    """

    path: tuple[str, ...] = ()
    is_garbage: bool = False
    site: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TypeGrowth:
    """One type: its count at each reading. `leaks`: it accumulates."""

    name: str
    counts: tuple[int, ...]
    leaks: bool
    why: str = ""
    """Why it grew and is not marked; empty where there is nothing to say."""

    held: Held | None = None

    @property
    def baseline(self) -> int:
        """How many there were at first."""
        return self.counts[0]

    @property
    def current(self) -> int:
        """How many there are now."""
        return self.counts[-1]

    @property
    def delta(self) -> int:
        """How many more."""
        return self.current - self.baseline

    @property
    def percent(self) -> float | None:
        """The growth in percent; None where there were none at first."""
        return 100.0 * self.delta / self.baseline if self.baseline else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsResult:
    """What `memleak track-objects` found; `types` are ordered, those that leak first."""

    target: str
    way: str
    """How the process was read: sys.remote_exec, gdb, the monitor, the started command."""

    outcome: Outcome
    why: str
    types: tuple[TypeGrowth, ...]
    seconds: float
    times_s: tuple[float, ...]
    pauses_s: tuple[float, ...] = ()
    """How long the process stood still for each count, and below for the look at samples."""

    look_s: float | None = None
    attached_s: tuple[float, ...] = ()
    """How long a debugger was attached, each time."""

    python: str = ""
    objects: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    ended_early: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's version and what the table derives; types that kept their count
        are left out.
        """
        told = [one for one in self.types if one.leaks or len(set(one.counts)) > 1]
        values = plain(dataclasses.asdict(dataclasses.replace(self, types=tuple(told))))
        for found, one in zip(values["types"], told, strict=True):
            found.update(current=one.current, baseline=one.baseline, delta=one.delta, percent=one.percent)
        return {"version": OBJECTS_SCHEMA_VERSION, **values}
