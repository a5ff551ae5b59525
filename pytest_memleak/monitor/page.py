"""The page: a look at the monitor for a person, drawn in the browser from the endpoints' own JSON.

Everything it needs is served here, beside it, and every address in it is relative: it works below any root path or
prefix, and under a Content-Security-Policy that lets nothing else in. The files hold nothing of the process, and a
stranger gets none of them: even that they are here would tell him what to ask for.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from pytest_memleak.monitor.state import Monitor

PAGE: Final = ("", "/", "/page.css", "/page.js", "/panels.js", "/curves.js", "/words.js", "/workers.js", "/icon.svg")
"""The page's own paths below the prefix."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    # The files are small, and belong together: never those of two releases.
    "Cache-Control": "no-store",
    # Else any page could learn by a <script> of ours that the monitor is here.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_KINDS: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


_FORGETTABLE: Final = (b'id="forget" type="button" hidden', b'id="forget" type="button"')
"""The button that takes the cookie away: no script can see whether there is one."""


def add_page(router: APIRouter, monitor: Monitor) -> None:
    """Add the page and its files to the endpoints' router; in no OpenAPI document, since they are no API."""
    files = {"/": "page.html", **{path: path[1:] for path in PAGE if path.strip("/")}}
    for path, name in files.items():
        router.add_api_route(path, _file(name, monitor), methods=["GET"], include_in_schema=False)
    router.add_api_route("", _with_slash(monitor.settings.prefix), methods=["GET"], include_in_schema=False)


def _file(name: str, monitor: Monitor) -> Callable[[], Coroutine[Any, Any, Response]]:
    content = (importlib.resources.files(__package__) / "page" / name).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    if name == "page.html" and monitor.settings.token is not None:
        content = content.replace(*_FORGETTABLE)

    async def serve() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return serve


def _with_slash(prefix: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    # Relative: a proxy may have taken off the front of the path, and nobody has told us.
    place = prefix.rpartition("/")[2] + "/"

    async def lead() -> Response:
        return Response(status_code=307, headers={**_HEADERS, "Location": place})

    return lead
