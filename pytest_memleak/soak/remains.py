"""What is left of a process tree: found, killed, and asked of the kernel why it died.

Imports nothing of the package: the keeper needs it before anything else is up.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import psutil

KILL_S: Final = 10.0
"""How long SIGKILL may take: a process ends at once, unless the kernel holds it (a hung disk), perhaps for ever."""

MARK: Final = "PYTEST_MEMLEAK_TREE"
"""The environment variable by which a process is known that left the tree and its session: children inherit it."""


def strays(mark: str, session: int | None) -> list[psutil.Process]:
    """The living processes with this mark or of this session, and their descendants; this process is never one."""
    import psutil

    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # By session as well: a program that sets its title (gunicorn with setproctitle) overwrites its environment.
            of_session = sys.platform != "win32" and session is not None and os.getsid(process.pid) == session
            ours = of_session or process.environ().get(MARK) == mark
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.update((process, *process.children(recursive=True)))
    return list(found)


def kill_all(
    find: Callable[[], list[psutil.Process]],
    *,
    within_s: float = KILL_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Kill what is found until nothing is found, since a process may start others while it is looked for.

    Returns how many were left after `within_s` seconds.
    """
    import psutil

    deadline = clock() + within_s
    while left := find():
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if clock() > deadline:
            return len(left)
        sleep(0.01)  # the kernel's moment to end them; a look takes about as long
    return 0


def memory_events(pid: int, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Where the kernel counts the out-of-memory kills of the process's cgroup; None without cgroup v2."""
    try:
        for line in (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::"):
                path = cgroups / line.removeprefix("0::").lstrip("/") / "memory.events"
                return path if path.is_file() else None
    except OSError:
        return None
    return None


def oom_kills(events: Path | None) -> int | None:
    """The counter ``oom_kill`` of a ``memory.events``; None where it cannot be read."""
    try:
        text = events.read_text(encoding="utf-8") if events is not None else ""
    except OSError:
        return None
    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(counts["oom_kill"]) if "oom_kill" in counts else None
