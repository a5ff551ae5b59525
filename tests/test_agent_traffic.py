"""The requests of a worker: each is counted once, by its route, whatever stands around the app."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from agent_support import App, ask, http_scope, patched_starlette

from pytest_memleak.agent import traffic as traffics
from pytest_memleak.agent.traffic import OTHERS, TICKET, Traffic

pytest.importorskip("fastapi")

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    with patched_starlette() as made:
        yield made


def shop(**options: Any) -> FastAPI:
    """Routes of each kind: own, included under a prefix, included twice, mounted, mounted for each tenant."""
    app = FastAPI(**options)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    @app.post("/items/{item_id}")
    async def change(item_id: int) -> int:
        return item_id

    @app.get("/files/{path:path}")
    async def file(path: str) -> str:
        return path

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    inner = APIRouter()

    @inner.get("/deep/{deep_id}")
    async def deep(deep_id: str) -> str:
        return deep_id

    router = APIRouter(prefix="/router")
    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2/{version}")

    sub = FastAPI()

    @sub.get("/things/{thing_id}")
    async def thing(thing_id: int) -> int:
        return thing_id

    sub.include_router(inner, prefix="/within")
    app.mount("/sub", sub)
    app.mount("/tenants/{tenant}", sub)
    return app


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def plain() -> Starlette:
    return Starlette(routes=[Route("/hello/{name}", hello), Mount("/of/{tenant}", routes=[Route("/in", hello)])])


@pytest.mark.parametrize(
    "path, status, name",
    [
        ("/items/7", 200, "GET /items/{item_id}"),
        ("/items/seven", 422, "GET /items/{item_id}"),
        ("/files/a/b/c.txt", 200, "GET /files/{path:path}"),
        ("/v1/router/inner/deep/3", 200, "GET /v1/router/inner/deep/{deep_id}"),
        ("/v2/9/router/inner/deep/3", 200, "GET /v2/{version}/router/inner/deep/{deep_id}"),
        ("/sub/things/3", 200, "GET /sub/things/{thing_id}"),
        ("/sub/within/deep/3", 200, "GET /sub/within/deep/{deep_id}"),
        ("/tenants/acme/things/3", 200, "GET /tenants/{tenant}/things/{thing_id}"),
        ("/tenants/42/within/deep/3", 200, "GET /tenants/{tenant}/within/deep/{deep_id}"),
        ("/nothing/at/all", 404, "GET (no route)"),
        ("/sub/nothing", 404, "GET (no route)"),
        ("/items/7/", 307, "GET (no route)"),
    ],
)
def test_a_request_is_counted_by_its_routes_template(path: str, status: int, name: str, traffic: Traffic) -> None:
    assert asyncio.run(ask(shop(), path)) == status
    assert traffic.finished == {name: 1}
    assert (traffic.held, traffic.in_flight) == (0, 0)


@pytest.mark.parametrize(
    "path, name",
    [("/hello/you", "GET /hello/{name}"), ("/of/acme/in", "GET /of/{tenant}/in"), ("/no", "GET (no route)")],
)
def test_plain_starlette_is_counted_too(path: str, name: str, traffic: Traffic) -> None:
    asyncio.run(ask(plain(), path))
    assert traffic.finished == {name: 1}


@pytest.mark.parametrize("root", ["/behind", "/behind/proxies"])
def test_where_a_proxy_has_the_app_is_no_part_of_an_endpoint(root: str, traffic: Traffic) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer FastAPI wants it from the server; many apps say it still
        app = shop(root_path=root)
    for path, name in (("/items/7", "GET /items/{item_id}"), ("/sub/things/3", "GET /sub/things/{thing_id}")):
        for asked, root_path in ((shop(), root), (app, "")):
            # Before ASGI said so in 2024, the path of a request did not begin with the root.
            statuses = [asyncio.run(ask(asked, start + path, root_path=root_path)) for start in (root, "")]
            assert 200 in statuses
        traffic.finished.pop("GET (no route)", 0)
        assert traffic.finished.pop(name) in (2, 3, 4)
    assert traffic.finished == {}


def test_a_prefix_of_one_router_twice_is_two_endpoints(traffic: Traffic) -> None:
    app, router = FastAPI(), APIRouter()

    @router.get("/x")
    async def x() -> int:
        return 1

    app.include_router(router, prefix="/a")
    app.include_router(router, prefix="/b")
    for path in ("/a/x", "/b/x", "/b/x"):
        asyncio.run(ask(app, path))
    assert traffic.finished == {"GET /a/x": 1, "GET /b/x": 2}
    assert traffic.handlers == {"GET /a/x": x, "GET /b/x": x}


def test_methods_are_endpoints_of_their_own_and_know_their_functions(traffic: Traffic) -> None:
    app = shop()
    for method in ("GET", "POST", "POST"):
        asyncio.run(ask(app, "/items/1", method))
    assert traffic.finished == {"GET /items/{item_id}": 1, "POST /items/{item_id}": 2}
    assert {name: function.__name__ for name, function in traffic.handlers.items()} == {
        "GET /items/{item_id}": "item",
        "POST /items/{item_id}": "change",
    }


class Copying:
    """A middleware that gives the app a scope of its own."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


