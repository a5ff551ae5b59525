"""Two ASGI apps around the user's: the outer one counts and keeps strangers out, the inner one sees the route.

    server ─► Watching ─► the user's middlewares ─► Noting ─► router

Both pass every message on as it is: no response is rebuilt, streams and WebSockets flow as they would. A middleware
of the user's may hand on a copy of the scope: the ticket in it is the same, and the inner one marks it.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Awaitable, Callable, Generator
from time import monotonic
from typing import Any, Final

from pytest_memleak.agent.traffic import Ticket
from pytest_memleak.monitor.calls import IN_REQUEST, REQUESTS
from pytest_memleak.monitor.guard import Guard
from pytest_memleak.monitor.requests import SampledRequest
from pytest_memleak.monitor.state import Monitor

App = Callable[[Any, Any, Any], Awaitable[None]]

TICKET: Final = "pytest_memleak.monitor.ticket"
"""The key in the scope of a request that was counted in."""


class Watching:
    """Outside of everything."""

    __slots__ = (
        "_counts", "_guard", "_guards", "_prefix", "_requests", "_router", "app", "has_noting", "is_over", "monitor",
    )  # fmt: skip

    def __init__(
        self, app: App, monitor: Monitor, guard: Guard, router: Any, *, counts: bool = True, guards: bool = True
    ) -> None:
        """`counts`: the requests are the program's. `guards`: the monitor's paths are among them."""
        self.app = app
        self.is_over = False
        """Whether it is in nobody's way any more, where it could not be taken out."""

        self.has_noting = False
        """Whether there is a `Noting` to mark a ticket; else the scope says the route, which costs a request less."""

        self._counts = counts
        self._guards = guards
        self._prefix = monitor.settings.prefix
        self.monitor = monitor
        self._requests = monitor.requests
        self._guard = guard
        self._router = router

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and count it when it is over."""
        if self.is_over:
            await self.app(scope, receive, send)
            return
        requests = self._requests
        if not requests.is_running:
            self.monitor.start()
        if (
            scope["type"] != "http"
            or not self._counts
            or TICKET in scope
            # What cannot be ours is told apart at once.
            or (self._guards and self._prefix in scope["path"] and self._guard.is_ours(scope))
        ):
            await self._pass(scope, receive, send)
            return
        # Here and not in a method of its own: each frame around a request costs the smallest app 0.3 %.
        outside = scope.get("route")
        ticket = scope[TICKET] = Ticket(outside) if self.has_noting else None
        if REQUESTS.are_asked_for:
            IN_REQUEST.set(True)
        requests.begun += 1
        requests.in_flight += 1
        now_s = requests.last_s = monotonic()
        sampled = requests.sampled() if now_s >= requests.next_sample_s else None
        try:
            if sampled is None:
                await self.app(scope, receive, send)
            else:
                await _Stepwise(self.app(scope, receive, send), sampled)
        finally:
            requests.in_flight -= 1
            name = requests.over(scope, ticket, self._router, outside)
            if sampled is not None:
                sampled.finish(name)

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        """What is no request of the program's over HTTP."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
        elif kind not in ("http", "websocket") or TICKET in scope:
            await self.app(scope, receive, send)
        elif self._guards and self._guard.is_ours(scope):
            refusal = self._guard.refusal(scope)
            await (self.app if refusal is None else refusal)(scope, receive, send)
        elif kind == "websocket" and self._counts:
            await self._count_connection(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _count_connection(self, scope: Any, receive: Any, send: Any) -> None:
        ticket = scope[TICKET] = Ticket(scope.get("route"))
        try:
            await self.app(scope, receive, send)
        finally:
            ticket.note_from(scope, self._router)
            self._requests.count("WEBSOCKET", ticket)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            self.monitor.stop()


class Noting:
    """Next to the router."""

    def __init__(self, app: App, router: Any) -> None:
        self.app = app
        self._router = router

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and mark on its ticket which route it took."""
        try:
            await self.app(scope, receive, send)
        finally:
            ticket = scope.get(TICKET)
            if ticket is not None:
                ticket.note_from(scope, self._router)


class _Stepwise(collections.abc.Generator[Any, Any, None]):
    """What `await` drives in the place of a request's coroutine: the live heap is read around each step."""

    def __init__(self, inner: Awaitable[None], sampled: SampledRequest) -> None:
        self._inner: Generator[Any, Any, None] = inner.__await__()
        self._sampled = sampled

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def send(self, value: Any) -> Any:
        """Resume with a value."""
        self._sampled.step_begins()
        try:
            return self._inner.send(value)
        finally:
            self._sampled.step_ends()

    def throw(self, *error: Any) -> Any:
        """Resume with an exception."""
        self._sampled.step_begins()
        try:
            return self._inner.throw(*error)
        finally:
            self._sampled.step_ends()

    def close(self) -> None:
        """End it where it is."""
        self._inner.close()
