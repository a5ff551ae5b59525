"""The way in for a browser, which cannot send a token with an address that somebody types.

A stranger's browser is asked for a token, in a form that does not say for what; nothing else of the page is served
to it. Who has the token gets a cookie in its place: no script can read it, no other site's page can have it sent, it
ends with the browser or after half a day, and it is worth nothing elsewhere. It is signed with the token, so that
every worker knows it without a word from the others, and a new token ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from starlette.responses import HTMLResponse, JSONResponse, Response

_LASTS_S: Final = 12 * 3600
"""A working day: who looks on the next one has the token again."""

_MOST_BODY: Final = 8_192
"""A form with a token; longer ones are none."""

SCRIPTS_HEADER: Final = b"x-memleak"
"""What the page's own scripts add. A form of another page of the same site, for which SameSite is no bar, cannot."""

_FORM: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Unauthorized</title>
</head>
<body>
<form method="post" action="{action}">
<p role="alert">{words}</p>
<label>Token <input type="password" name="token" autocomplete="off" required autofocus></label>
<button>Continue</button>
</form>
</body>
</html>
"""

REFUSED: Final = {"WWW-Authenticate": "Bearer"}

_FORM_HEADERS: Final = {
    **REFUSED,
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Door:
    """Of one token and prefix. `clock` is the wall's, in seconds."""

    def __init__(self, token: bytes, prefix: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._place = prefix.rpartition("/")[2] + "/"
        self._clock = clock
        # Several monitors on one machine's ports share its cookies: each has a name of its own.
        self._name = "memleak_" + self._sign("name")[:12]

    def _sign(self, words: str) -> str:
        return hmac.new(self._token, f"memleak cookie {words}".encode(), hashlib.sha256).hexdigest()

    def admits(self, scope: Any) -> bool:
        """Whether the cookie is there, ours and young, and the request one that other pages cannot make with it."""
        if scope.get("method") not in ("GET", "HEAD") and not _values(scope, SCRIPTS_HEADER):
            return False
        return any(self._is_ours(value) for value in self._cookies(scope))

    def _cookies(self, scope: Any) -> list[str]:
        parts = [part for value in _values(scope, b"cookie") for part in value.decode("latin-1").split(";")]
        pairs = [part.strip().partition("=") for part in parts]
        return [value for name, _, value in pairs if name == self._name]

    def _is_ours(self, cookie: str) -> bool:
        ends, _, signature = cookie.partition(".")
        # The signature first, whatever the rest looks like.
        is_signed = hmac.compare_digest(signature.encode("latin-1"), self._sign(ends).encode())
        return is_signed and 0 < int(ends) - self._clock() <= _LASTS_S

    def opens_to(self, scope: Any, below: str | None) -> Callable[..., Any] | None:
        """What answers who sends the form; None for all other requests."""
        return self._enter if below == "/" and scope["method"] == "POST" else None

    def asks(self, scope: Any, below: str | None) -> Response | None:
        """The form, for a stranger's browser that was led to the page; None for whoever else asks."""
        if below in ("", "/") and scope["method"] == "GET" and _wants_page(scope):
            return self._form(below, "")
        return None

    def _form(self, below: str, words: str) -> Response:
        action = "./" if below else self._place
        page = _FORM.format(action=html.escape(action), words=html.escape(words))
        return HTMLResponse(page, status_code=401, headers=_FORM_HEADERS)

    async def _enter(self, scope: Any, receive: Any, send: Any) -> None:
        """A token: in with it, or not. An empty one: the cookie is taken away from who has one."""
        given = _token_in(await _body(receive))
        if given == b"" and self._cookies(scope):
            await _led(self._cookie(scope, "", ends="Max-Age=0"))(scope, receive, send)
        elif given is not None and hmac.compare_digest(given, self._token):
            ends = str(int(self._clock()) + _LASTS_S)
            await _led(self._cookie(scope, f"{ends}.{self._sign(ends)}"))(scope, receive, send)
        elif _wants_page(scope):
            await self._form("/", "This is not the token.")(scope, receive, send)
        else:
            await JSONResponse({"detail": "Unauthorized"}, 401, REFUSED)(scope, receive, send)

    def _cookie(self, scope: Any, value: str, ends: str = "") -> str:
        # Without a path it is that of the page as the browser sees it, whatever a proxy has taken off its front; and
        # without an age it ends with the browser.
        is_https = scope.get("scheme") == "https" or b"https" in _values(scope, b"x-forwarded-proto")
        parts = [f"{self._name}={value}", "HttpOnly", "SameSite=Strict", "Secure" if is_https else "", ends]
        return "; ".join(filter(None, parts))


def _led(cookie: str) -> Response:
    headers = {"Location": "./", "Set-Cookie": cookie, "Cache-Control": "no-store"}
    return Response(status_code=303, headers=headers)


async def _body(receive: Any) -> bytes:
    body = b""
    while len(body) <= _MOST_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body[: _MOST_BODY + 1]


def _token_in(body: bytes) -> bytes | None:
    if len(body) > _MOST_BODY:
        return None
    try:
        fields = urllib.parse.parse_qs(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=16, errors="surrogateescape"
        )
    except ValueError:
        return None
    found = fields.get("token", [])
    return found[0].strip().encode("utf-8", "surrogateescape") if len(found) == 1 else None


def _values(scope: Any, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _wants_page(scope: Any) -> bool:
    return any(b"text/html" in value for value in _values(scope, b"accept"))
