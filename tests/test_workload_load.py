"""The load of a soak: Locust as a process of its own, against a real server, heard through a real channel."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import pytest

from pytest_memleak.workloads.load import load_command, load_environment
from pytest_memleak.workloads.openapi import operations

EXAMPLES = Path(__file__).parent.parent / "examples"

# `importorskip` would import Locust, and with it gevent, into the process that runs pytest.
needs_locust = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("locust", "uvicorn", "fastapi")),
    reason="needs locust, uvicorn and fastapi",
)
needs_aiosqlite = pytest.mark.skipif(importlib.util.find_spec("aiosqlite") is None, reason="the shop needs aiosqlite")

TINY = """
import asyncio
from fastapi import FastAPI, HTTPException, Response

app = FastAPI()

@app.get("/items/{item_id}")
async def item(item_id: int): return item_id

@app.get("/missing")
async def missing(): raise HTTPException(404)

@app.get("/broken")
async def broken(): return Response(status_code=500)

@app.get("/waits/{key}")
async def waits(key: str): await asyncio.sleep(3600)
"""

SIX_TASKS = """
from locust import FastHttpUser, between

def task_for(number):
    def call(user): user.client.get(f"/items/{number}")
    call.__qualname__ = f"task {number}"
    return call

class Customer(FastHttpUser):
    wait_time = between(0.01, 0.03)
    tasks = [task_for(number) for number in range(6)]
"""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def served(directory: Path, app: str, log: Path) -> Iterator[str]:
    """Serve an app; its log goes to a file."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--timeout-graceful-shutdown", "1"]
    with log.open("w") as file, subprocess.Popen(command, cwd=directory, stdout=file, stderr=file) as process:
        try:
            deadline_s = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline_s, log.read_text()
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


class Harness:
    """The other end of the channel; hangs up after so many messages."""

    def __init__(self, hangs_up_after: int = 10**6) -> None:
        self.key = secrets.token_bytes(16)
        self.listener = Listener(family="AF_UNIX", authkey=self.key)
        self.messages: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, args=(hangs_up_after,), daemon=True)
        self._thread.start()

    def _listen(self, hangs_up_after: int) -> None:
        with self.listener, self.listener.accept() as connection:
            while len(self.messages) < hangs_up_after:
                try:
                    self.messages.append(json.loads(connection.recv_bytes()))
                except EOFError:
                    return

    def heard(self) -> list[dict[str, Any]]:
        """Every message, once Locust has ended."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.messages


def run(harness: Harness | None, command: list[str], **environment: Any) -> subprocess.CompletedProcess[str]:
    told = load_environment(
        channel=str(harness.listener.address) if harness else None,
        key=harness.key if harness else b"",
        **environment,
    )
    everything = {**os.environ, **told}
    return subprocess.run(
        command,
        env=everything,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def command_for(host: str, seconds: float, **options: Any) -> list[str]:
    given = {"locustfile": None, "openapi": None, "processes": 1, "master_host": None, "master_port": 0, **options}
    return load_command(host=host, users=12, spawn_rate=100, duration_s=seconds, **given)


def openapi_of(directory: Path, app: str, file: Path) -> Path:
    """The OpenAPI document of an app, which is imported in a process of its own."""
    module, name = app.split(":")
    code = f"""import json, sys
