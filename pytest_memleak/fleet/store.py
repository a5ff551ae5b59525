"""A store that speaks Prometheus' HTTP API (Prometheus, Thanos, Mimir, Cortex, VictoriaMetrics), asked over httpx.

An answer is read up to a bound: what is larger, or what the store itself finds too large, is asked for again in
shorter spans of time, so that thousands of replicas fit into bounded memory.
"""

from __future__ import annotations

import contextlib
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from pytest_memleak.fleet.plan import FleetError, Plan
from pytest_memleak.fleet.refusals import TooMuch, not_prometheus, refused, unreachable

# 600,000 points of some 26 characters; as Python's lists and strings they take ten times as much for a moment.
_MOST_BYTES: Final = 16_000_000

# A store that refuses a sixty-fourth of the span does so for another reason than its length.
_MOST_HALVINGS: Final = 6

# Longer questions go by POST, which some read-only proxies refuse; a URL of 2,000 characters passes everywhere.
_LONGEST_URL: Final = 2_000

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

# What users copy out of the address bar.
_PAGES: Final = re.compile(r"(/api/v1|/graph|/query|/targets)?/*$")

Series = tuple[dict[str, str], list[tuple[float, float]]]
"""Labels, and points of time and value."""


class Store:
    """A connection. Every method raises FleetError with one sentence for the user."""

    def __init__(self, plan: Plan) -> None:
        parts = urllib.parse.urlsplit(plan.url)
        import httpx

        self._httpx = httpx
        self.name = _PAGES.sub("", f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
        """The URL without what may be secret."""

        headers = {"Accept": "application/json", **dict(plan.headers)}
        if plan.token:
            headers["Authorization"] = f"Bearer {plan.token}"
        who = (urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or ""))
        try:
            self._client = httpx.Client(
                timeout=plan.timeout_s,
                headers=headers,
                auth=who if parts.username else None,
                follow_redirects=True,
                # A proxy of the environment is for what is out there, as is its list of certificates.
                trust_env=parts.hostname not in _LOOPBACK,
            )
        except (UnicodeError, OSError) as error:
            raise FleetError(
                f"--token, --header or the certificates of SSL_CERT_FILE cannot be used: {error}"
            ) from None
        self._timeout_s = plan.timeout_s
        self.warnings: dict[str, None] = {}
        """What the store said beside its answers."""

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def instant(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The series of a query now."""
        found = self._results(self._asked("query", {"query": query}, query), "vector")
        with self._understood():
            return [(dict(one["metric"]), float(one["value"][1])) for one in found if "value" in one]

    def over(self, query: str, start: float, end: float, step: float) -> Iterator[list[Series]]:
        """The series of a query between two times, one or several spans that follow each other."""
        points = round((end - start) / step) + 1
        size, at, halvings = points, 0, 0
        while at < points:
            last = min(at + size, points) - 1
            asked = {"query": query, "start": _time(start + at * step), "end": _time(start + last * step)}
            try:
                data = self._asked("query_range", {**asked, "step": _time(step)}, query)
            except TooMuch as error:
                halvings += 1
                if halvings > _MOST_HALVINGS or size == 1:
                    raise FleetError(f"{error}: narrow it by --selector, or take a longer --step") from None
                size = (size + 1) // 2
                continue
            found = self._results(data, "matrix")
            with self._understood():
                part = [
                    (dict(one["metric"]), [(float(when), float(value)) for when, value in one.get("values", ())])
                    for one in found
                ]
            yield part
            at = last + 1

    def names(self) -> list[str]:
        """The metrics it has."""
        found = self._asked("label/__name__/values", {}, "")
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    def _results(self, data: Any, kind: str) -> Sequence[Any]:
        """The series of an answer; of a scalar there are none."""
        with self._understood():
            return list(data["result"]) if data["resultType"] == kind else []

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise not_prometheus(self.name) from None

    def _asked(self, path: str, parameters: Mapping[str, str], query: str) -> Any:
        """An answer's data."""
        address = f"{self.name}/api/v1/{path}"
        url = f"{address}?{urllib.parse.urlencode(parameters)}" if parameters else address
        try:
            if len(url) > _LONGEST_URL:
                stream = self._client.stream("POST", address, data=dict(parameters))
            else:
                stream = self._client.stream("GET", url)
            with stream as answer:
                body = _bounded(answer.iter_bytes, self.name)
                status = int(answer.status_code)
        except (self._httpx.HTTPError, self._httpx.InvalidURL, ValueError) as error:
            raise unreachable(self.name, error, self._timeout_s) from None
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if status != 200 or not isinstance(found, dict) or found.get("status") != "success" or "data" not in found:
            raise refused(self.name, status, found, body, query)
        warnings = found.get("warnings")
        self.warnings.update(dict.fromkeys(str(one) for one in warnings) if isinstance(warnings, list) else {})
        if found.get("isPartial"):
            # VictoriaMetrics' cluster says it so.
            self.warnings["some of its storage nodes did not answer"] = None
        return found["data"]


def _bounded(chunks: Callable[[], Iterator[bytes]], name: str) -> bytes:
    """The body, if it is not too large."""
    body = bytearray()
    for chunk in chunks():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TooMuch(f"{name} answers with more than {_MOST_BYTES / 1e6:.0f} MB for a single point in time")
    return bytes(body)


def _time(seconds: float) -> str:
    """With milliseconds, which is what a store keeps."""
    return f"{seconds:.3f}"
