"""Apps with the monitor on: called as a server calls them, and served for real."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

from waiting import until

import pytest_memleak

PREFIX = "/api/debug/memory"

SERVED = """
    from fastapi import FastAPI, WebSocket
    from fastapi.responses import StreamingResponse
    from pytest_memleak.monitor import setup_memory_monitoring

    app = FastAPI()
    KEPT = []

    @app.get("/leaky/{number}")
    async def leaky(number: int):
        KEPT.append("x" * 10_000 + str(number))
        return {"kept": len(KEPT)}

    @app.get("/light")
    async def light():
        return {}

    setup_memory_monitoring(app, %s)
"""


def scope_of(
    path: str = PREFIX + "/process-info",
    *,
    client: tuple[str, int] | None = ("127.0.0.1", 5_000),
    server: tuple[str, int] | None = ("127.0.0.1", 80),
    root_path: str = "",
    method: str = "GET",
    **headers: str,
) -> dict[str, Any]:
    """A request as a server tells it; a header's underscores are dashes."""
    named = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "http_version": "1.1",
        "scheme": "http",
        "server": server,
        "client": client,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "state": {},
    }


def ask(app: Any, scope: dict[str, Any], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of one request."""
    return asyncio.run(_ask(app, scope, body))


async def _ask(app: Any, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(message.get("body", b"") for message in rest)


class Served:
    """A server that runs, and how to ask it."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    def get(self, path: str, *, method: str = "GET", port: int = 0, **headers: str) -> Any:
        """The answer as JSON, on a connection of its own."""
        status, body = self.ask(path, method=method, port=port, **headers)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def ask(self, path: str, *, method: str = "GET", port: int = 0, **headers: str) -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Connection": "close", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@contextlib.contextmanager
def served(folder: Path, *command: str, source: str = SERVED, options: str = "") -> Iterator[Served]:
    """A server of `app.py`; `command` has `{port}` where the port goes, and `-m uvicorn app:app` for its default."""
    port = free_port()
    (folder / "app.py").write_text(dedent(source) % options, encoding="utf-8")
    words = command or ("uvicorn", "app:app", "--log-level=warning", "--port={port}")
    root = str(Path(pytest_memleak.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    environment.pop("MEMLEAK_TOKEN", None)
    process = subprocess.Popen(
        [sys.executable, "-m", *(word.format(port=port) for word in words)],
        cwd=folder, env=environment, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: is_open(port) or process.poll() is not None, "the server's start")
        assert process.poll() is None, process.stderr and process.stderr.read()
        yield Served(port, process)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_open(port: int) -> bool:
    """Whether somebody listens at it."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