sys.path.insert(0, ".")
from {module} import {name} as app
print(json.dumps(app.openapi()))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, check=True, text=True)
    file.write_text(done.stdout)
    return file


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address and the OpenAPI document of a small server."""
    directory = tmp_path_factory.mktemp("tiny")
    (directory / "tiny.py").write_text(TINY)
    document = openapi_of(directory, "tiny:app", directory / "openapi.json")
    with served(directory, "tiny:app", directory / "server.log") as host:
        yield host, document


def statuses(log: Path, template: str) -> set[str]:
    """The first digits of the answers to an operation, as the server wrote them down."""
    path = re.sub(r"\\\{.*?\\\}", "[^/ ]+", re.escape(template))
    return set(re.findall(rf'"{path}(?:\?\S*)? HTTP/1.1" (\d)', log.read_text()))


@needs_locust
@needs_aiosqlite
def test_a_generated_load_reaches_every_operation_of_the_shop(tmp_path: Path) -> None:
    shop, log = EXAMPLES / "leaky_shop", tmp_path / "server.log"
    document = openapi_of(shop, "shop.main:app", tmp_path / "openapi.json")
    names = {operation.name for operation in operations(json.loads(document.read_text()))}
    assert len(names) == 14
    harness = Harness()
    with served(shop, "shop.main:app", log) as host:
        done = run(
            harness,
            command_for(host, 4, openapi=document),
            openapi=document,
            wait_s=0.03,
            exclude="/notifications/",  # it never answers a customer for whom there is no message
            mix_period_s=0,  # one in five labels is of an order that there is: a low one may be too seldom
        )
    assert done.returncode == 0, done.stderr
    last = harness.heard()[-1]
    assert set(last["names"]) == names - {"GET /notifications/{customer}"}
    assert last["failures"] == 0, last["failing"]
    assert [name for name in last["names"] if "2" not in statuses(log, name)] == []


@needs_locust
@needs_aiosqlite
def test_the_shop_s_locustfile_reaches_every_endpoint(tmp_path: Path) -> None:
    shop, log = EXAMPLES / "fixed_shop", tmp_path / "server.log"
    document = openapi_of(shop, "shop.main:app", tmp_path / "openapi.json")
    names = {operation.name for operation in operations(json.loads(document.read_text()))}
    harness = Harness()
    with served(shop, "shop.main:app", log) as host:
        command = command_for(host, 6, locustfile=EXAMPLES / "shop_tests" / "locustfile.py", extra=["-u", "50"])
        done = run(harness, command, mix_period_s=1)
    assert done.returncode == 0, done.stderr
    last = harness.heard()[-1]
    assert set(last["names"]) == names
    assert last["failures"] == 0, last["failing"]
    assert [name for name in names if statuses(log, name) != {"2"}] == []


@needs_locust
def test_the_mix_varies_and_the_reports_come_once_a_second(tmp_path: Path, tiny: tuple[str, Path]) -> None:
    host, _ = tiny
    (tmp_path / "six.py").write_text(SIX_TASKS)
    harness = Harness()
    done = run(harness, command_for(host, 9, locustfile=tmp_path / "six.py"), mix_period_s=2)
    assert done.returncode == 0, done.stderr
    messages = harness.heard()
    assert 5 <= len(messages) <= 14
    assert [message.get("over", False) for message in messages] == [False] * (len(messages) - 1) + [True]
    shares = defaultdict(list)
    for before, after in itertools.pairwise(messages):
        made = Counter(after["names"])
        made.subtract(before["names"])
        for name, count in made.items():
            if made.total() >= 60:
                shares[name].append(count / made.total())
    # A high task has 6.7 times a low one's share. All six the same in each of four periods: 4 in a million.
    assert any(max(share) > 2 * min(share) for share in shares.values()), shares


@needs_locust
def test_of_several_processes_the_master_reports(tiny: tuple[str, Path]) -> None:
    host, document = tiny
    harness = Harness()
    command = command_for(host, 6, openapi=document, processes=2, master_port=free_port())
    done = run(harness, command, openapi=document, wait_s=0.02, mix_period_s=0)
    assert done.returncode == 0, done.stderr
    messages = harness.heard()
    last = messages[-1]
    assert len({message["process"] for message in messages}) == 1
    assert max(message["users"] for message in messages) == 12
    assert last["over"] is True
    assert {"GET /items/{item_id}", "GET /missing", "GET /broken"} <= set(last["names"])
    assert last["requests"] == sum(last["names"].values())
    # One operation never answers, and the others go on: half of the users at most wait for one of four.
    assert last["requests"] > 100
    (text,) = (text for text in last["failing"] if "500" in text)
    assert text.startswith("GET /broken: ")
    assert last["failing"][text] == last["names"]["GET /broken"]


@needs_locust
def test_a_worker_of_a_foreign_master_reports_what_it_did_itself(tmp_path: Path, tiny: tuple[str, Path]) -> None:
    host, _ = tiny
    (tmp_path / "six.py").write_text(SIX_TASKS)
    port, harness = free_port(), Harness()
    master = [sys.executable, "-m", "locust", "-f", str(tmp_path / "six.py"), "--headless", "--master", "--host", host]
    master += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), "--expect-workers", "1"]
    master += ["-u", "3", "-r", "10", "-t", "5s", "--loglevel", "ERROR"]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(master, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            command = command_for(host, 99, locustfile=tmp_path / "six.py", master_host="127.0.0.1", master_port=port)
            done = run(harness, command, master_host="127.0.0.1")
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr
    messages = harness.heard()
    assert max(message["users"] for message in messages) == 3
    assert messages[-1]["over"] is True
    # Locust sets a worker's own figures back at each report to its master.
    counts = [message["requests"] for message in messages]
    assert counts == sorted(counts)
    assert counts[-1] > 20


@needs_locust
def test_the_load_ends_when_the_harness_has_gone(tiny: tuple[str, Path]) -> None:
    host, document = tiny
    command = command_for(host, 60, openapi=document)
    began_s = time.monotonic()
    done = run(Harness(hangs_up_after=1), command, openapi=document, wait_s=0.1, include="items")
    assert time.monotonic() - began_s < 40
    assert "The harness has gone" in done.stderr


@needs_locust
def test_what_cannot_be_loaded_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def broken(:\n")
    (tmp_path / "api.json").write_text('{"swagger": "2.0"}')
    done = run(None, command_for("http://127.0.0.1:1", 5, locustfile=tmp_path / "bad.py"))
    assert done.returncode != 0
    assert "SyntaxError" in done.stderr
    file = tmp_path / "api.json"
    done = run(None, command_for("http://127.0.0.1:1", 5, openapi=file), openapi=file)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("The document is Swagger 2.0: convert it")
