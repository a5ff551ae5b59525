"""One reading of a process tree from outside: cheap enough for each second, and nothing of the target's is touched."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final

import psutil

from pytest_memleak.watch.target import Target

# Walking all processes of a machine for their parents takes some milliseconds; a process that ends is noticed at once.
_LOOK_AGAIN_S: Final = 5.0

# A creation time is told from the boot time, which the kernel derives from the clock: it moves by some hundredths of a
# second, and by more when the clock is set.
_CLOCK_S: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One process at one moment. Sizes in bytes; fds and cpu_s are -1 where they may not be read."""

    pid: int
    created_s: float
    name: str
    rss: int
    vms: int
    threads: int
    fds: int
    cpu_s: float = -1.0
    """Processor time since it began."""

    @property
    def life(self) -> tuple[int, float]:
        """What tells this process from another of the same pid."""
        return self.pid, self.created_s


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The tree at one moment; `t` is seconds on the monotonic clock."""

    t: float
    readings: tuple[Reading, ...]

    @property
    def rss(self) -> int:
        """Of all processes together; pages that they share are counted for each."""
        return sum(reading.rss for reading in self.readings)


class Gone(Exception):
    """The root of the tree has ended."""


class TreeSampler:
    """Reads the tree below a process. `clock` gives seconds."""

    def __init__(self, target: Target, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._clock = clock
        self._members: list[psutil.Process] = []
        self._looked_s = float("-inf")
        self._is_stale = True

    def read(self, *, details: bool = False) -> Snapshot:
        """The tree now; `details` reads threads and file descriptors too. Raises Gone."""
        now = self._clock()
        if self._is_stale or now - self._looked_s >= _LOOK_AGAIN_S:
            self._look(now)
        readings: list[Reading] = []
        self._is_stale = False
        for process in self._members:
            try:
                reading = _read(process, details=details)
            except psutil.NoSuchProcess:
                self._is_stale = True
                continue
            except psutil.AccessDenied:
                continue
            if reading is None:
                self._is_stale = True
            else:
                readings.append(reading)
        if not any(reading.pid == self._target.pid for reading in readings):
            raise Gone(f"process {self._target.pid} has ended")
        return Snapshot(t=now, readings=tuple(readings))

    def pids(self) -> list[int]:
        """The members of the tree as of the last reading, the root first."""
        return [process.pid for process in self._members]

    def _look(self, now: float) -> None:
        try:
            root = self._members[0] if self._members else psutil.Process(self._target.pid)
            if not root.is_running() or abs(root.create_time() - self._target.created_s) > _CLOCK_S:
                raise Gone(f"process {self._target.pid} has ended")
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise Gone(f"process {self._target.pid} has ended") from None
        # The same objects as before: each remembers its creation time, which read anew may be another by the clock.
        known = {process: process for process in self._members}
        self._members = [known.get(process, process) for process in _alive(found)]
        self._looked_s = now


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    alive: list[psutil.Process] = []
    for process in processes:
        try:
            process.create_time()
        except psutil.Error:
            continue
        alive.append(process)
    return alive


def _read(process: psutil.Process, *, details: bool) -> Reading | None:
    """None for a zombie: it holds no memory, and waits for its parent only."""
    memory = process.memory_info()
    if memory.rss == 0 and process.status() == psutil.STATUS_ZOMBIE:
        return None
    times = process.cpu_times()
    threads, fds = 0, -1
    if details:
        threads = process.num_threads()
        try:
            fds = process.num_fds() if psutil.POSIX else len(process.open_files())
        except psutil.AccessDenied:
            fds = -1
    return Reading(
        pid=process.pid, created_s=process.create_time(), name=process.name(),
        rss=memory.rss, vms=memory.vms, threads=threads, fds=fds, cpu_s=times.user + times.system,
    )  # fmt: skip
