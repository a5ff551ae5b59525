"""The memory that a process may have: its container's limit, or the machine's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

_CGROUPS: Final = Path("/sys/fs/cgroup")

# Version 1 writes "no limit" as the largest multiple of a page; nobody has so much memory.
_NO_LIMIT: Final = 1 << 60


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What must not be reached, in bytes. `used` is what counts against it now, None where that is not known."""

    limit_bytes: int
    whose: str
    used: int | None = None


def limit_of(pid: int, root: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> Limit:
    """The lowest limit above a process: of its control groups, else the machine's memory."""
    machine = psutil.virtual_memory()
    lowest = Limit(limit_bytes=machine.total, whose="the machine's memory", used=machine.total - machine.available)
    for folder, file, current in _groups(pid, root, cgroups):
        limit = _number(folder / file)
        if limit is not None and limit < min(lowest.limit_bytes, _NO_LIMIT):
            lowest = Limit(limit_bytes=limit, whose="the container's limit", used=_number(folder / current))
    return lowest


def _groups(pid: int, root: Path, cgroups: Path) -> Iterator[tuple[Path, str, str]]:
    """The folders of a process's control groups upwards, with the names of their limit and of what is used."""
    try:
        lines = (root / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # A process seen out of another namespace has a path that starts above what is mounted here.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth]), *names


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # "max", or no such file: a group without that controller
