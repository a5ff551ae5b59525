"""Who may see the monitor: this machine, who has the token or its cookie, or whom the user's own dependencies admit.

"This machine" is the socket's peer, and no header can make anybody local. It can make somebody a stranger: where a
proxy on this machine forwards the whole world, its headers say so; and a browser that was led here by a foreign
page says whose name it asked for.
"""

from __future__ import annotations

import hmac
import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.responses import JSONResponse

from pytest_memleak.monitor.door import REFUSED, Door

_FORWARDED: Final = (
    b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
    b"cf-connecting-ip", b"true-client-ip", b"x-client-ip", b"x-envoy-external-address",
)  # fmt: skip
"""Headers that a proxy adds: who it asks for is not who asks."""

_LOCAL_NAMES: Final = ("localhost", "testserver")
"""What this machine calls itself; the other names of it are addresses."""


class Guard:
    """Of one app's monitor."""

    def __init__(self, prefix: str, token: str | None, *, is_open: bool) -> None:
        """`is_open`: the user's own dependencies decide, unless there is a token too."""
        self._prefix = prefix
        self._token = None if token is None else token.encode()
        self._door = None if self._token is None else Door(self._token, prefix)
        self._is_open = is_open

    def is_ours(self, scope: Any) -> bool:
        """Whether a request is for the monitor: its prefix, or anything below."""
        return self._below(scope) is not None

    def _below(self, scope: Any) -> str | None:
        """What of the path comes after the prefix; None where it is not ours."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        for whole in (path, path[len(root) :] if root and path.startswith(root) else ""):
            if _is_below(whole, self._prefix):
                return whole[len(self._prefix) :]
        return None

    def refusal(self, scope: Any) -> Callable[[Any, Any, Any], Awaitable[None]] | None:
        """What a stranger gets; None for who may pass. A WebSocket has nothing to find here."""
        is_http = scope["type"] == "http"
        if is_http and self._door and (entering := self._door.opens_to(scope, self._below(scope))):
            return entering
        status = self.status(scope)
        if status == 200:
            return None
        if not is_http:
            return _close
        if self._door and (form := self._door.asks(scope, self._below(scope))):
            return form
        return JSONResponse({"detail": _WORDS[status]}, status_code=status, headers=_HEADERS.get(status))

    def status(self, scope: Any) -> int:
        """200, or 401 where a token would help, or 403."""
        if self._token is not None:
            may = _has_bearer(scope, self._token) or (self._door is not None and self._door.admits(scope))
            return 200 if may else 401
        if self._is_open:
            return 200
        return 200 if _is_local(scope) else 403


_WORDS: Final = {401: "Unauthorized", 403: "Forbidden"}
_HEADERS: Final = {401: REFUSED}


def _has_bearer(scope: Any, token: bytes) -> bool:
    """The first of its kind, in bytes: a token need not be ASCII, nor what a stranger sends be text at all."""
    values = (value for name, value in scope["headers"] if name.lower() == b"authorization")
    scheme, _, given = next(values, b"").partition(b" ")
    # Both are compared, whatever the first says.
    is_same = hmac.compare_digest(given.strip(), token)
    return scheme.lower() == b"bearer" and is_same


async def _close(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.close", "code": 1008})


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def _is_local(scope: Any) -> bool:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if any(name.lower() in _FORWARDED for name, _ in headers):
        return False
    if not _is_local_peer(scope):
        return False
    for name, value in ((name.lower(), value) for name, value in headers):
        if name == b"host" and not _is_local_name(b"//" + value):
            return False
        if name == b"origin" and not _is_local_name(value):
            return False
        if name == b"sec-fetch-site" and value.lower() == b"cross-site":
            return False
    return True


def _is_local_peer(scope: Any) -> bool:
    client = scope.get("client")
    if not client:
        return False  # a socket of the file system: whoever may open it, a proxy for all the world too
    if client[0] == "testclient":
        # Starlette's TestClient, in this process. Where there is a socket, the server's own end is an address.
        server = scope.get("server")
        return bool(server) and not _is_address(server[0])
    return _is_loopback(client[0])


def _is_local_name(url: bytes) -> bool:
    try:
        name = urllib.parse.urlsplit(url.decode("ascii")).hostname or ""
    except ValueError:
        return False
    return name in _LOCAL_NAMES or name.endswith(".localhost") or _is_loopback(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
