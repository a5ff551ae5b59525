"""The one line: wherever it stands, under every server, and gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from monitor_support import PREFIX, Served, ask, free_port, is_open, scope_of, served
from waiting import until

from pytest_memleak.monitor import Monitor, calls, setup_memory_monitoring, teardown
from pytest_memleak.monitor.settings import Settings

NAMES = {"memleak-monitor", "memleak-port", "memleak-tracing"}


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMLEAK_TOKEN", raising=False)


@pytest.fixture
def watch() -> Iterator[Callable[..., Monitor]]:
    """Sets a monitor up, and takes it down at the end of the test."""
    apps: list[FastAPI] = []

    def setup(app: FastAPI, **options: Any) -> Monitor:
        apps.append(app)
        return setup_memory_monitoring(app, **{"interval_s": 0.05, **options})

    yield setup
    for app in apps:
        teardown(app)
    assert not NAMES & {thread.name for thread in threading.enumerate()}


async def item(number: int) -> dict[str, int]:
    return {"number": number}


def plain(setup: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI()
    app.get("/items/{number}")(item)
    setup(app)
    return app


def before_its_routes(setup: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI()
    setup(app)
    app.get("/items/{number}")(item)
    return app


def in_its_lifespan(setup: Callable[[FastAPI], object]) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        setup(app)
        yield

    app = FastAPI(lifespan=lifespan)
    app.get("/items/{number}")(item)
    return app


def with_a_router(setup: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI()
    setup(app)
    router = APIRouter(prefix="/items")
    router.get("/{number}")(item)
    app.include_router(router)
    return app


def with_a_route_for_every_path(setup: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI()
    app.get("/items/{number}")(item)

    @app.get("/{path:path}")
    async def everything(path: str) -> str:
        return path

    setup(app)
    return app


def with_middlewares_around(setup: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI()
    setup(app)
    app.get("/items/{number}")(item)
    app.add_middleware(Copying)
    return app


class Copying:
    """A middleware that hands on a scope of its own, as many do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


