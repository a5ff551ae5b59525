"""One path of an app's monitor over HTTP, for whoever reads figures of it from outside."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from typing import Any, Final, TypeVar

_Found = TypeVar("_Found")

PREFIX: Final = "/api/debug/memory"

_PATIENCE_S: Final = 60.0
"""How long a monitor may ask to wait that is not to be disturbed so often: twelve times what it asks for after the
first walks over a heap of a million objects."""


class MonitorClient:
    """Asks one path, each time on a connection of its own: of several workers any may answer.

    `refused` is raised where there is nothing to be had, as one sentence for the user, and `gone` where there was.
    """

    def __init__(
        self, url: str, token: str, path: str, *, timeout_s: float, refused: type[Exception], gone: type[Exception],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """Nothing is asked yet. Raises `refused` where it is no URL."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise refused(f"--url: expects http://HOST:PORT, got {url!r}")
        import httpx

        self.url = url.rstrip("/") + PREFIX + path
        self._refused, self._gone = refused, gone
        self._sleep = sleep
        self._failures: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.InvalidURL)
        headers = {b"Connection": b"close", **({b"Authorization": b"Bearer " + token.encode()} if token else {})}
        self._client = httpx.Client(timeout=timeout_s, headers=headers, trust_env=False)
        self._has_answered = False

    def close(self) -> None:
        """End it."""
        self._client.close()

    def get(self, read: Callable[[Any], _Found], what: str, **query: int) -> _Found:
        """What `read` makes of the JSON; `what` is the word for it. Raises `refused` and `gone`."""
        answer = self._patiently(query)
        if answer.status_code in (401, 403):
            raise self._refused(f"{self.url} refuses strangers: give its token by --token or MEMLEAK_TOKEN")
        if answer.status_code == 404:
            raise self._refused(f"{self.url} is not there: the app needs setup_memory_monitoring(app)")
        if answer.status_code == 429:
            raise self._refused(f"{self.url} asks to wait for {_wait_s(answer):.0f} s: read it less often (--interval)")
        try:
            found = read(answer.json())
        except (ValueError, KeyError, TypeError):
            raise self._refused(f"{self.url} gave no {what} (HTTP {answer.status_code})") from None
        self._has_answered = True
        return found

    def _patiently(self, query: dict[str, int]) -> Any:
        """The answer, asked for again when the monitor says, as long as that is soon."""
        left_s = _PATIENCE_S
        while True:
            answer = self._answer(query)
            wait_s = _wait_s(answer)
            if answer.status_code != 429 or wait_s > left_s:
                return answer
            left_s -= wait_s
            self._sleep(wait_s)

    def _answer(self, query: dict[str, int]) -> Any:
        try:
            return self._client.get(self.url, params=query or None)
        except self._failures as error:
            if self._has_answered:
                raise self._gone(f"{self.url} does not answer any more ({error})") from None
            raise self._refused(f"{self.url} does not answer ({error}): is the app running?") from None


def _wait_s(answer: Any) -> float:
    """At least a second, so that what asks for nothing is not asked without end."""
    text = str(answer.headers.get("retry-after", ""))
    return max(1.0, float(text)) if text.isdecimal() else 1.0
