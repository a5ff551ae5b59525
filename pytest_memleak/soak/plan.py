"""What a soak is asked to do, checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_memleak import units
from pytest_memleak.soak import server
from pytest_memleak.soak.tree import StartError
from pytest_memleak.workloads.load import MIX_PERIOD_S, LoadError, check_locustfile


class PlanError(ValueError):
    """A soak cannot be run as asked; the message is one sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One soak. Paths are absolute; `command` is the user's own server command, empty for uvicorn."""

    app: str = ""
    command: tuple[str, ...] = ()
    url: str = ""
    pid: int = 0
    duration_s: float = 1800.0
    users: int = 10
    spawn_rate: float = 0.0
    """Users a second; 0 starts a tenth of them each second, so that all are there after 10 s."""

    locustfile: str = ""
    openapi: str = ""
    processes: int = 1
    master_host: str = ""
    master_port: int = 5557
    locust_options: tuple[str, ...] = ()
    wait_s: float = 0.0
    mix_period_s: float = MIX_PERIOD_S
    """How long one mix of the endpoints lasts; 0 leaves the locustfile's weights alone."""

    host: str = "127.0.0.1"
    port: int = 0
    health_path: str = "/"
    start_timeout_s: float = 60.0
    max_mb_per_min: float = 1.0
    fail_fast: bool = False
    diagnose: bool = True
    interval_s: float = 0.0
    """Between readings; 0 takes one that suits the duration."""

    folder: str = ""
    cwd: str = ""

    @property
    def name(self) -> str:
        """What is soaked, in a word."""
        return self.app or " ".join(self.command) or self.url or f"process {self.pid}"

    @property
    def is_foreign(self) -> bool:
        """Whether the server runs already, and is only seen from outside."""
        return bool(self.url or self.pid)

    @property
    def reading_interval_s(self) -> float:
        """Half-hour soaks read every 2 s, a day every 15 s: some thousand readings, never a gigabyte.

        Below 100 s there are a hundred readings, or five a second: a verdict wants two dozen of settled time.
        """
        return self.interval_s or min(15.0, max(0.2, min(1.0, self.duration_s / 100), self.duration_s / 900))

    def to_dict(self) -> dict[str, Any]:
        """For `run.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Out of `run.json`; what a newer version wrote beside is left out. Raises PlanError for what is no plan."""
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = values.get(field.name, field.default)
            value = tuple(value) if isinstance(value, list) else value
            kind = (int, float) if isinstance(field.default, float) else type(field.default)
            if not isinstance(value, kind):
                raise PlanError(f"{field.name}: expects {type(field.default).__name__}, got {value!r}")
            given[field.name] = value
        plan = cls(**given)
        _check_target(plan)
        return plan


def parse_duration(text: str | float, spelt: str = "duration") -> float:
    """Seconds out of `30m`, `90s`, `1h30m`, `24h` or a plain number of seconds. Raises PlanError."""
    try:
        return units.parse_duration(text)
    except ValueError as error:
        raise PlanError(f"{spelt}: {error}") from None


def checked(plan: Plan) -> Plan:
    """The plan, if it makes sense here and now. Raises PlanError."""
    _check_target(plan)
    _check_numbers(plan)
    try:
        if not plan.is_foreign:
            server.launch_of(plan.app, plan.command, plan.host, plan.port)
        check_locustfile(Path(plan.locustfile) if plan.locustfile else None)
    except (StartError, LoadError) as error:
        raise PlanError(str(error)) from None
    except OSError as error:
        raise PlanError(f"host: no server can listen on {plan.host} here ({error.strerror})") from None
    if plan.openapi and not plan.locustfile and not Path(plan.openapi).is_file():
        raise PlanError(f"openapi: {plan.openapi} is no file")
    if plan.master_host and not plan.locustfile:
        raise PlanError("master_host: joining a distributed run needs its locustfile (--locustfile)")
    if not plan.health_path.startswith("/"):
        raise PlanError(f"health: expects a path such as /health, got {plan.health_path!r}")
    return plan


def _check_target(plan: Plan) -> None:
    targets = [bool(plan.app), bool(plan.command), plan.is_foreign]
    if sum(targets[1:]) > 1 or not any(targets):
        raise PlanError("what to soak: expects an app such as shop.main:app, a command after --, or --url")
    if plan.app and plan.is_foreign:
        raise PlanError(f"{plan.app} and a server that runs already (--url, --pid): give one of them")
    if plan.pid and not plan.url:
        raise PlanError("--pid says whose memory is watched, and the load needs an address too: give --url")


def _check_numbers(plan: Plan) -> None:
    if plan.users < 1:
        raise PlanError(f"users: expects at least 1, got {plan.users}")
    if plan.processes < 1:
        raise PlanError(f"processes: expects at least 1, got {plan.processes}")
    if not plan.max_mb_per_min >= 0 or plan.max_mb_per_min == float("inf"):
        raise PlanError(f"max_mb_per_min: expects a number of at least 0, got {plan.max_mb_per_min:g}")
    for name in ("spawn_rate", "wait_s", "interval_s"):
        seconds: float = getattr(plan, name)
        if not 0 <= seconds < float("inf"):
            raise PlanError(f"{name.removesuffix('_s')}: expects a number of at least 0, got {seconds:g}")
    for name, least in (("port", 0), ("master_port", 1)):
        number: int = getattr(plan, name)
        if not least <= number <= 65_535:
            raise PlanError(f"{name}: expects {least} to 65535, got {number}")
