"""What the tests of the agent share: apps called as a server calls them, and processes that the agent is in."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_memleak import bootstrap
from pytest_memleak.agent import arrival, traffic
from pytest_memleak.agent.traffic import Traffic

App = Callable[[Any, Any, Any], Awaitable[None]]


@contextmanager
def patched_starlette() -> Iterator[Traffic]:
    """The frameworks patched as in a server's process, with traffic of its own; undone at the end."""
    module: ModuleType = importlib.import_module("starlette.applications")
    calls = [(module.Starlette, module.Starlette.__call__), (module.Router, module.Router.__call__)]
    fresh = Traffic()
    fresh.on_start = lambda: None  # no harness listens
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "TRAFFIC", fresh)
        arrival._patch_starlette(module)
        try:
            yield fresh
        finally:
            for kind, call in calls:
                kind.__call__ = call


def http_scope(path: str, method: str = "GET", root_path: str = "") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"host", b"shop")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("shop", 80),
        "client": ("127.0.0.1", 5_000),
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }


async def ask(app: App, path: str, method: str = "GET", root_path: str = "") -> int:
    """The status of one request, made as a server makes it."""
    statuses: list[int] = []
    over = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await over.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif not message.get("more_body"):
            over.set()

    await app(http_scope(path, method, root_path), receive, send)
    return statuses[0]


def agents_environment(**more: str) -> dict[str, str]:
    """As `memleak soak` starts a server, without a harness; only what the tests need of this process's own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MEMLEAK", "COV"))
    }
    # What the agent imports is found, however the package is installed.
    package = Path(traffic.__file__).parents[2]
    environment["PYTHONPATH"] = os.pathsep.join((str(bootstrap.FOLDER), str(package)))
    return {**environment, **more}


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with the agent's folder in front."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=agents_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
