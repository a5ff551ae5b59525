"""What the tests of the soak's command line share: small services, loads, and real runs that can be watched."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
from waiting import PATIENCE_S, until

from pytest_memleak.soak.folder import records

"""Many times what anything here takes; nothing waits that long where all is well."""

# Looked for and not imported: gevent must not come into the process that runs pytest.
NEEDED = ("cattrs", "fastapi", "locust", "numpy", "scipy", "uvicorn")
needs_soak = [
    pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the extra locust"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals, and the channel of the load"),
]
needs_gunicorn = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gunicorn", "uvicorn_worker")),
    reason="needs gunicorn and uvicorn-worker",
)

GUNICORN = ("--", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", "{bind}", "shop:app")

QUICK = ("--users", "10", "--spawn-rate", "100", "--interval", "0.1")
"""For runs of seconds: all users at once, and as many readings as a minute has otherwise. Users who mostly wait make
the same load on a slow machine."""

MARK = "SOAK_TEST_MARK"

CLEAN = """
import gc
import os
import signal
import sys

from fastapi import FastAPI

app = FastAPI()


@app.get("/clean")
async def clean() -> str:
    return "clean"
"""
"""A service that keeps nothing, and what the others begin with."""

FROZEN = """
# What is loaded is not collected again: a reading pauses shorter, so that a run of seconds has enough of them.
gc.freeze()
"""

LEAKY = """
SEEN: list[bytes] = []


@app.get("/leak/{n}")
async def leak(n: int) -> int:
    SEEN.append(b"x" * (20_000 + n % 7))
    return n
"""

FIXED = """
from collections import deque

SEEN: deque[bytes] = deque(maxlen=20)


@app.get("/leak/{n}")
async def leak(n: int) -> int:
    SEEN.append(b"x" * (20_000 + n % 7))
    return n
"""

LOAD = """
from locust import HttpUser, constant, task


class Shopper(HttpUser):
    wait_time = constant(0.1)

    # Each request by a connection of its own, which any worker may accept.
    @task
    def clean(self) -> None:
        self.client.get("PREFIX/clean", headers={"Connection": "close"})

    @task
    def leak(self) -> None:
        self.client.get("PREFIX/leak/1", name="/leak/{n}", headers={"Connection": "close"})
"""


def write_shop(folder: Path, endpoints: str = FIXED) -> None:
    """Write `shop.py`, the service."""
    (folder / "shop.py").write_text(CLEAN + dedent(endpoints) + FROZEN)


def write_load(folder: Path, prefix: str = "") -> str:
    """Write a locustfile that asks for both endpoints; gives its name."""
    (folder / "load.py").write_text(LOAD.replace("PREFIX", prefix))
    return "load.py"


def memleak(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with Running(cwd, *arguments) as running:
        return running.end()


class Running:
    """The command line in a process of its own, and what came of it.

    As a context manager it leaves nothing behind, however the test ends.
    """

    def __init__(self, cwd: Path, *arguments: str) -> None:
        """Start it."""
        self.mark = uuid.uuid4().hex
        self._arguments = arguments
        # Files and no pipes: nobody reads while it runs, and its children must not keep it open.
        self._said = [cwd / f"{self.mark}.{name}" for name in ("stdout", "stderr")]
        with self._said[0].open("wb") as stdout, self._said[1].open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest_memleak", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env={**os.environ, MARK: self.mark, "COLUMNS": "120"},
                # A shell's background jobs ignore Ctrl-C, and so would their children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  (no lock)
            )

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait until it ends and nothing of it is left."""
        code = self.process.wait(PATIENCE_S)
        stdout, stderr = (path.read_text(encoding="utf-8") for path in self._said)
        until(lambda: not self.family(), f"the end of {[process.cmdline() for process in self.family()]}")
        return subprocess.CompletedProcess(self._arguments, code, stdout, stderr)

    def family(self) -> list[psutil.Process]:
        """Everything that it started and that still lives, itself included."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def locusts(self) -> list[psutil.Process]:
        """The processes of its load."""
        return [process for process in self.family() if process.cmdline()[1:3] == ["-m", "locust"]]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a kind in a run's folder."""
    return [record for record in records(folder) if record["kind"] == kind]


def events(folder: Path) -> list[str]:
    """What happened in a run, in order."""
    return [record["event"] for record in recorded(folder, "event")]


def readings_under_load(folder: Path) -> int:
    """How many readings were taken since the load of the latest segment began; 0 until it has begun."""
    count = 0
    for record in records(folder):
        if record["kind"] == "event" and record["event"] in ("started", "load_started"):
            count = 0
            loads = record["event"] == "load_started"
        count += record["kind"] == "reading" and loads
    return count


def wait_for_readings(running: Running, folder: Path, segment: int = 1, least: int = 10) -> None:
    """Wait until a segment of a run is in the middle of its load."""

    def there() -> bool:
        assert running.process.poll() is None, "it has ended"
        return events(folder).count("load_started") == segment and readings_under_load(folder) >= least

    until(there, f"{least} readings under load")


def result_of(folder: Path) -> dict[str, Any]:
    """The result that a run has written."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def assert_whole_lines(folder: Path) -> None:
    """Each line of the readings is one record, and the last is not cut."""
    text = (folder / "readings.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert all(isinstance(json.loads(line)["kind"], str) for line in text.splitlines())


@contextlib.contextmanager
def serving(cwd: Path, port: int) -> Iterator[psutil.Popen]:
    """A server of the shop that somebody else started."""
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--log-level", "warning"]
    with psutil.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
