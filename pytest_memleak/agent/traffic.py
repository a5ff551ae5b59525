"""The requests of one worker: how many each endpoint has finished, and a gate that holds new ones for a moment.

    server ─► pass_through ─► the user's app
              counts, and waits while the gate is closed

One event loop per worker passes through here; the agent's thread closes and opens the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

TICKET: Final = "pytest_memleak.ticket"
"""The key in the scope of a request that was counted in."""

UNMATCHED: Final = "(no route)"
"""Instead of a path that no route matches: a scan of random paths must not make endpoints."""

# Beyond so many endpoints the rest are counted together: a program that makes routes at run time must not
# make the readings grow.
_MOST_ENDPOINTS: Final = 500
OTHERS: Final = "(other endpoints)"


class Ticket:
    """What one request is known by, wherever a middleware copies its scope to."""

    __slots__ = ("_outside", "path", "route")

    def __init__(self, outside: Any = None) -> None:
        """`outside`: the route by which the request came to this app, where that is mounted in another."""
        self._outside = outside
        self.route: Any = None
        self.path = ""

    def note(self, scope: Any) -> None:
        """Remember the route that was matched, and its template with where its app is mounted."""
        route = scope.get("route")
        if route is None or route is self._outside or self.route is not None:
            return
        self.route = route
        path = _template(route, scope)
        root: str = scope.get("root_path", "")
        root = root.removeprefix(scope.get("app_root_path", root))
        if root:
            # What a mount's own parameters were: each tenant must not make endpoints of its own.
            given = {
                str(value): name for name, value in scope.get("path_params", {}).items() if f"{{{name}" not in path
            }
            root = "/".join(f"{{{given[part]}}}" if part in given else part for part in root.split("/"))
        self.path = root + path

    def note_from(self, scope: Any, router: Any) -> None:
        """The same, where a router has dealt with the request."""
        endpoint = scope.get("endpoint")
        if endpoint is not None and "route" not in scope:
            # Older versions of Starlette say the function alone.
            found = [route for route in router.routes if getattr(route, "endpoint", None) is endpoint]
            if len(found) > 1:
                found = [route for route in found if route.matches(scope)[0].value]
            self.note({**scope, "route": found[0] if found else None})
        self.note(scope)


def _template(route: Any, scope: Any) -> str:
    """A route's own template, below where its app is mounted."""
    if hasattr(route, "routes"):
        return ""  # a mounted app without routes that we know: its path is in the root already
    # FastAPI 0.140 and later leave the prefix of an included router out of the route.
    included = scope.get("fastapi")
    whole = included.get("effective_route_context") if isinstance(included, dict) else None
    if getattr(whole, "original_route", None) is route:
        return str(getattr(whole, "path", ""))
    return str(getattr(route, "path", ""))


class Traffic:
    """All requests of this process."""

    def __init__(self) -> None:
        self.finished: dict[str, int] = {}
        self.handlers: dict[str, Any] = {}
        """The function behind each endpoint."""

        self.in_flight = 0
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.on_start: Callable[[], None] | None = None
        """Instead of the agent, where nobody listens (in tests)."""

        self.connection: Any = None
        """The agent's, to the harness."""

        self._closed = False
        self._admitted: int | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._empty = threading.Event()
        self._turn = threading.Lock()
        """Held where a request and the one who opens the gate must not pass each other unseen."""

    @property
    def held(self) -> int:
        """How many requests wait at the gate."""
        return len(self._waiting)

    async def pass_through(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
        """Call the app; count a request when it is over."""
        kind = scope["type"]
        ticket = scope.get(TICKET)
        if ticket is not None or kind not in ("http", "websocket"):
            self._start()
            await app(scope, receive, send)
            return
        if not self.loops:
            self._start()
        ticket = scope[TICKET] = Ticket()
        if kind == "websocket":
            # It stays for minutes: it is counted, but nobody can wait for it.
            try:
                await app(scope, receive, send)
            finally:
                self._count("WEBSOCKET", scope, ticket)
            return
        await self._enter()
        try:
            await app(scope, receive, send)
        finally:
            self._count(scope["method"], scope, ticket)
            self._leave()

    def note(self, scope: Any, router: Any = None) -> None:
        """A router has dealt with a request: its route is known now."""
        ticket = scope.get(TICKET)
        if ticket is not None:
            ticket.note_from(scope, router)

    def close(self) -> None:
        """Hold every request that comes from now on."""
        self._empty.clear()
        self._closed = True
        if not self.in_flight:
            self._empty.set()

    def open(self, admitted: int | None = None) -> None:
        """Let the held requests pass; with a number, let so many pass and close again."""
        self._empty.clear()
        with self._turn:
            self._admitted = admitted
            self._closed = False
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_release, future)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until no request is inside; False when one still is. The gate is closed."""
        return self._empty.wait(timeout_s)

    @property
    def is_closed(self) -> bool:
        """Whether new requests wait."""
        return self._closed

    def forget(self) -> None:
        """A forked child starts anew, and hangs up: its parent's end must be heard."""
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.close()
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        if not self.loops:
            self.loops.append(asyncio.get_running_loop())
            try:
                if self.on_start is not None:
                    self.on_start()
                else:
                    from pytest_memleak.agent.agent import start

                    start(self)
            except Exception as error:  # noqa: BLE001  (the first request must not fail for its guest's sake)
                sys.stderr.write(f"memleak: the agent did not start ({error!r}); this worker is not measured\n")

    async def _enter(self) -> None:
        # Counted before the look at the gate: who closes it looks in the other order, so that no request slips
        # in between unseen.
        self.in_flight += 1
        while self._closed or (self._admitted is not None and not self._admit()):
            self._leave()
            await self._wait()
            self.in_flight += 1

    def _admit(self) -> bool:
        with self._turn:
            if self._closed:
                return False
            if self._admitted is not None:
                self._admitted -= 1
                if self._admitted <= 0:
                    self._admitted = None
                    self._closed = True
            return True

    def _leave(self) -> None:
        self.in_flight -= 1
        if self._closed and not self.in_flight:
            self._empty.set()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        pair = (loop, future)
        with self._turn:
            # The gate may have opened since the look at it.
            if not self._closed:
                return
            self._waiting.append(pair)
        try:
            await future
        finally:
            # Once the gate has opened, the pair is in nobody's list any more.
            with self._turn, contextlib.suppress(ValueError):
                self._waiting.remove(pair)

    def _count(self, method: str, scope: Any, ticket: Ticket) -> None:
        ticket.note(scope)
        name = f"{method} {UNMATCHED if ticket.route is None else ticket.path}"
        count = self.finished.get(name)
        if count is None:
            if len(self.finished) >= _MOST_ENDPOINTS:
                name = OTHERS
            self.handlers[name] = getattr(ticket.route, "endpoint", None)
            count = self.finished.get(name, 0)
        self.finished[name] = count + 1


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


TRAFFIC: Final = Traffic()
"""This process's."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TRAFFIC.forget)
