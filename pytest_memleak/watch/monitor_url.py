"""The figures of an app that carries our monitor, over HTTP: also of one on another machine."""

from __future__ import annotations

import time
import urllib.parse
from types import TracebackType
from typing import Any, Final

from pytest_memleak.watch.plan import WatchError
from pytest_memleak.watch.sampling import Gone, Reading, Snapshot

_PATH: Final = "/api/debug/memory/process-info"

# A service under load answers late; one that is silent for longer is taken for ended.
_TIMEOUT_S: Final = 10.0

# One answer comes from one of the workers, whichever accepts: asked on fresh connections, each is met now and then.
_ASKED: Final = 4


class MonitorSampler:
    """Asks a monitor for the memory of its process; each worker that answers is a process of the tree."""

    def __init__(self, url: str, token: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WatchError(f"--url: expects http://HOST:PORT, got {url!r}")
        import httpx

        self._url = url.rstrip("/") + _PATH
        self._failures: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.InvalidURL)
        headers = {"Connection": "close", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._client = httpx.Client(timeout=_TIMEOUT_S, headers=headers, trust_env=False)
        self._has_answered = False

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
            reading = self._ask()
            readings[reading.pid] = reading
        return Snapshot(t=time.monotonic(), readings=tuple(readings.values()))

    def pids(self) -> list[int]:
        """None of this machine that we know of."""
        return []

    def _ask(self) -> Reading:
        try:
            answer = self._client.get(self._url)
        except self._failures as error:
            if self._has_answered:
                raise Gone(f"{self._url} does not answer any more ({error})") from None
            raise WatchError(f"{self._url} does not answer ({error}): is the app running?") from None
        if answer.status_code in (401, 403):
            raise WatchError(f"{self._url} refuses strangers: give its token by --token or MEMLEAK_TOKEN")
        if answer.status_code == 404:
            raise WatchError(f"{self._url} is not there: the app needs setup_memory_monitoring(app)")
        try:
            found: Any = answer.json()
            reading = _reading(found)
        except (ValueError, KeyError, TypeError):
            raise WatchError(f"{self._url} gave no figures of memory (HTTP {answer.status_code})") from None
        self._has_answered = True
        return reading


def _reading(found: Any) -> Reading:
    return Reading(
        pid=int(found["pid"]), created_s=float(found["created_s"]), name="worker",
        rss=int(found["rss_bytes"]), vms=int(found["vms_bytes"]),
        threads=int(found["threads"]), fds=int(found["fds"] if found["fds"] is not None else -1),
    )  # fmt: skip
