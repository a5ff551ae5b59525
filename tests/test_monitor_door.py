"""The way in for a browser: a stranger's is asked for the token and shown nothing, and what the cookie is good for."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI
from monitor_support import PREFIX, ask, scope_of

from pytest_memleak.monitor import setup_memory_monitoring, teardown
from pytest_memleak.monitor.door import Door
from pytest_memleak.monitor.page import PAGE

TOKEN = "a tokén of these tests"
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
STRANGER = ("192.0.2.7", 5_000)
REFUSED = (401, b'{"detail":"Unauthorized"}')


@pytest.fixture
def app() -> Iterator[FastAPI]:
    found = FastAPI()
    setup_memory_monitoring(found, token=TOKEN)
    yield found
    teardown(found)


def get(app: FastAPI, path: str, **scope: Any) -> tuple[int, dict[str, str], bytes]:
    return ask(app, scope_of(PREFIX + path, **{"client": STRANGER, **scope}))


def send(app: FastAPI, body: bytes, path: str = "/", **scope: Any) -> tuple[int, dict[str, str], bytes]:
    """A form, as a browser sends it."""
    found = scope_of(PREFIX + path, method="POST", **{"client": STRANGER, "accept": HTML, **scope})
    return ask(app, found, body)


def entered(app: FastAPI, **scope: Any) -> str:
    """The cookie that the token buys, as a browser sends it back."""
    status, headers, body = send(app, b"token=a+tok%C3%A9n+of+these+tests", **scope)
    assert (status, headers["location"], body) == (303, "./", b"")
    return headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("path", [*PAGE, "/leaks", "/history", "/page.html", "/nothing", "/page.js/../leaks"])
def test_a_stranger_gets_nothing_of_the_page(app: FastAPI, path: str) -> None:
    assert get(app, path)[::2] == REFUSED
    assert get(app, path, authorization="Bearer wrong")[::2] == REFUSED
    if path not in ("", "/"):
        assert get(app, path, accept=HTML)[::2] == REFUSED


@pytest.mark.parametrize("path, action", [("", "memory/"), ("/", "./")])
def test_a_strangers_browser_is_asked_for_a_token_and_not_told_for_what(app: FastAPI, path: str, action: str) -> None:
    status, headers, body = get(app, path, accept=HTML)
    assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert headers["www-authenticate"] == "Bearer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert f'<form method="post" action="{action}">' in body.decode()
    assert re.findall("memleak|memory(?!/)|monitor|leak|script|style", body.decode()) == []


def test_who_has_the_token_gets_a_cookie_that_no_script_and_no_other_site_can_use(app: FastAPI) -> None:
    status, headers, _ = send(app, b"token=a%20tok%C3%A9n+of+these+tests")
    assert status == 303
    name_and_value, *rest = headers["set-cookie"].split("; ")
    assert rest == ["HttpOnly", "SameSite=Strict"]
    assert "tok" not in name_and_value
    _, headers, _ = send(app, b"token=a%20tok%C3%A9n+of+these+tests", x_forwarded_proto="https")
    assert headers["set-cookie"].endswith("; Secure")
    # All of the page, and every figure that it reads.
    for path in [*PAGE, "/process-info", "/leaks"]:
        assert get(app, path, cookie=name_and_value)[0] == (200 if path else 307), path
    assert get(app, "/process-info", cookie=f"other=1; {name_and_value}; more=2")[0] == 200


def test_what_changes_something_needs_more_than_the_cookie(app: FastAPI) -> None:
    """Another page of the same site may have it sent with a form, and cannot add a header."""
    cookie = entered(app)
    assert get(app, "/gc-collect", cookie=cookie, method="POST")[::2] == REFUSED
    assert get(app, "/gc-collect", cookie=cookie, method="POST", x_memleak="page")[0] == 200
    assert get(app, "/gc-collect", method="POST", x_memleak="page")[::2] == REFUSED
    assert get(app, "/gc-collect", cookie=cookie, method="OPTIONS")[::2] == REFUSED


def test_the_cookie_is_taken_away_from_who_has_one(app: FastAPI) -> None:
    name, _, value = entered(app).partition("=")
    status, headers, _ = send(app, b"token=", cookie=f"{name}={value}")
    assert (status, headers["location"]) == (303, "./")
    assert headers["set-cookie"].split("; ") == [f"{name}=", "HttpOnly", "SameSite=Strict", "Max-Age=0"]
    # Its name says whose it is: to nobody else.
    status, headers, _ = send(app, b"token=")
    assert status == 401
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "body",
    [
        b"", b"token", b"token=wrong", b"token=a+tok%E9n+of+these+tests", b"\xff\xfe", b"token=%ff", b"other=1",
        b"token=wrong&token=a+tok%C3%A9n+of+these+tests", b"token=" + b"x" * 10_000, b"a&" * 1_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_not_the_token_does_not_open(app: FastAPI, body: bytes) -> None:
    status, headers, page = send(app, body)
    assert (status, "set-cookie" in headers) == (401, False)
    assert b"This is not the token." in page
    assert send(app, body, accept="*/*")[::2] == REFUSED
    assert send(app, b"token=a+tok%C3%A9n+of+these+tests", path="")[::2] == REFUSED
    assert send(app, b"token=a+tok%C3%A9n+of+these+tests", path="/leaks")[::2] == REFUSED


def test_a_cookie_that_is_old_forged_or_another_monitors_opens_nothing() -> None:
    now = [1_000_000.0]
    door = Door(b"secret", PREFIX, lambda: now[0])
    ends = str(int(now[0]) + 12 * 3600)
    name, signed = door._name, door._sign(ends)

    def admits(cookie: str) -> bool:
        return door.admits(scope_of(cookie=cookie))

    assert admits(f"{name}={ends}.{signed}")
    assert admits(f"{name}=forged; {name}={ends}.{signed}")
    other = Door(b"Secret", PREFIX, lambda: now[0])
    year = str(int(now[0]) + 365 * 24 * 3600)
    for cookie in (
        f"memleak={ends}.{signed}", f"{name}={year}.{signed}", f"{name}={ends}.{signed[:-1]}", f"{name}={ends}.",
        f"{name}=.", f"{name}=", name, f"{name}={ends}.{other._sign(ends)}", f"{name}={year}.{door._sign(year)}",
        f"{name}=name.{door._sign('nam')}", f"{other._name}={ends}.{other._sign(ends)}", f"{name}=\xff.\xff",
        f"{name}={ends}.{signed}x", f'{name}="{ends}.{signed}"',
    ):  # fmt: skip
        assert not admits(cookie), cookie
    now[0] += 12 * 3600
    assert not admits(f"{name}={ends}.{signed}")


def test_a_form_that_comes_in_pieces_or_never_ends(app: FastAPI) -> None:
    import asyncio

    def told(pieces: list[bytes]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def note(message: MutableMapping[str, Any]) -> None:
            sent.append(dict(message))

        asyncio.run(app(scope_of(PREFIX + "/", method="POST"), receive, note))
        return sent

    pieces = [b"tok", b"en=a+tok%C3%A9n", b"+of+these+tests"]
    assert told(pieces)[0]["status"] == 303
    endless = [b"x" * 1_000] * 100
    assert told(endless)[0]["status"] == 401
    assert len(endless) == 91


@pytest.mark.parametrize("token", ["", " ", "x ", "\tx", "x\n"])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token: "):
        setup_memory_monitoring(FastAPI(), token=token)


def test_a_token_of_the_environment_may_end_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLEAK_TOKEN", "of-a-file\n")
    app = FastAPI()
    setup_memory_monitoring(app)
    assert get(app, "/process-info", authorization="Bearer of-a-file")[0] == 200
    teardown(app)
