"""The words of the project as frozen values: what was read, what was judged, what was found.

Nothing here has an effect, and nothing refers to an object of the measured program: a result holds text
and numbers only, so that it never keeps a leaked object alive. `Result` is what `--memleak-json` writes.

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, Final

SCHEMA_VERSION: Final = 1


class Outcome(str, enum.Enum):
    """The tri-state verdict; the value is what reports and JSON show."""

    CLEAN = "CLEAN"
    LEAK = "LEAK"
    INCONCLUSIVE = "INCONCLUSIVE"


class Resource(str, enum.Enum):
    """What a call can gain and not give back. The value is the word in messages."""

    MEMORY = "memory"
    OBJECTS = "objects"
    FDS = "file descriptors"
    THREADS = "threads"
    TASKS = "asyncio tasks"
    CHILDREN = "child processes"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much growth is allowed; `None` leaves a resource unjudged.

    `bytes_per_request` and `objects_per_request` are rates. `fds`, `threads`, `tasks` and `children` are
    how many may be gained during the whole measurement, since pools open a few and stop.
    """

    bytes_per_request: float | None = 0.0
    objects_per_request: float | None = 0.0
    fds: int = 0
    threads: int = 0
    tasks: int = 0
    children: int = 0
    requests_per_s: float = 50.0
    max_mb_per_min: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Growth per call with its 99 % interval. Unit: bytes for memory, else a count."""

    per_call: float
    low: float
    high: float

    def minus(self, amount: float) -> Growth:
        """This growth without `amount` per call that has another cause."""
        return Growth(per_call=self.per_call - amount, low=self.low - amount, high=self.high - amount)


NO_GROWTH: Final = Growth(per_call=0.0, low=0.0, high=0.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on one resource, with the sentence that explains it.

    `signals` are the readings that decided a LEAK of memory: "blocks", "native" or both.
    """

    resource: Resource
    outcome: Outcome
    growth: Growth
    limit: float | None
    why: str
    signals: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A line of source: `path` as Python names it, 1-based `line`, the stripped `source` (may be empty)."""

    path: str
    line: int
    function: str = ""
    source: str = ""
    is_library: bool = False
    """Whether the file is an installed package's or the interpreter's, not the user's own."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where growth was allocated: the nearest frame in the user's own code, and the innermost frame.

    `inner` is None when the user's own line allocated it itself. Bytes and count are per call; `place`
    and `inner_place` are the frames as Python names them.
    """

    frame: Frame
    inner: Frame | None = None
    bytes_per_call: float = 0.0
    count_per_call: float = 0.0
    place: tuple[str, int] = ("", 0)
    inner_place: tuple[str, int] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who keeps the growth: a container with its name, or the owner at the end of a reference path.

    `path` runs from the root (a module, a fixture) to the leaked object; `suspect` is the index of the
    element of `path` that gains entries. `retained_bytes` is what the container keeps alive now.
    """

    name: str
    kind: str
    entries_per_call: float = 0.0
    length: int = 0
    retained_bytes: int | None = None
    path: tuple[str, ...] = ()
    suspect: int = 0
    bound: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One cause of growth: what accumulates, where it was allocated, who holds it, what to do."""

    what: str
    resource: Resource
    count_per_call: float = 0.0
    sites: tuple[Site, ...] = ()
    holder: Holder | None = None
    also_held_by: tuple[str, ...] = ()
    pattern: str | None = None
    fix: str = ""
    bytes_per_call: float = 0.0
    details: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> tuple[str, str, str]:
        """Equal for the same leak, however many endpoints show it: kind, site, holder."""
        site = str(self.sites[0].frame) if self.sites else ""
        return self.what.partition(" (")[0], site, self.holder.name if self.holder else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One line of the table of rounds: cumulated calls, and each level's change since the baseline."""

    calls: int
    blocks: int | None
    objects: int | None
    native_bytes: int | None
    rss_bytes: int | None
    """None where they cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RssAccount:
    """Why RSS moved, in bytes over the whole measurement.

    `uss_bytes` is None where it cannot be read. `trimmed_bytes` is what the allocator gave back when asked
    (psutil.heap_trim), None when it was not asked.
    """

    rss_bytes: int
    uss_bytes: int | None
    native_bytes: int | None
    trimmed_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one measurement found. `name` is a test's or an endpoint's name; rates are per call."""

    name: str
    outcome: Outcome
    budget: Budget
    calls: int
    rounds: int
    seconds: float
    """From the first call on, the diagnosis included."""

    judgements: tuple[Judgement, ...] = ()
    leaks: tuple[Leak, ...] = ()
    notes: tuple[str, ...] = ()
    sensitivity: str = ""
    missing_probes: tuple[str, ...] = ()
    rss: RssAccount | None = None
    table: tuple[Round, ...] = ()
    why: str = ""
    measured: bool = True
    nodeid: str = ""
    unit: str = "request"
    reason: str = ""
    """Why the test has its budget, in the user's words."""

    diagnosis_seconds: float = 0.0
    """How much of `seconds` the diagnosis took."""

    def growth(self, resource: Resource) -> Growth:
        """The growth of one resource; zero when it was not judged."""
        return next((j.growth for j in self.judgements if j.resource is resource), NO_GROWTH)

    @property
    def bytes_per_request(self) -> float:
        """Live memory gained per request, in bytes."""
        return self.growth(Resource.MEMORY).per_call

    @property
    def objects_per_request(self) -> float:
        """Objects tracked by the garbage collector gained per request."""
        return self.growth(Resource.OBJECTS).per_call

    @property
    def mb_per_min(self) -> float:
        """Live memory gained, in MB (1,000,000 bytes) per minute at the budget's rate of requests."""
        return self.bytes_per_request * self.budget.requests_per_s * 60 / 1_000_000

    def to_dict(self) -> dict[str, Any]:
        """The model as it is, as plain values for JSON."""
        return plain(dataclasses.asdict(self))  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """A value of the model as JSON has it: enumerations by their value, tuples as lists, no bound as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value
