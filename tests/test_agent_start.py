"""The way into a server's processes: nobody is disturbed who serves nothing, and a server goes on whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from agent_support import agents_environment, python

from pytest_memleak import bootstrap, wire
from pytest_memleak.agent.agent import LONGEST_PAUSE_S
from pytest_memleak.soak.channel import Channel, Message
from pytest_memleak.soak.server import free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

NOBODY = {wire.AGENT_CHANNEL: "/nowhere/channel", wire.AGENT_KEY: "00" * 32}
PATIENCE_S = 30.0

APP = """
import asyncio

from fastapi import FastAPI

app = FastAPI()
KEPT = []


@app.get("/keep/{size}")
async def keep(size: int) -> int:
    KEPT.append(bytearray(size))
    return size


@app.get("/sleep/{seconds}")
async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
"""


# --- what else starts with the agent's folder in front ---


def users_own(folder: Path, code: str) -> str:
    """A folder with the user's sitecustomize, behind ours."""
    own = folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text(dedent(code))
    return os.pathsep.join((agents_environment()["PYTHONPATH"], str(own)))


@pytest.mark.parametrize("environment", [{}, NOBODY], ids=["alone", "soaked"])
def test_the_users_own_sitecustomize_still_runs(environment: dict[str, str], tmp_path: Path) -> None:
    path = users_own(tmp_path, "import sys; print('own', __name__); sys.own = True")
    code = "import sys, sitecustomize; print(sys.own, 'own' in sitecustomize.__file__, sys.path.count(sys.path[1]))"
    ran = python("-c", code, cwd=tmp_path, **{"PYTHONPATH": path, **environment})
    assert (ran.stdout, ran.stderr, ran.returncode) == ("own sitecustomize\nTrue True 1\n", "", 0)


@pytest.mark.parametrize("code", ["import nowhere", "1 / 0"])
def test_an_error_of_the_users_own_sitecustomize_is_told_as_without_us(code: str, tmp_path: Path) -> None:
    path = users_own(tmp_path, code)
    ours = python("-c", "print(1)", cwd=tmp_path, PYTHONPATH=path, **NOBODY)
    alone = python("-c", "print(1)", cwd=tmp_path, PYTHONPATH=str(tmp_path / "own"))
    assert (ours.stdout, ours.returncode) == (alone.stdout, alone.returncode) == ("1\n", 0)
    assert ours.stderr == alone.stderr
    assert ours.stderr.startswith("Error in sitecustomize")


