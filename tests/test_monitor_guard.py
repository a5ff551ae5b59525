"""Who may see the monitor, and that a stranger learns nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from monitor_support import PREFIX, ask, scope_of

from pytest_memleak.monitor import setup_memory_monitoring, teardown
from pytest_memleak.monitor.guard import Guard

TOKEN = "a token of these tests"
LOCAL = Guard(PREFIX, None, is_open=False)
WITH_TOKEN = Guard(PREFIX, TOKEN, is_open=False)


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMLEAK_TOKEN", raising=False)


@pytest.fixture
def app() -> Iterator[FastAPI]:
    """An app, without its monitor at the end."""
    found = FastAPI()
    yield found
    teardown(found)


@pytest.mark.parametrize(
    "client, is_admitted",
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.1", 1), True),
        (("::1", 1), True),
        (("::ffff:127.0.0.1", 1), True),
        (("10.0.0.7", 1), False),
        (("::ffff:10.0.0.7", 1), False),
        (("0.0.0.0", 1), False),
        (("", 0), False),
        (("localhost", 1), False),
        (("testclient", 1), False),  # the server's end is an address: this name came from a header
        (None, False),
    ],
)
def test_this_machine_by_the_sockets_peer(client: tuple[str, int] | None, is_admitted: bool) -> None:
    assert LOCAL.status(scope_of(client=client)) == (200 if is_admitted else 403)


def test_the_test_client_has_no_socket() -> None:
    scope = scope_of(client=("testclient", 50_000), server=("testserver", 80), host="testserver")
    assert LOCAL.status(scope) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_for": "127.0.0.1"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x_real_ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"host": "shop.example"},  # a name that was bent to this machine, in somebody's browser
        {"host": "127.0.0.1.shop.example"},
        {"host": "[::1"},
        {"origin": "https://shop.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
    ],
)
def test_a_header_can_only_take_away(headers: dict[str, Any]) -> None:
    assert LOCAL.status(scope_of(**headers)) == 403
    # It makes nobody local either.
    assert LOCAL.status(scope_of(client=("10.0.0.7", 1), **headers)) == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "app.localhost"])
def test_the_names_of_this_machine(host: str) -> None:
    assert LOCAL.status(scope_of(host=host)) == 200


@pytest.mark.parametrize(
    "given, is_admitted",
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Bearer \xff\xfe", False),
        ("", False),
    ],
)
def test_a_token_is_asked_of_everybody(given: str, is_admitted: bool) -> None:
    for client in (("10.0.0.7", 1), ("127.0.0.1", 1)):
        scope = scope_of(client=client, authorization=given)
        assert WITH_TOKEN.status(scope) == (200 if is_admitted else 401)
    assert WITH_TOKEN.status(scope_of()) == 401


@pytest.mark.parametrize(
    "path, root_path, is_ours",
    [
        (PREFIX, "", True),
        (PREFIX + "/", "", True),
        (PREFIX + "/leaks", "", True),
        ("/v1" + PREFIX + "/leaks", "/v1", True),
        (PREFIX + "/leaks", "/v1", True),
        (PREFIX + "s", "", False),
        ("/items", "", False),
        ("", "", False),
    ],
)
def test_what_is_guarded(path: str, root_path: str, is_ours: bool) -> None:
    assert LOCAL.is_ours(scope_of(path, root_path=root_path)) is is_ours


@pytest.mark.parametrize("token, status", [(None, 403), (TOKEN, 401)])
@pytest.mark.parametrize(
    "method, path, body",
    [
        ("GET", "/leaks", b""),
        ("POST", "", b""),
        ("POST", "/", b""),
        ("GET", "/there/is/none", b""),
        ("PUT", "/leaks", b""),
        ("GET", "/history?minutes=x", b""),
        ("POST", "/tracing", b"{"),
        ("POST", "/gc-collect", b""),
        ("OPTIONS", "/gc-collect", b""),
    ],
)
def test_a_stranger_learns_nothing(
    token: str | None, status: int, method: str, path: str, body: bytes, app: FastAPI
) -> None:
    setup_memory_monitoring(app, token=token)
    scope = scope_of(PREFIX + path.partition("?")[0], client=("10.0.0.7", 1), method=method)
    scope["query_string"] = path.partition("?")[2].encode()
    found, headers, answer = ask(app, scope, body)
    assert found == status
    assert json.loads(answer) == {"detail": "Unauthorized" if status == 401 else "Forbidden"}
    assert set(headers) <= {"content-length", "content-type", "www-authenticate"}


def test_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch, app: FastAPI) -> None:
    monkeypatch.setenv("MEMLEAK_TOKEN", TOKEN)
    setup_memory_monitoring(app)
    assert ask(app, scope_of())[0] == 401
    assert ask(app, scope_of(authorization=f"Bearer {TOKEN}"))[0] == 200


async def admit(request: Request) -> None:
    if request.headers.get("x-staff") != "yes":
        raise HTTPException(418)


@pytest.mark.parametrize(
    "token, headers, status",
    [
        (None, {}, 418),
        (None, {"x_staff": "yes"}, 200),
        (TOKEN, {"x_staff": "yes"}, 401),
        (TOKEN, {"x_staff": "yes", "authorization": f"Bearer {TOKEN}"}, 200),
        (TOKEN, {"authorization": f"Bearer {TOKEN}"}, 418),
    ],
)
def test_the_users_own_dependencies_decide(
    token: str | None, headers: dict[str, Any], status: int, app: FastAPI
) -> None:
    setup_memory_monitoring(app, dependencies=[Depends(admit)], token=token)
    assert ask(app, scope_of(client=("10.0.0.7", 1), **headers))[0] == status


def test_a_path_that_is_rewritten_on_the_way_is_guarded_too(app: FastAPI) -> None:
    setup_memory_monitoring(app)
    app.add_middleware(_Rewriting)
    assert ask(app, scope_of("/hidden/process-info", client=("10.0.0.7", 1)))[0] == 403
    assert ask(app, scope_of("/hidden/process-info"))[0] == 200


class _Rewriting:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "path": scope["path"].replace("/hidden", PREFIX)}, receive, send)


def test_hostile_requests_get_in_nowhere_and_make_no_endpoint(app: FastAPI) -> None:

    @app.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    monitor = setup_memory_monitoring(app, token=TOKEN)
    paths = ["/items/1", "/wp-admin", PREFIX + "/leaks", PREFIX + "/../leaks", "//" + PREFIX, "/%2e%2e/api", "\x00"]
    for number in range(1_000):
        word = secrets.token_hex(3)
        path = paths[number % len(paths)] + (word if number % 2 else "")
        scope = scope_of(path, method=secrets.choice(["GET", "POST", word.upper()]), authorization=f"Bearer {word}")
        status = ask(app, scope)[0]
        assert status in (401, 404, 405, 422, 200)
        assert status != 200 or path.startswith("/items/1"), path
    assert set(monitor.requests.finished) <= {"GET /items/{number}", "(no route)"}
