"""What `setup_memory_monitoring` is told, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

# A day every second: what a row of the ring takes, 48 B and 8 B for each endpoint, stays in bounds.
_MOST_READINGS: Final = 86_400


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `setup_memory_monitoring` was called with; see there."""

    prefix: str = "/api/debug/memory"
    token: str | None = dataclasses.field(default=None, repr=False)
    dependencies: Sequence[Any] = ()
    include_in_schema: bool = True
    metrics: bool = True
    port: int | None = None
    host: str | None = None
    interval_s: float = 5.0
    history_minutes: float = 60
    max_objects: int = 2_000_000
    allow_fork: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be meant."""
        if not self.prefix.startswith("/") or self.prefix.endswith("/"):
            raise ValueError(f"prefix: expects /a/path without a slash at its end, got {self.prefix!r}")
        if not self.interval_s > 0:
            raise ValueError(f"interval_s: expects seconds above 0, got {self.interval_s!r}")
        if not 1 <= self.readings <= _MOST_READINGS:
            raise ValueError(
                f"history_minutes: {self.history_minutes!r} min of a reading every {self.interval_s!r} s are"
                f" {self.readings} readings: expects 1 to {_MOST_READINGS}"
            )
        if self.token == "":
            raise ValueError("token: is empty; leave it out to admit this machine alone")
        if self.token is not None and self.token.strip() != self.token:
            raise ValueError("token: has white space at an end, which no header carries")

    @property
    def listens_at(self) -> str:
        """The address of the port of its own: where nobody is asked who he is, this machine alone.

        The metrics there are open to whoever reaches them, so that a token is a decision about the network too.
        """
        if self.host is not None:
            return self.host
        return "127.0.0.1" if self.token is None and not self.dependencies else "0.0.0.0"

    @property
    def readings(self) -> int:
        """How many the ring holds."""
        return round(self.history_minutes * 60 / self.interval_s)