SHAPES = [
    plain,
    before_its_routes,
    in_its_lifespan,
    with_a_router,
    with_a_route_for_every_path,
    with_middlewares_around,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_wherever_the_line_stands(shape: Callable[..., FastAPI], watch: Callable[..., Monitor]) -> None:
    monitors: list[Monitor] = []
    app = shape(lambda app: monitors.append(watch(app)))
    with TestClient(app) as client:
        assert [client.get(f"/items/{number}").status_code for number in range(3)] == [200] * 3
        answer = client.get(PREFIX + "/process-info")
        assert answer.status_code == 200
        assert answer.json()["requests"] == 3
        assert answer.json()["stage"] == "serving"
        until(lambda: len(monitors[0].ring), "a reading")
    assert monitors[0].requests.finished == {"GET /items/{number}": 3}
    # The app's life is over; a lifespan that had begun before passes by the monitor.
    assert monitors[0].is_running is (shape is in_its_lifespan)


def test_a_part_of_a_larger_app(watch: Callable[..., Monitor]) -> None:
    inner, outer = FastAPI(), FastAPI()
    inner.get("/items/{number}")(item)
    outer.mount("/inner", inner)
    whole, part = watch(outer), watch(inner)
    client = TestClient(outer)
    assert client.get("/inner/items/1").status_code == 200
    assert client.get("/inner" + PREFIX + "/process-info").json()["requests"] == 0
    assert client.get(PREFIX + "/process-info").status_code == 200
    assert "GET /inner/items/{number}" in whole.requests.finished
    assert part.is_running
    assert ask(outer, scope_of("/inner" + PREFIX + "/leaks", client=("10.0.0.7", 1)))[0] == 403


def test_twice_is_once(watch: Callable[..., Monitor]) -> None:
    app = plain(watch)
    routes = list(app.routes)
    assert setup_memory_monitoring(app) is app.state.memleak_monitor
    assert app.routes == routes
    client = TestClient(app)
    client.get("/items/1")
    assert app.state.memleak_monitor.requests.finished == {"GET /items/{number}": 1}


@pytest.mark.parametrize("is_served", [False, True])
def test_teardown_leaves_nothing(is_served: bool) -> None:
    app = FastAPI()
    app.get("/items/{number}")(item)
    before = trace_of(app)
    setup_memory_monitoring(app, interval_s=0.05)
    assert trace_of(app) != before
    if is_served:
        with TestClient(app) as client:
            assert client.get("/items/1").status_code == 200
            assert client.get(PREFIX + "/leaks").status_code == 200
            client.post(PREFIX + "/tracing", json={"seconds": 60})
            teardown(app)
            assert client.get("/items/1").status_code == 200
            assert client.get(PREFIX + "/leaks").status_code == 404
    else:
        teardown(app)
    assert trace_of(app) == before
    teardown(app)
    assert trace_of(app) == before


def trace_of(app: FastAPI) -> Any:
    return (
        list(app.router.routes),
        list(app.user_middleware),
        "build_middleware_stack" in app.__dict__,
        vars(app.state).get("_state"),
        list(gc.callbacks),
        {thread.name for thread in threading.enumerate()} & NAMES,
        app.openapi(),
        tracemalloc.is_tracing(),
    )


def test_the_document_has_them_under_one_tag(watch: Callable[..., Monitor]) -> None:
    app = plain(watch)
    paths = app.openapi()["paths"]
    ours = {path for path in paths if path.startswith(PREFIX)}
    assert {path.removeprefix(PREFIX) for path in ours} == {
        "/snapshot", "/tracing", "/growth", "/growth/baseline", "/history", "/gc-stats", "/gc-collect", "/leaks",
        "/process-info",
    }  # fmt: skip
    assert {tag for path in ours for operation in paths[path].values() for tag in operation["tags"]} == {"memory"}
    hidden = FastAPI()
    watch(hidden, include_in_schema=False)
    assert hidden.openapi()["paths"] == {}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"prefix": "debug"}, "prefix"),
        ({"prefix": "/debug/"}, "prefix"),
        ({"interval_s": 0}, "interval_s"),
        ({"interval_s": float("nan")}, "interval_s"),
        ({"history_minutes": 0}, "history_minutes"),
        ({"history_minutes": 1e9}, "history_minutes"),
        ({"token": ""}, "token"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    app = FastAPI()
    before = list(app.router.routes)
    with pytest.raises(ValueError, match=words):
        setup_memory_monitoring(app, **options)
    assert app.router.routes == before


def test_messages_pass_as_they_are(watch: Callable[..., Monitor]) -> None:
    """Each is the very object that the app sent, at once."""
    app = FastAPI()
    seen: list[Any] = []
    sent = [
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        *({"type": "http.response.body", "body": b"x", "more_body": True} for _ in range(3)),
        {"type": "http.response.trailers", "headers": []},
    ]

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
            assert seen[-1] is message

    app.router.mount("/raw", raw)
    watch(app)

    async def receive() -> Any:
        raise AssertionError("nobody asked for the body")

    async def send(message: Any) -> None:
        seen.append(message)

    asyncio.run(app(scope_of("/raw/x"), receive, send))
    assert len(seen) == len(sent)


def test_streams_and_web_sockets(watch: Callable[..., Monitor]) -> None:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for number in range(3):
                await asyncio.sleep(0)
                yield str(number)

        return StreamingResponse(parts())

    @app.websocket("/talk/{name}")
    async def talk(socket: WebSocket, name: str) -> None:
        await socket.accept()
        await socket.send_text(name + await socket.receive_text())
        await socket.close()

    monitor = watch(app)
    client = TestClient(app)
    assert client.get("/stream").text == "012"
    with client.websocket_connect("/talk/a") as socket:
        socket.send_text("b")
        assert socket.receive_text() == "ab"
    until(lambda: len(monitor.requests.finished) == 2, "the end of both")
    assert monitor.requests.finished == {"GET /stream": 1, "WEBSOCKET /talk/{name}": 1}


SERVERS = {
    "uvicorn with workers": ("uvicorn", "app:app", "--log-level=warning", "--port={port}", "--workers=2"),
    "gunicorn": ("gunicorn", "app:app", "--bind=127.0.0.1:{port}", "--workers=2", "-k", "{worker}"),
    "gunicorn, loaded before the fork": (
        "gunicorn", "app:app", "--bind=127.0.0.1:{port}", "--workers=2", "-k", "{worker}", "--preload",
    ),
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_each_worker_reads_itself(server: str, tmp_path: Path) -> None:
    command = [word.replace("{worker}", worker_class()) for word in SERVERS[server]]
    seen: dict[int, int] = {}

    def look(server: Served) -> bool:
        history = server.get(PREFIX + "/history")
        seen[history["pid"]] = len(history["readings"])
        return len(seen) == 2 and min(seen.values()) >= 2

    with served(tmp_path, *command, options="interval_s=0.05") as running:
        until(lambda: look(running), "two workers with readings of their own")
        info = running.get(PREFIX + "/process-info")
        assert info["pid"] in seen
        assert running.process.pid not in seen


def worker_class() -> str:
    is_apart = importlib.util.find_spec("uvicorn_worker") is not None
    return "uvicorn_worker.UvicornWorker" if is_apart else "uvicorn.workers.UvicornWorker"


def test_a_port_of_its_own(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, options=f"interval_s=0.05, port={port}, host='127.0.0.1'") as running:
        running.get("/light")
        until(lambda: is_open(port), "the port")
        until(lambda: running.get(PREFIX + "/process-info", port=port)["requests"] == 1, "the request's end")
        assert running.ask(PREFIX + "/process-info")[0] == 404
        assert running.ask(PREFIX + "/process-info", port=port, **{"X-Forwarded-For": "127.0.0.1"})[0] == 403
        assert running.ask("/light", port=port)[0] == 404
        assert running.ask("/metrics", port=port)[0] == 200
    until(lambda: not is_open(port), "the port given back")


def test_a_port_of_its_own_without_uvicorn(
    watch: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else object())
    port = free_port()
    monitor = watch(FastAPI(), port=port, host="127.0.0.1", metrics=False)
    for _ in range(3):
        monitor.read()
    told = capsys.readouterr().err
    assert told.count("uvicorn") == 1
    assert f"nothing listens on port {port}" in told
    assert not is_open(port)


def test_a_tracked_call_knows_of_requests(watch: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls.REQUESTS, "are_asked_for", True)
    app = FastAPI()
    seen: list[tuple[int, int]] = []

    @app.get("/meet")
    async def meet(last: bool = False) -> None:
        if not last:
            await call(app, "/meet", b"last=true")
        seen.append(calls.REQUESTS.now())

    monitor = watch(app)
    assert calls.REQUESTS.seen is None
    client = TestClient(app)
    client.get("/meet?last=true")
    client.get("/meet")
    # Alone; the inner of two sees the outer one; the outer one is alone again, and sees that one more has begun.
    assert seen == [(1, 0), (3, 1), (3, 0)]
    monitor.stop()
    assert calls.REQUESTS.seen is None
    # What another monitor of this process has put there stays.
    other = Monitor(Settings())
    monitor.start()
    other.start()
    monitor.stop()
    assert calls.REQUESTS.seen == other._requests_seen
    other.stop()


async def call(app: FastAPI, path: str, query: bytes) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None: ...

    await app({**scope_of(path), "query_string": query}, receive, send)


FORKED = """
    import os, sys, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # that a thread runs where it forks is what is tried
    from fastapi import FastAPI
    from monitor_support import ask, scope_of
    from waiting import until
    from pytest_memleak.monitor import setup_memory_monitoring

    app = FastAPI()
    monitor = setup_memory_monitoring(app, interval_s=0.05)
    ask(app, scope_of("/none"))
    until(lambda: len(monitor.ring) > 2, "readings")
    child = os.fork()
    if not child:
        code = 1
        try:
            assert not monitor.is_running and not len(monitor.ring) and not monitor.requests.finished
            assert monitor.pid == os.getpid()
            ask(app, scope_of("/none"))
            until(lambda: len(monitor.ring) > 2, "the child's readings")
            assert monitor.requests.finished == {"(no route)": 1}
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert monitor.is_running
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_begins_anew() -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{dedent(FORKED)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