def test_without_a_sitecustomize_of_the_user_there_is_no_word_of_ours(tmp_path: Path) -> None:
    code = "import sys, sitecustomize; print(sorted(n for n in sys.modules if n.startswith('pytest_memleak')))"
    ran = python("-c", code, cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_process_that_serves_nothing_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; print(sorted({'psutil', 'asyncio', 'numpy', 'threading', 'json'} & set(sys.modules)))"
    ran = python("-c", code, cwd=tmp_path, **NOBODY)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_python_without_the_package_says_so_in_one_line_and_goes_on(tmp_path: Path) -> None:
    code = "print('serves')"
    environment = {**agents_environment(**NOBODY), "PYTHONPATH": str(bootstrap.FOLDER)}
    ran = subprocess.run(
        [sys.executable, "-s", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.returncode) == ("serves\n", 0)
    # Where the package is installed into the interpreter itself, it is found.
    said = ran.stderr.splitlines()
    assert not said or (len(said) == 1 and said[0].endswith("has no pytest-memleak; install it there"))


def test_the_frameworks_keep_their_loader_and_their_source(tmp_path: Path) -> None:
    code = """
        import importlib, importlib.util, inspect, sys
        import starlette.applications as module, uvicorn.config
        for found in (module, uvicorn.config):
            assert type(found.__spec__.loader).__name__ == "SourceFileLoader", found.__spec__.loader
            assert found.__loader__ is found.__spec__.loader
            assert found.__spec__.loader.get_source(found.__name__)
        assert "class Starlette" in inspect.getsource(module)
        assert "class Starlette" in inspect.getsource(module.Starlette)
        assert module.Starlette.__call__.__module__ == "pytest_memleak.agent.arrival"
        first = module.Starlette
        again = importlib.reload(module)
        assert again is module and module.Starlette is not first
        assert module.Starlette.__call__.__module__ == "pytest_memleak.agent.arrival", "reloaded without the gate"
        assert type(module.__spec__.loader).__name__ == "SourceFileLoader"
        print("kept")
    """
    ran = python("-c", dedent(code), cwd=tmp_path, **NOBODY)
    assert (ran.stdout, ran.stderr) == ("kept\n", "")


def test_to_look_for_a_framework_does_not_use_up_the_patch(tmp_path: Path) -> None:
    code = """
        import importlib.util
        for _ in range(3):
            assert importlib.util.find_spec("starlette.applications") is not None
            assert importlib.util.find_spec("uvicorn.config") is not None
        import starlette.applications, uvicorn.config
        print(starlette.applications.Starlette.__call__.__module__, uvicorn.config.Config.load.__module__)
    """
    ran = python("-c", dedent(code), cwd=tmp_path, **NOBODY)
    assert (ran.stdout, ran.stderr) == ("pytest_memleak.agent.arrival pytest_memleak.agent.arrival\n", "")


def test_a_framework_that_is_not_installed_is_still_an_import_error(tmp_path: Path) -> None:
    (tmp_path / "starlette").mkdir()
    (tmp_path / "starlette" / "__init__.py").write_text("")
    code = """
        try:
            import starlette.applications
        except ModuleNotFoundError as error:
            print(error.name)
    """
    ran = python("-c", dedent(code), cwd=tmp_path, **NOBODY)
    assert (ran.stdout, ran.stderr) == ("starlette.applications\n", "")


# --- a server ---


class Served:
    """A uvicorn of the app above, with the agent in it."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        (folder / "app.py").write_text(APP)
        self.port = free_port()
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "app:app", f"--port={self.port}", "--log-level=warning", *options],
                cwd=folder,
                env=agents_environment(**environment),
                stdout=log,
                stderr=log,
            )

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.ask("/keep/1")
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
            else:
                return


@contextlib.contextmanager
def served(folder: Path, environment: dict[str, str], *options: str) -> Iterator[Served]:
    server = Served(folder, environment, *options)
    try:
        server.wait()
        yield server
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE_S)


def way_to(channel: Channel) -> dict[str, str]:
    return {wire.AGENT_CHANNEL: channel.address, wire.AGENT_KEY: channel.key}


def next_of(channel: Channel, kind: str, *, deep: bool = False) -> Message:
    """The next message of a kind."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = channel.next(1)
        if message and message.body and message.body["kind"] == kind and bool(message.body.get("deep")) == deep:
            return message
    raise AssertionError(f"no {kind} was heard")


def body_of(message: Message) -> dict[str, Any]:
    assert message.body is not None
    return message.body


@pytest.mark.parametrize("wrong", ["address", "key", "no key", "half a key"])
def test_a_server_that_does_not_reach_the_harness_goes_on_and_says_so_in_one_line(wrong: str, tmp_path: Path) -> None:
    with Channel() as channel:
        environment = way_to(channel)
        environment |= {
            "address": {wire.AGENT_CHANNEL: str(tmp_path / "nowhere")},
            "key": {wire.AGENT_KEY: "00" * 32},
            "no key": {wire.AGENT_KEY: ""},
            "half a key": {wire.AGENT_KEY: "abc"},
        }[wrong]
        with served(tmp_path, environment) as server:
            for size in range(3):
                assert server.ask(f"/keep/{size}") == size
            deadline = time.monotonic() + PATIENCE_S
            while not server.log.read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert channel.next(0.2) is None
        (said,) = server.log.read_text().splitlines()
        assert said.startswith("memleak: no way to the harness (")
        assert said.endswith("; this worker is not measured")


def test_a_reading_of_a_server_has_all_numbers_and_the_requests_that_made_them(tmp_path: Path) -> None:
    with Channel() as channel, served(tmp_path, way_to(channel)) as server:
        hello = next_of(channel, "hello")
        assert body_of(hello)["pid"] == server.process.pid
        assert body_of(hello)["fd_limit"] > 0
        assert body_of(hello)["python"].count(".") == 2
        channel.send(hello.peer, {"kind": "pace", "interval_s": 0.2})
        before = body_of(next_of(channel, "reading"))
        assert set(wire.READING) <= set(before)
        assert before["live_bytes"] == before["pymalloc_bytes"] + before["native_bytes"] > 1_000_000
        for _ in range(5):
            server.ask("/keep/200000")
        with contextlib.suppress(urllib.error.HTTPError):
            server.ask("/nothing")
        seen: dict[str, int] = {}
        deadline = time.monotonic() + PATIENCE_S
        while seen.get("GET (no route)") != 1:
            assert time.monotonic() < deadline
            after = body_of(next_of(channel, "reading"))
            seen |= after["requests"]
        assert seen["GET /keep/{size}"] >= 5
        assert after["live_bytes"] - before["live_bytes"] == pytest.approx(1_000_000, abs=200_000)
        quiet = body_of(next_of(channel, "reading"))
        assert quiet["requests"] == {}, "endpoints that did not move are said again"
        assert quiet["in_flight"] == quiet["held"] == 0
        assert quiet["t"] > after["t"] > before["t"]


def test_a_reading_does_not_wait_for_a_slow_request(tmp_path: Path) -> None:
    with Channel() as channel, served(tmp_path, way_to(channel)) as server:
        hello = next_of(channel, "hello")
        channel.send(hello.peer, {"kind": "pace", "interval_s": 0.1})
        next_of(channel, "reading")
        asked = threading.Thread(target=server.ask, args=("/sleep/8",))
        begun = time.monotonic()
        asked.start()
        while not (reading := body_of(next_of(channel, "reading")))["in_flight"]:
            assert time.monotonic() - begun < PATIENCE_S
        assert asked.is_alive(), "it waited until the request was over"
        assert reading["in_flight"] == 1
        assert "GET /sleep/{seconds}" not in reading["requests"]
        # A loaded machine may stop anybody for a while; the bound itself is 50 ms.
        assert LONGEST_PAUSE_S * 1000 * 0.1 < reading["pause_ms"] < 2_000
        # Others are served meanwhile.
        assert server.ask("/keep/1") == 1
        assert asked.is_alive()
        asked.join()


def test_deep_rest_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    with Channel() as channel, served(tmp_path, way_to(channel)) as server:
        hello = next_of(channel, "hello")
        channel.send(hello.peer, {"kind": "pace", "interval_s": 600})
        channel.send(hello.peer, {"kind": "rest"})
        deep = body_of(next_of(channel, "reading", deep=True))
        assert set(wire.READING) <= set(deep)
        assert server.ask("/keep/1") == 1, "the gate stayed closed"


def test_a_harness_that_hangs_up_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    channel = Channel()
    with served(tmp_path, way_to(channel)) as server:
        hello = next_of(channel, "hello")
        channel.send(hello.peer, {"kind": "pace", "interval_s": 0.05})
        next_of(channel, "reading")
        threads = threads_of(server.process.pid)
        channel.close()
        deadline = time.monotonic() + PATIENCE_S
        while threads_of(server.process.pid) >= threads:
            assert time.monotonic() < deadline, "the agent's thread is there still"
            server.ask("/keep/1")
            time.sleep(0.05)
        for _ in range(5):
            assert server.ask("/keep/1") == 1
        assert server.process.poll() is None
    assert server.log.read_text() == ""


def test_each_worker_has_an_agent_of_its_own(tmp_path: Path) -> None:
    with Channel() as channel, served(tmp_path, way_to(channel), "--workers=2") as server:
        pids: set[int] = set()
        deadline = time.monotonic() + PATIENCE_S
        while len(pids) < 2:
            assert time.monotonic() < deadline
            server.ask("/keep/1")
            message = channel.next(0.1)
            if message and message.body and message.body["kind"] == "hello":
                assert message.body["ppid"] == server.process.pid
                pids.add(message.body["pid"])
        assert server.process.pid not in pids


def threads_of(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).num_threads())
