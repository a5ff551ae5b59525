"""One route for all of the monitor's: the app's own routes cost a request no more than they did."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match, NoMatchFound

from pytest_memleak.monitor.guard import Guard

NOT_OURS: Final[tuple[Match, Any]] = (Match.NONE, {})


class Gate(BaseRoute):
    """Stands before the app's routes, so that none of them takes our paths, and leads to a router of their own.

    To try each of our routes for each request of the app's would cost it 1 µs apiece.
    """

    def __init__(self, router: APIRouter, guard: Guard) -> None:
        self._router = router
        self._guard = guard

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Whether a request is for the monitor."""
        # What cannot be is told apart at once: the app's requests all come by here.
        if self._router.prefix in scope["path"] and scope["type"] == "http" and self._guard.is_ours(scope):
            return Match.FULL, {}
        return NOT_OURS

    def url_path_for(self, name: str, /, **_path_params: Any) -> Any:
        """None of our routes is called by its name."""
        raise NoMatchFound(name, {})

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, or say that there is nothing; to a stranger not even that, where a path was rewritten on the way."""
        await (self._guard.refusal(scope) or self._router)(scope, receive, send)
