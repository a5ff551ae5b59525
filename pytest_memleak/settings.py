"""Every option once: name, type, default, unit and the routes by which it is set.

The table drives the command line, the ini file, the marker, the fixture's arguments and the docs. The
nearest wins: ini file < command line < marker (module < class < test) < argument. One option is above them
all: `soak`, the duration of every soak of a run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_memleak import units
from pytest_memleak.slugs import see

if TYPE_CHECKING:
    from pytest_memleak.model import Budget

Kind = Literal["flag", "number", "count", "text", "names", "choice", "duration"]


class SettingError(ValueError):
    """An option is unknown or badly typed; the message is one sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. `marker` says whether `no_leak` and the fixture take it, `config` whether ini and CLI do."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    marker: bool = True
    config: bool = True

    @property
    def flag(self) -> str:
        """The command-line spelling."""
        return "--memleak" if self.name == "memleak" else "--memleak-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """The ini file's spelling."""
        return "memleak" if self.name == "memleak" else "memleak_" + self.name


OPTIONS: Final[tuple[Option, ...]] = (
    Option(name="memleak", kind="flag", default=False, marker=False, help="measure the tests marked no_leak"),
    Option(
        name="max_mb_per_min",
        kind="number",
        unit="MB/min",
        help="live memory may grow this fast at `rps` requests per second",
    ),
    Option(
        name="rps",
        kind="number",
        default=50.0,
        unit="requests/s",
        help="the rate that turns bytes per request into MB/min",
    ),
    Option(
        name="max_bytes_per_request", kind="number", unit="B/request", help="live memory may grow this much per request"
    ),
    Option(
        name="max_objects_per_request",
        kind="number",
        unit="objects/request",
        help="gc-tracked objects may grow this much per request",
    ),
    Option(name="max_fds", kind="count", default=0, help="file descriptors that may stay open after the measurement"),
    Option(name="max_threads", kind="count", default=0, help="threads that may stay after the measurement"),
    Option(name="max_tasks", kind="count", default=0, help="asyncio tasks that may stay after the measurement"),
    Option(name="min_calls", kind="count", default=0, help="calls that a clean verdict needs at the least"),
    Option(
        name="max_time",
        kind="number",
        default=30.0,
        unit="s",
        help="time limit of one measurement, without its diagnosis",
    ),
    Option(
        name="ignore",
        kind="names",
        default=(),
        help="growth that is known: a dotted holder, a file.py:line or a type name",
    ),
    Option(
        name="reason", kind="text", default="", config=False, help="why this test has this budget; shown in its report"
    ),
    Option(
        name="inconclusive",
        kind="choice",
        default="warn",
        choices=("warn", "fail"),
        marker=False,
        help="what an INCONCLUSIVE measurement does to its test",
    ),
    Option(
        name="canary",
        kind="flag",
        default=False,
        marker=False,
        help="plant a leak of the budget's size in each measured test and fail if it is not convicted",
    ),
    Option(name="json", kind="text", default="", marker=False, help="write the results to this file"),
)

SOAK_OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        name="duration",
        kind="duration",
        default=1800.0,
        unit="s",
        config=False,
        help="how long the load of a soak lasts, such as 30m; makes the test a soak",
    ),
    Option(
        name="locustfile",
        kind="text",
        default="",
        help="the load of a soak, beside the test or below the root directory; in a marker it makes the test a soak",
    ),
    Option(name="users", kind="count", default=10, help="users of a soak at the same time"),
    Option(name="app", kind="text", default="", help="the app of a soak as a server imports it: shop.main:app"),
    Option(
        name="soak",
        kind="duration",
        unit="s",
        marker=False,
        help="how long every soak of the run lasts, whatever the soak itself says",
    ),
)
"""The options of a soak alone; it has `max_mb_per_min` and `reason` beside them."""

ALL_OPTIONS: Final = (*OPTIONS, *SOAK_OPTIONS)
BY_NAME: Final[Mapping[str, Option]] = {option.name: option for option in ALL_OPTIONS}

MARKER_NAMES: Final[tuple[str, ...]] = tuple(option.name for option in OPTIONS if option.marker)
"""What a measurement in the test's own process takes."""

SOAK_NAMES: Final = ("max_mb_per_min", "reason", *(option.name for option in SOAK_OPTIONS if option.marker))
"""What a soak takes."""

