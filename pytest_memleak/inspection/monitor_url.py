"""The counts of an app that carries our monitor, over HTTP: also of one on another machine."""

from __future__ import annotations

import urllib.parse
from typing import Any, Final

from pytest_memleak.inspection.errors import Gone, InspectionError

_PATH: Final = "/api/debug/memory/growth"

# It walks all objects before it answers, in a service under load.
_TIMEOUT_S: Final = 30.0

# One answer comes from one of the workers, whichever accepts: asked on fresh connections, the first one is met again.
# Of eight workers it is missed 40 times in a row with a chance of 0.5 %.
_ASKED: Final = 40


class MonitorCounts:
    """Asks a monitor, and stays with the worker that answered first. Best as a context manager."""

    name = "the monitor"

    def __init__(self, url: str, token: str = "") -> None:
        """Nothing is asked yet. Raises InspectionError where it is no URL."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InspectionError(f"--url: expects http://HOST:PORT, got {url!r}")
        import httpx

        self.attached_s: list[float] = []
        self._url = url.rstrip("/") + _PATH
        self._failures: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.InvalidURL)
        headers = {"Connection": "close", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._client = httpx.Client(timeout=_TIMEOUT_S, headers=headers, trust_env=False)
        self._pid = 0

    def __enter__(self) -> MonitorCounts:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._client.close()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The counts of the worker. Raises Gone and InspectionError; holders are not told over HTTP."""
        if order["what"] != "count":
            raise InspectionError("the monitor tells no holders; from its own machine, --pid does")
        for _ in range(_ASKED):
            answer = self._get()
            if self._pid in (0, answer["pid"]):
                self._pid = answer["pid"]
                return answer
        raise Gone(f"worker {self._pid} did not answer any more, {_ASKED} answers came from others")

    def _get(self) -> dict[str, Any]:
        try:
            found = self._client.get(self._url)
        except self._failures as error:
            if self._pid:
                raise Gone(f"{self._url} does not answer any more ({error})") from None
            raise InspectionError(f"{self._url} does not answer ({error}): is the app running?") from None
        if found.status_code in (401, 403):
            raise InspectionError(f"{self._url} refuses strangers: give its token by --token or MEMLEAK_TOKEN")
        if found.status_code == 404:
            raise InspectionError(f"{self._url} is not there: the app needs setup_memory_monitoring(app)")
        try:
            values: Any = found.json()
            counts = {str(one["type"]): int(one["count"]) for one in values["types"]}
            return {"counts": counts, "pid": int(values["pid"])}
        except (ValueError, KeyError, TypeError):
            raise InspectionError(f"{self._url} gave no counts of types (HTTP {found.status_code})") from None
