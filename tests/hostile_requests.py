"""What strangers ask of a monitor, at random: paths, methods, headers, forms and what is hardly HTTP."""

from __future__ import annotations

import base64
import dataclasses
import random
from typing import Final

TOKEN: Final = "the-tokén-of-these-tests-0123456789"
PREFIX: Final = "/api/debug/memory"
WORD: Final = "zqx"
"""In whatever a stranger makes up: it must come to light nowhere."""

ENDPOINTS: Final = (
    "/snapshot", "/tracing", "/growth", "/growth/baseline", "/history", "/gc-stats", "/gc-collect", "/leaks",
    "/process-info", "/page.js", "/page.css", "/icon.svg", "/", "",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent, and what is known of how it must be answered."""

    data: bytes
    head: bool = False
    ends: bool = False
    """Whether the connection is not to be used again."""

    refused: bool = False
    """Whether it is plainly for the monitor, and nothing is wrong with it as HTTP."""

    app: bool = False
    """Whether the program itself may answer it well."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server: where it is, what stands before the monitor's path, and how it says no."""

    name: str
    before: str
    status: int


PLACES: Final = (
    Place(name="token", before="", status=401),
    Place(name="peer", before="", status=403),
    Place(name="mounted", before="/shop", status=401),
    Place(name="root path", before="", status=401),
    Place(name="own port", before="", status=401),
)


def hostile(chance: random.Random, place: Place) -> Request:
    """One request of a stranger."""
    kind = chance.randrange(100)
    if kind < 8:
        path = f"/{WORD}{chance.randrange(10**6)}" if kind < 5 else f"/items/{chance.choice(['1', WORD])}"
        return _request(chance, place.before + path, app=True)
    path = place.before + PREFIX + chance.choice(ENDPOINTS)
    if kind < 45:
        return _request(chance, path + chance.choice(["", "", "?force=true", f"?token={WORD}"]), refused=True)
    if kind < 50:
        return _websocket(chance, path)
    if kind < 55:
        return _broken(chance, path)
    return _request(chance, _bent(chance, path))


def _request(chance: random.Random, target: str, *, refused: bool = False, app: bool = False) -> Request:
    method = chance.choice(["GET"] * 6 + ["POST"] * 3 + ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
    is_old = chance.random() < 0.05
    headers = [b"Host: " + chance.choice([b"localhost", b"127.0.0.1", b"[::1]", b"shop.example", b"testserver"])]
    headers += [_header(chance) for _ in range(chance.randrange(4))]
    body = _body(chance) if method == "POST" else b""
    if body:
        kind = b"application/json" if body[:1] == b"{" else b"application/x-www-form-urlencoded"
        headers += [b"Content-Type: " + kind, b"Content-Length: %d" % len(body)]
    line = f"{method} {target} HTTP/1.{0 if is_old else 1}".encode("latin-1", "replace")
    data = b"\r\n".join([line, *headers, b"", body])
    return Request(data=data, head=method == "HEAD", ends=is_old, refused=refused, app=app)


def _header(chance: random.Random) -> bytes:
    token = TOKEN.encode()
    local = chance.choice([b"127.0.0.1", b"::1", b"localhost", b"testclient", b"127.0.0.1, 127.0.0.1", b"unix:", b""])
    number = b"%d" % chance.randrange(10**9)
    near = chance.choice(
        [
            token[:-1], token + b"x", token.upper(), token[1:], TOKEN.encode("latin-1"), b'"%b"' % token, b"",
            b"null", token.replace(b"-", b"_"), b"\xff\xfe" + number, base64.b64encode(token),
            b"%s, %s" % (token, token), b"Bearer " + token,
        ]
    )  # fmt: skip
    if chance.random() < 0.4:  # what is most likely to open
        return chance.choice([b"Authorization: Bearer " + near, b"X-Forwarded-For: " + local])
    return chance.choice(
        [
            b"X-Real-IP: " + local, b"Forwarded: for=%b;host=localhost" % local,
            b"X-Forwarded-Host: localhost", b"X-Forwarded-Proto: https", b"X-Forwarded-Prefix: /" + number,
            b"X-Original-URL: " + PREFIX.encode() + b"/leaks", b"X-Rewrite-URL: " + PREFIX.encode(),
            b"X-HTTP-Method-Override: GET", b"X-Client-IP: " + local, b"True-Client-IP: " + local,
            b"Authorization: bearer\t" + near,
            b"Authorization: Basic " + base64.b64encode(b":" + token), b"Authorization: " + token,
            b"Proxy-Authorization: Bearer " + token, b"X-Token: " + token, b"Token: " + token,
            b"Cookie: token=" + token, b"Cookie: memleak_%b=%b.%b" % (number, number, number * 8),
            b"Origin: null", b"Origin: http://localhost", b"Sec-Fetch-Site: none", b"X-Memleak: page",
            b"Accept: text/html", b"Accept: " + b"a/b," * chance.randrange(3_000), b"Upgrade: h2c",
            b"X-%b%b: %b" % (WORD.encode(), number, number), b"User-Agent: " + WORD.encode() * chance.randrange(5_000),
            b"Referer: http://localhost" + PREFIX.encode() + b"/", b"Expect: 200-ok", b"Via: 1.1 " + local,
        ]
    )  # fmt: skip


def _body(chance: random.Random) -> bytes:
    token = TOKEN.encode()
    return chance.choice(
        [
            b"", b"token=", b"token=" + token[:-1], b"token=" + token + b"x", b"Token=" + token, b"token[]=" + token,
            b"token=x&token=" + token, b"token=" + b"x" * 9_000, b"token=%ff", b"{", b'{"seconds": 600}',
            b'{"token": "%b"}' % token, b"=" + token, b"&" * 2_000, b"\x00" * 100,
        ]
    )  # fmt: skip


def _bent(chance: random.Random, path: str) -> str:
    """Another way to write a path, or a path that somebody might take for it."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(path)) if path else 0
        slash = chance.choice([place for place, letter in enumerate(path) if letter == "/"] or [0])
        letter = path[at : at + 1] or "/"
        path = chance.choice(
            [
                "/" + path, path + "/", path + "//", path[:slash] + "/." + path[slash:], f"/{WORD}/.." + path,
                path[:slash] + f"/{WORD}/.." + path[slash:], path[:slash] + "/%2e" + path[slash:],
                path[:slash] + f"/{WORD}/%2e%2e" + path[slash:], path[:slash] + "%2f" + path[slash + 1 :],
                path[:slash] + "\\" + path[slash + 1 :], path[:slash] + f";{WORD}=1" + path[slash:], path + ";",
                path[:at] + f"%{ord(letter) % 256:02x}" + path[at + 1 :],
                path[:at] + f"%25{ord(letter) % 256:02x}" + path[at + 1 :],
                path.upper(), path.swapcase(), path + "%00", path + "%20", path + "%0d%0aX: y", path + ".json",
                path + "?", path + "#", path[:slash] + "%c0%af" + path[slash + 1 :], "/v1" + path, "/shop" + path,
                f"http://localhost{path}", f"http://{WORD}{path}", "/static/.." + path, path[:at] + "\xe9" + path[at:],
                "*", f"{WORD}:80", path[1:], path + f"/{WORD}{chance.randrange(10**6)}", path[:-1],
            ]
        )  # fmt: skip
    return path or "/"


def _websocket(chance: random.Random, path: str) -> Request:
    key = base64.b64encode(bytes(chance.randrange(256) for _ in range(16)))
    target = chance.choice([path, _bent(chance, path)]).encode("latin-1", "replace")
    headers = [b"Host: localhost", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"]
    lines = [b"GET %b HTTP/1.1" % target, *headers, b"Sec-WebSocket-Key: " + key, _header(chance), b"", b""]
    return Request(data=b"\r\n".join(lines), ends=True)


def _broken(chance: random.Random, path: str) -> Request:
    """What is hardly HTTP: a server must neither trip over it nor take one request for another."""
    inner = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
    line = b"%b %b HTTP/%b\r\n" % (
        chance.choice([b"GET", b"GE T", b"", b"\x16\x03\x01", WORD.encode() * 100]), path.encode(),
        chance.choice([b"1.1", b"0.9", b"2.0", b"1.9", WORD.encode()]),
    )  # fmt: skip
    rest = chance.choice(
        [
            b"Host: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
            b"Host: localhost\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n" + inner,
            b"Host: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n" + inner,
            b"Host: a\r\nHost: localhost\r\n\r\n", b"\r\n", b"Host : localhost\r\n\r\n", b" Host: localhost\r\n\r\n",
            b"Host: localhost\nAuthorization: Bearer " + TOKEN.encode() + b"x\n\n",
            b"Host: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"Host: localhost\r\nX: \x00\r\n\r\n",
            b"Host: localhost\r\n" + b"X: y\r\n" * 3_000 + b"\r\n",
        ]
    )  # fmt: skip
    return Request(data=line + rest, ends=True)
