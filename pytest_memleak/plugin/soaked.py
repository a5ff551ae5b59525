"""What `memleak.soak` takes and gives back; of the soak itself nothing is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pytest_memleak import settings
from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import EndpointGrowth, Estimate, SoakResult
from pytest_memleak.settings import SettingError

PLAN_FIELDS: Final[Mapping[str, type]] = {
    "spawn_rate": float,
    "openapi": str,
    "wait_s": float,
    "mix_period_s": float,
    "processes": int,
    "locust_options": tuple,
    "host": str,
    "port": int,
    "health_path": str,
    "start_timeout_s": float,
    "url": str,
    "pid": int,
    "fail_fast": bool,
    "diagnose": bool,
    "interval_s": float,
}
"""The fields of a plan that the fixture takes under their own names, beside the options of a soak."""

NOTHING: Final = Estimate(value=0.0, low=0.0, high=0.0)


class Soaked:
    """The result of a soak, with its attributes, and its endpoints by name: `result["GET /search"]`."""

    def __init__(self, result: SoakResult, raise_leak: Callable[[SoakResult], None] | None = None) -> None:
        self.result = result
        self._raise_leak = raise_leak

    def __getattr__(self, name: str) -> Any:
        if name == "result":  # a copy that is being made has no attribute yet
            raise AttributeError(name)
        return getattr(self.result, name)

    def __getitem__(self, endpoint: str) -> EndpointGrowth:
        """The growth of an endpoint, or of the endpoints that it could not be told apart from."""
        for growth in self.result.endpoints:
            if endpoint == growth.name or endpoint in growth.endpoints:
                return growth
        if not self.result.measured:
            return EndpointGrowth(endpoints=(endpoint,), requests=0, bytes_per_request=NOTHING, mb_per_min=NOTHING)
        names = ", ".join(name for growth in self.result.endpoints for name in growth.endpoints)
        raise KeyError(f"{endpoint!r} was not requested, or too seldom; measured: {names or 'none'}")

    def __repr__(self) -> str:
        return f"Soaked({self.result!r})"

    def assert_no_leak(self) -> None:
        """Fail the test with the full report when the service leaks."""
        if self.result.outcome is Outcome.LEAK and self._raise_leak is not None:
            self._raise_leak(self.result)


def split(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a soak and fields of its plan out of one set of keywords; None is not given. Raises SettingError."""
    valid = (*settings.SOAK_NAMES, "command", *PLAN_FIELDS)
    fields = {
        name: _typed(name, value) for name, value in arguments.items() if name in PLAN_FIELDS and value is not None
    }
    rest = {name: value for name, value in arguments.items() if name not in PLAN_FIELDS}
    return settings.parse_arguments(rest, "arguments", valid), fields


def unmeasured(name: str) -> SoakResult:
    """What a soak that was not carried out gives: nothing grew, and nobody has looked."""
    return SoakResult(
        name=name,
        outcome=Outcome.CLEAN,
        why="not measured",
        basis="nothing",
        limit_mb_per_min=0.0,
        growth=NOTHING,
        seconds=0.0,
        wanted_seconds=0.0,
        warm_up_s=0.0,
        workers=0,
        readings=0,
        measured=False,
    )


def _typed(name: str, value: Any) -> Any:
    wanted = PLAN_FIELDS[name]
    if wanted is tuple:
        if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(word, str) for word in value):
            return tuple(value)
        raise SettingError(f"arguments: {name}: expects a list of words, got {value!r}")
    is_flag = isinstance(value, bool)
    if (wanted is bool and is_flag) or (wanted is str and isinstance(value, str)):
        return value
    if wanted in (int, float) and not is_flag and isinstance(value, (int, wanted)) and 0 <= value < float("inf"):
        return wanted(value)
    words = {bool: "true or false", str: "text", int: "a whole number of at least 0", float: "a number of at least 0"}
    raise SettingError(f"arguments: {name}: expects {words[wanted]}, got {value!r}")
