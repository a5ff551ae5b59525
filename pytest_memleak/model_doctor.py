"""The words for a check-up of this machine as frozen values: which probes work, which extras are installed.

As in `model`, nothing has an effect.

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

from pytest_memleak.model import plain

DOCTOR_SCHEMA_VERSION: Final = 1


class State(enum.Enum):
    """How it is with a probe or an extra here."""

    WORKS = "works"
    MISSING = "missing"
    NOT_HERE = "not here"
    """This platform or this Python has no such thing, and nothing can be done about it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A probe that was tried. `said` is what was seen, or why nothing was; `serves` is what does not work without it.

    `install` is the command that brings it, empty where there is none.
    """

    name: str
    state: State
    said: str
    serves: str
    is_core: bool = False
    install: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What an extra asks for, and the version that is installed; empty for none. `wanted` is such as `>=2.20`."""

    name: str
    version: str
    wanted: str
    fits: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An extra of ours, and what does not work without it."""

    name: str
    state: State
    packages: tuple[Package, ...]
    serves: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """All of it. `where` names the versions of all that matters; `install` are the commands for what is missing."""

    where: tuple[str, ...]
    probes: tuple[Tried, ...]
    extras: tuple[Extra, ...]
    install: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether the core does: each probe without which no test can be measured."""
        return all(probe.state is State.WORKS for probe in self.probes if probe.is_core)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return {"version": DOCTOR_SCHEMA_VERSION, "works": self.works, **found}
