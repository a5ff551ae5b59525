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


class EndpointError(ValueError):
    """An endpoint is misspelt or incomplete; the message is one sentence for the user."""


class StatusCounts:
    """How many responses had which status: preallocated, so that counting leaves no trace."""

    __slots__ = ("_counts", "_reached")

    def __init__(self) -> None:
        self._counts = array.array("q", bytes(8 * 1000))
        self._reached = array.array("q", [0])

    def add(self, status: int, *, reached: bool) -> None:
        """Count one response; `reached` when an endpoint's own code gave it."""
        self._counts[min(max(status, 0), 999)] += 1
        self._reached[0] += reached

    def seen(self) -> dict[int, int]:
        """Responses by status."""
        return {status: count for status, count in enumerate(self._counts) if count}

    def never_reached(self) -> dict[int, int]:
        """The responses, if there were any and none came from an endpoint's own code; else empty."""
        return {} if self._reached[0] else self.seen()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`"METHOD /path"` with what fills it: a `{name}` takes `arguments[name]`, else the call's number."""

    method: str
    path: str
    arguments: Mapping[str, object]
    body: Callable[[int], bytes]
    headers: tuple[tuple[bytes, bytes], ...]

    def _filled(self, template: str, number: int, quoted: Callable[[str], str]) -> str:
        return _PLACEHOLDER.sub(lambda match: quoted(str(self.arguments.get(match[1], number))), template)

    def scope(self, number: int) -> dict[str, Any]:
        """The ASGI scope of one request."""
        template, _, query_template = self.path.partition("?")
        path = self._filled(template, number, urllib.parse.quote)
        query = self._filled(query_template, number, urllib.parse.quote_plus)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": urllib.parse.unquote(path),
            "raw_path": urllib.parse.quote(path, safe="/%:@!$&'()*+,;=~-._").encode(),
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
    given = _checked_headers(headers or {})
    given.setdefault("host", "testserver")
    if json_body is not None:
        given.setdefault("content-type", "application/json")

    def body(number: int) -> bytes:
        if json_body is not None:
            value = json_body(number) if callable(json_body) else json_body
            try:
                return json.dumps(value).encode()
            except (TypeError, ValueError) as error:
                raise EndpointError(f"json: expects what JSON can say, got {value!r} ({error})") from None
        made = content(number) if callable(content) else content
        if not isinstance(made, (str, bytes, bytearray, memoryview, type(None))):
            raise EndpointError(f"content: expects text or bytes, got {made!r}")
        return made.encode() if isinstance(made, str) else bytes(made or b"")

    if not callable(json_body) and not callable(content):
        body(0)

    return Endpoint(
        method=match["method"],
        path=match["path"],
        arguments=arguments,
        body=body,
        headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()),
    )


def _checked_headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise EndpointError(f"headers: expects a mapping of text to text, got {headers!r}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise EndpointError(f"headers: expects text, got {name!r}: {value!r}")
        try:
            f"{name}{value}".encode("latin-1")
        except UnicodeEncodeError:
            raise EndpointError(f"headers: HTTP carries Latin-1 only, got {name!r}: {value!r}") from None
    return {name.lower(): value for name, value in headers.items()}


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
    answered = asyncio.Event()
    watched = Watched(app, counts)

    async def receive() -> dict[str, Any]:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": body, "more_body": False}
        # As a server does: the connection is over once the answer is.
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    async def serve() -> None:
        try:
            await watched(scope, receive, send)
        finally:
            answered.set()

    await asyncio.get_running_loop().create_task(serve())


class Watched:
    """An app whose answers are counted: by status, and by whether an endpoint's own code gave them."""

    __slots__ = ("app", "counts")

    def __init__(self, app: App, counts: StatusCounts) -> None:
        self.app = app
        self.counts = counts

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass everything through; count an HTTP answer when it is over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        begin = b""

        async def sending(message: Any) -> None:
            nonlocal status, begin
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status == _INVALID and not begin and message["type"] == "http.response.body":
                begin = bytes(message.get("body", b"")[: len(_VALIDATION)])
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self.counts.add(status, reached=_reached(scope, status, begin))


_NOT_OK: Final = 300
_INVALID: Final = 422
_VALIDATION: Final = b'{"detail":['


def _reached(scope: Scope, status: int, begin: bytes) -> bool:
    """Whether the endpoint's code answered: not for an unmatched path, a wrong method, an invalid request.

    Starlette notes the matched endpoint in the scope; FastAPI's answer to an invalid request is a list of
    details. An endpoint that answers 404 or 422 itself was reached.
    """
    if "app" in scope and "endpoint" not in scope and status >= _NOT_OK:
        # Starlette notes itself and what it matched: a redirect to the other slash, a middleware's refusal.
        return False
    if status == _INVALID:
        return begin != _VALIDATION
    if status == 404:
        return "endpoint" in scope
    return status != 405


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
        await asyncio.wait([task])
        task.exception()  # told by the message
        # Starlette sends the whole traceback; its last line says what happened.
        lines = answer.get("message", "").strip().splitlines() or ["no message"]
        raise EndpointError(f"the app's start-up failed: {lines[-1]}")
    try:
        yield state
    finally:
        if answer["type"] == "lifespan.startup.complete":
            await incoming.put({"type": "lifespan.shutdown"})
        await asyncio.wait([task])
        # An app without a lifespan fails on the unknown scope; a failing shutdown is the user's to see.
        failed = None if task.cancelled() else task.exception()
        if failed is not None and answer["type"] == "lifespan.startup.complete":
            raise failed
