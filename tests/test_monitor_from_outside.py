"""`memleak detect --url` and `memleak track-objects --url` at the real monitor of a real server, with its token."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from monitor_support import Served, served
from waiting import until

from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.inspection.monitor_url import MonitorCounts
from pytest_memleak.watch.monitor_client import MonitorClient
from pytest_memleak.watch.monitor_url import MonitorSampler

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "httpx", "numpy", "scipy", "uvicorn")),
    reason="needs the extra monitor, uvicorn and httpx",
)

TOKEN = "a-tokén-of-these-tests"

SHOP = """
    from fastapi import FastAPI
    from pytest_memleak.monitor import setup_memory_monitoring

    app = FastAPI()
    KEPT = []

    class Visit:
        def __init__(self, number):
            self.name = "x" * 20_000 + str(number)

    @app.get("/leaky/{number}")
    async def leaky(number: int):
        KEPT.append(Visit(number))
        return number

    @app.get("/light/{number}")
    async def light(number: int):
        Visit(number)
        return number

    setup_memory_monitoring(app, interval_s=0.1, %s)
"""

OPTIONS = f"token={TOKEN!r}"


def memleak(*arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEMLEAK_TOKEN": token}
    command = [sys.executable, "-m", "pytest_memleak", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


@contextlib.contextmanager
def visited(server: Served, path: str) -> Iterator[str]:
    """The address of a server that is asked for a path again and again, until it is over."""
    over = threading.Event()

    def visit() -> None:
        number = 0
        while not over.wait(0.005):
            number += 1
            server.ask(f"{path}/{number}")

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("shop"), source=SHOP, options=OPTIONS) as running:
        yield running


def test_the_figures_are_those_of_the_process(server: Served) -> None:
    there = psutil.Process(server.process.pid)
    server.ask("/light/1")
    with MonitorSampler(f"http://127.0.0.1:{server.port}/", TOKEN) as sampler:
        [reading] = sampler.read().readings
        assert reading.pid == there.pid
        assert reading.created_s == pytest.approx(there.create_time(), abs=0.05)

        def alike() -> bool:
            [now] = sampler.read().readings
            memory = there.memory_info()
            return (
                now.rss == pytest.approx(memory.rss, rel=0.1)
                and now.vms == pytest.approx(memory.vms, rel=0.1)
                and (now.threads, now.fds) == (there.num_threads(), there.num_fds())
            )

        # Not at once: what is imported still grows, and connections of before are closed any time.
        until(alike, "the figures that the system has of it")


def test_detect_sees_the_leak_of_a_real_app(server: Served) -> None:
    with visited(server, "/leaky") as url:
        found = memleak("detect", "8", "0.2", "--url", url, "--json")
    assert found.returncode == 1, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert result["verdict"]["outcome"] == "LEAK"
    assert result["target"] == url


def test_track_objects_sees_the_type_that_accumulates(server: Served) -> None:
    with visited(server, "/leaky") as url:
        found = memleak("track-objects", "--url", url, "--token", TOKEN, "--interval", "2", "--samples", "4", token="")
    assert found.returncode == 1, found.stdout + found.stderr
    rows = [line.split() for line in found.stdout.splitlines() if line.endswith("LEAK") and not line.startswith("LEAK")]
    assert [row[0] for row in rows] == ["app.Visit"]
    _, current, baseline, delta, *_ = rows[0]
    assert int(current.replace(",", "")) - int(baseline.replace(",", "")) == int(delta.replace(",", ""))
    assert "the monitor tells no holders" in found.stdout


def test_track_objects_blames_no_type_where_none_accumulates(server: Served) -> None:
    with visited(server, "/light") as url:
        found = memleak("track-objects", "--url", url, "--interval", "1", "--samples", "3", "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert [one["name"] for one in json.loads(found.stdout)["types"] if one["leaks"]] == []


def test_all_types_are_counted_so_that_none_seems_new_that_comes_into_a_list(server: Served) -> None:
    with MonitorCounts(f"http://127.0.0.1:{server.port}", TOKEN) as monitor:
        first, second = (monitor.ask({"what": "count"}) for _ in range(2))
    for found in (first, second):
        assert found["pid"] == server.process.pid
        assert len(found["counts"]) > 200
        assert sum(found["counts"].values()) == pytest.approx(found["objects"], rel=0.05)
    new = second["counts"].keys() - first["counts"].keys()
    assert sum(second["counts"][name] for name in new) < 50


@pytest.mark.parametrize("command, token", [(("detect", "5", "0.5"), ""), (("track-objects",), "wrong")])
def test_a_stranger_is_told_what_is_needed(server: Served, command: tuple[str, ...], token: str) -> None:
    found = memleak(*command, "--url", f"http://127.0.0.1:{server.port}", token=token)
    assert found.returncode == 2
    assert "refuses strangers: give its token by --token or MEMLEAK_TOKEN" in found.stderr


def test_a_heap_that_is_not_walked_is_said(tmp_path: Path) -> None:
    with served(tmp_path, source=SHOP, options=f"{OPTIONS}, max_objects=1_000") as small:
        found = memleak("track-objects", "--url", f"http://127.0.0.1:{small.port}", "--interval", "1")
    assert found.returncode == 2, found.stdout
    assert "the monitor declines: about " in found.stderr
    assert "max_objects" in found.stderr


class _Busy(http.server.BaseHTTPRequestHandler):
    waits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wait = self.waits.pop(0) if self.waits else ""
        self.send_response(429 if wait else 200)
        if wait:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    "waits, slept, words",
    [
        (["3", "20"], [3.0, 20.0], ""),
        (["0", "soon"], [1.0, 1.0], ""),
        (["61"], [], "asks to wait for 61 s"),
        (["40", "40"], [40.0], "asks to wait for 40 s"),
    ],
)
def test_who_is_asked_to_wait_waits_as_long_as_is_sensible(
    waits: list[str], slept: list[float], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Busy, "waits", list(waits))
    done: list[float] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as busy:
        thread = threading.Thread(target=busy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{busy.server_address[1]}"
        client = MonitorClient(
            url, "", "/growth", timeout_s=10, refused=InspectionError, gone=Gone, sleep=done.append
        )  # fmt: skip
        try:
            if words:
                with pytest.raises(InspectionError, match=words):
                    client.get(dict, "counts")
            else:
                assert client.get(dict, "counts") == {}
        finally:
            client.close()
            busy.shutdown()
            thread.join()
    assert done == slept
