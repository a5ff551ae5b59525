"""The figures of an app that carries our monitor, over HTTP: also of one on another machine."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Final

from pytest_memleak.watch.monitor_client import MonitorClient
from pytest_memleak.watch.plan import WatchError
from pytest_memleak.watch.sampling import Gone, Reading, Snapshot

# A service under load answers late; one that is silent for longer is taken for ended.
_TIMEOUT_S: Final = 10.0

# One answer comes from one of the workers, whichever accepts: asked on fresh connections, each is met now and then.
_ASKED: Final = 4


class MonitorSampler:
    """Asks a monitor for the memory of its process; each worker that answers is a process of the tree."""

    def __init__(self, url: str, token: str) -> None:
        self._client = MonitorClient(
            url, token, "/process-info", timeout_s=_TIMEOUT_S, refused=WatchError, gone=Gone
        )  # fmt: skip

    def __enter__(self) -> MonitorSampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def read(self) -> Snapshot:
        """The workers that answer now. Raises Gone, and WatchError where there is no monitor."""
        readings: dict[int, Reading] = {}
        for _ in range(_ASKED):
            reading = self._client.get(_reading, "figures of memory")
            readings[reading.pid] = reading
        return Snapshot(t=time.monotonic(), readings=tuple(readings.values()))

    def pids(self) -> list[int]:
        """None of this machine that we know of."""
        return []


def _reading(found: Any) -> Reading:
    return Reading(
        pid=int(found["pid"]), created_s=float(found["created_s"]), name="worker",
        rss=int(found["rss_bytes"]), vms=int(found["vms_bytes"]),
        threads=int(found["threads"]), fds=int(found["fds"] if found["fds"] is not None else -1),
        # A monitor of another version may not tell it.
        cpu_s=float(found.get("cpu_user_s", -1)) + float(found.get("cpu_system_s", 0)),
    )  # fmt: skip