_MAKES_A_SOAK: Final = ("duration", "locustfile")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one measurement after all routes are merged; defaults come from the table."""

    max_mb_per_min: float | None = None
    rps: float = 50.0
    max_bytes_per_request: float | None = None
    max_objects_per_request: float | None = None
    max_fds: int = 0
    max_threads: int = 0
    max_tasks: int = 0
    min_calls: int = 0
    max_time: float = 30.0
    ignore: tuple[str, ...] = ()
    reason: str = ""

    def budget(self) -> Budget:
        """What these options allow.

        Memory and objects are two views of one growth: a limit on either lifts the other's default of
        zero, because an allowed object takes memory. Limits in bytes and in MB/min together: the
        stricter holds.
        """
        from pytest_memleak.model import Budget  # a dozen dataclasses: 4 ms that only a measured test needs

        limits = [] if self.max_bytes_per_request is None else [self.max_bytes_per_request]
        if self.max_mb_per_min is not None:
            limits.append(self.max_mb_per_min * units.MB / (60 * self.rps))
        # An explicit zero loosens nothing.
        stated = any(limits) or bool(self.max_objects_per_request)
        return Budget(
            bytes_per_request=min(limits) if limits else (None if stated else 0.0),
            objects_per_request=self.max_objects_per_request if stated else 0.0,
            fds=self.max_fds,
            threads=self.max_threads,
            tasks=self.max_tasks,
            requests_per_s=self.rps,
            max_mb_per_min=self.max_mb_per_min,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SoakSettings:
    """The options of one soak after all routes are merged; `duration` in seconds."""

    # Not zero, as in process: a service under a real load is never quite still.
    max_mb_per_min: float = 1.0
    reason: str = ""
    duration: float = 1800.0
    locustfile: str = ""
    users: int = 10
    app: str = ""


def parse(option: Option, value: Any, spelt: str) -> Any:
    """`value` as the option's type, from text or from a Python value.

    `spelt` is how the user spelt the option, for the message of the SettingError that bad input raises.
    """
    if option.kind in ("number", "count"):
        return _number(option, value, spelt)
    if option.kind == "duration":
        try:
            return units.parse_duration(value)
        except ValueError as error:
            raise SettingError(f"{spelt}: {error}") from None
    if option.kind == "names":
        names = value.split() if isinstance(value, str) else value
        names = tuple(names) if isinstance(names, Iterable) else ()
        if not names or not all(isinstance(name, str) and name for name in names):
            raise SettingError(f"{spelt}: expects a list of names, got {value!r}")
        return names
    if option.kind == "flag" and not isinstance(value, bool):
        raise SettingError(f"{spelt}: expects true or false, got {value!r}")
    if option.kind == "choice" and value not in option.choices:
        raise SettingError(f"{spelt}: expects one of {', '.join(option.choices)}, got {value!r}")
    if option.kind == "text" and not isinstance(value, str):
        raise SettingError(f"{spelt}: expects text, got {value!r}")
    return value


def _number(option: Option, value: Any, spelt: str) -> float | int:
    least = 1 if option.name == "users" else 0
    wanted = f"a whole number of at least {least}" if option.kind == "count" else "a number of at least 0"
    if option.name in ("rps", "max_time"):
        wanted = "a number above 0"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise SettingError(f"{spelt}: expects {wanted}, got {value!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise SettingError(f"{spelt}: expects {wanted}, got {value!r}") from None
    whole = option.kind != "count" or number == int(number) if math.isfinite(number) else False
    positive = number > 0 if wanted == "a number above 0" else number >= least
    if not whole or not positive:
        raise SettingError(f"{spelt}: expects {wanted}, got {value!r}")
    return int(number) if option.kind == "count" else number


def parse_arguments(arguments: Mapping[str, Any], spelt: str, valid: Sequence[str] = MARKER_NAMES) -> dict[str, Any]:
    """Check the keyword arguments of the marker or the fixture. Raises SettingError that names the valid ones."""
    parsed = {}
    for name, value in arguments.items():
        if name not in valid:
            import difflib  # only for a typo: every pytest run imports this module

            close = difflib.get_close_matches(name, valid, n=1)
            hint = f", did you mean {close[0]!r}?" if close else "."
            sentence = f"{spelt}: unknown argument {name!r}{hint} Valid arguments: {', '.join(valid)}"
            raise SettingError(see("unknown-argument", sentence))
        # None is "not given", so that a test can build its arguments conditionally.
        if value is not None:
            parsed[name] = parse(BY_NAME[name], value, f"{spelt}: {name}")
    return parsed


def merge(*layers: Mapping[str, Any]) -> Settings:
    """Merge parsed layers, the farthest first. `ignore` adds up, everything else is replaced by the nearer."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            merged[name] = (*merged.get("ignore", ()), *value) if name == "ignore" else value
    return Settings(**merged)


def parse_marker(arguments: Mapping[str, Any], spelt: str) -> dict[str, Any]:
    """Check the arguments of one marker, which is of a soak or of a measurement in process. Raises SettingError."""
    valid = (*MARKER_NAMES, *(name for name in SOAK_NAMES if name not in MARKER_NAMES))
    parsed = parse_arguments(arguments, spelt, valid)
    strange = [name for name in parsed if name not in SOAK_NAMES]
    if is_soak([parsed]) and strange:
        made_by = next(name for name in _MAKES_A_SOAK if name in parsed)
        raise SettingError(
            f"{spelt}: {strange[0]} is not for soaks, and {made_by} makes the test one. "
            f"Valid arguments: {', '.join(SOAK_NAMES)}"
        )
    return parsed


def is_soak(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these markers together ask for a soak."""
    return any(name in layer for layer in layers for name in _MAKES_A_SOAK)


def refuse_idle(layers: Sequence[Mapping[str, Any]], spelt: str) -> None:
    """Raise SettingError for what only a soak heeds, on a test that is none."""
    idle = [name for layer in layers for name in layer if name not in MARKER_NAMES]
    if idle and not is_soak(layers):
        raise SettingError(f"{spelt}: {idle[0]} is for soaks: add duration or locustfile, or leave it out")


def merge_soak(configured: Mapping[str, Any], *layers: Mapping[str, Any]) -> SoakSettings:
    """Merge parsed layers, the farthest first; what is not a soak's is left out, and `soak` is above all."""
    merged = {name: value for layer in (configured, *layers) for name, value in layer.items() if name in SOAK_NAMES}
    if "soak" in configured:
        merged["duration"] = configured["soak"]
    return SoakSettings(**merged)
