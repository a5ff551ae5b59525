"""The words of a scan as frozen values: what was found in the source, what could not be read.

Schema history
    1  first version.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

SCAN_SCHEMA_VERSION: Final = 1


class Severity(str, enum.Enum):
    """How fast it would hurt; follows what drives the growth, and the pattern."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Confidence(str, enum.Enum):
    """How sure the scanner is that the code leaks at all."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Driver(str, enum.Enum):
    """What makes it grow; the value is the word in messages. Fastest first."""

    REQUEST = "request"
    """Code that an endpoint reaches, once per request."""

    CALL = "call"
    INSTANCE = "instance"
    """Once per object of a class."""

    IMPORT = "import"
    """Once per process."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place in the source that leaks, or would when it ran often enough."""

    code: str
    """`MLK001` …; stable."""

    pattern: str
    """The name in the catalogue."""

    path: str
    """As the user would open it: relative to the working directory where it lies below it, with `/`."""

    line: int
    """From 1. In a notebook: the line within the cell."""

    column: int
    """From 1."""

    end_line: int
    severity: Severity
    confidence: Confidence
    driver: Driver
    message: str
    """Subject, what is wrong, why it grows; one sentence without a full stop."""

    source: str
    """The line, without its indentation."""

    fix: str
    symbol: str = ""
    """The function or class it is in, dotted from the module: `Store.add`; empty at module level."""

    holder: str = ""
    """The container or attribute that gains entries, dotted: `app.cache.SEEN`; empty where there is none."""

    endpoints: tuple[str, ...] = ()
    """The endpoints that reach it, such as `GET /items/{id}`; shortest way first."""

    confirmed: bool = False
    """Whether a measured run has seen this very place leak."""

    cell: int | None = None
    """The cell of a notebook, from 1."""

    fixable: bool = False
    """Whether `--fix` can rewrite it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScanWarning:
    """A file or folder that could not be scanned whole, and why; the rest was."""

    path: str
    reason: str
    is_unread: bool = True
    """Whether something was left out of the scan; if not, it is only told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """One scan: findings worst first, warnings by path."""

    findings: tuple[Finding, ...]
    warnings: tuple[ScanWarning, ...]
    files: int
    """How many were scanned."""

    lines: int
    version: int = SCAN_SCHEMA_VERSION