async def passing(request: Request, call_next: Any) -> Response:
    answer: Response = await call_next(request)
    return answer


def test_a_middleware_that_copies_the_scope_hides_no_route(traffic: Traffic) -> None:
    app = shop()
    app.add_middleware(Copying)
    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    app.add_middleware(Copying)
    asyncio.run(ask(app, "/items/7"))
    asyncio.run(ask(app, "/tenants/acme/things/3"))
    assert traffic.finished == {"GET /items/{item_id}": 1, "GET /tenants/{tenant}/things/{thing_id}": 1}


def test_a_request_that_fails_is_counted_and_its_error_goes_on(traffic: Traffic) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(ask(shop(), "/broken"))
    assert traffic.finished == {"GET /broken": 1}
    assert traffic.in_flight == 0


def test_a_websocket_is_counted_and_never_waited_for(traffic: Traffic) -> None:
    app, router = FastAPI(), APIRouter()

    @router.websocket("/live/{room}")
    async def live(socket: WebSocket, room: str) -> None:
        await socket.accept()
        await socket.receive_text()
        await socket.close()

    app.include_router(router, prefix="/v1")
    sent: list[str] = []

    async def scene() -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        messages.put_nowait({"type": "websocket.connect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])

        scope = {**http_scope("/v1/live/4"), "type": "websocket", "subprotocols": []}
        del scope["method"]
        task = asyncio.create_task(app(scope, messages.get, send))  # type: ignore[arg-type]
        while "websocket.accept" not in sent:
            await asyncio.sleep(0.001)
        traffic.close()
        assert traffic.wait_until_empty(0)
        assert traffic.in_flight == 0
        messages.put_nowait({"type": "websocket.receive", "text": "bye"})
        await task
        traffic.open()

    asyncio.run(scene())
    assert sent == ["websocket.accept", "websocket.close"]
    assert traffic.finished == {"WEBSOCKET /v1/live/{room}": 1}


def test_an_apps_own_lifespan_is_no_request(traffic: Traffic) -> None:
    sent: list[str] = []

    async def scene() -> None:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> dict[str, str]:
            return next(messages)

        async def send(message: dict[str, str]) -> None:
            sent.append(message["type"])

        traffic.close()
        await shop()({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)  # type: ignore[arg-type]

    asyncio.run(scene())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert traffic.finished == {}
    assert len(traffic.loops) == 1


def test_a_request_that_came_through_the_servers_gate_is_counted_once(traffic: Traffic) -> None:
    app = shop()

    async def gated(scope: Any, receive: Any, send: Any) -> None:
        await traffic.pass_through(app, scope, receive, send)

    assert asyncio.run(ask(gated, "/items/7")) == 200
    assert traffic.finished == {"GET /items/{item_id}": 1}


def test_the_agent_starts_with_the_first_call_and_once() -> None:
    started: list[int] = []
    with patched_starlette() as traffic:
        traffic.on_start = lambda: started.append(len(traffic.loops))

        async def scene() -> None:
            app = shop()
            await asyncio.gather(*(ask(app, "/items/1") for _ in range(10)))

        asyncio.run(scene())
    assert started == [1]


def test_a_program_that_makes_routes_at_run_time_makes_no_endless_endpoints(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffics, "_MOST_ENDPOINTS", 10)
    app = Starlette(routes=[Route(f"/made/{number}", hello) for number in range(30)])

    async def scene() -> None:
        for number in range(30):
            await ask(app, f"/made/{number}")
        await ask(app, "/made/3")

    asyncio.run(scene())
    assert len(traffic.finished) == len(traffic.handlers) == 11
    assert traffic.finished[OTHERS] == 20
    assert traffic.finished["GET /made/3"] == 2


def test_a_scan_of_random_paths_is_one_endpoint(traffic: Traffic) -> None:
    app = shop()

    async def scene() -> None:
        for number in range(50):
            await ask(app, f"/wp-admin/{number}.php")

    asyncio.run(scene())
    assert traffic.finished == {"GET (no route)": 50}


def test_a_request_leaves_nothing_in_the_scopes_of_others(traffic: Traffic) -> None:
    scope = http_scope("/items/1")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    asyncio.run(shop()(scope, receive, send))  # type: ignore[arg-type]
    assert TICKET in scope
    assert TICKET not in http_scope("/items/1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_anew() -> None:
    process = traffics.TRAFFIC
    process.finished["GET /"] = 3
    process.close()
    read, write = os.pipe()
    try:
        child = os.fork()
        if not child:
            fresh = (process.finished, process.loops, process.held, process._closed)
            os.write(write, repr(fresh).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1_000).decode() == "({}, [], 0, False)"
        assert process.finished == {"GET /": 3}
    finally:
        os.close(read)
        os.close(write)
        process.open()
        process.forget()
