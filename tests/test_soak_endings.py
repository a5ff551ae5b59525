"""Everything that can end a soak before its time, for real: nothing is left running, and nothing measured is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from soak_support import (
    FIXED,
    GUNICORN,
    QUICK,
    Running,
    assert_whole_lines,
    events,
    memleak,
    needs_gunicorn,
    needs_soak,
    recorded,
    result_of,
    wait_for_readings,
    write_load,
    write_shop,
)
from waiting import until

from pytest_memleak.model import Outcome
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan

pytestmark = needs_soak

linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and signals of Linux")

LIMIT = ("--max-mb-per-min", "20")
"""So wide that a service that keeps nothing is never convicted in seconds."""

LONG = ("--duration", "10m")
"""Longer than any test waits: what ends it is what the test does."""


def words(text: str) -> str:
    """A report without its line breaks."""
    return " ".join(text.split())


# By hand


def test_a_soak_that_is_stopped_and_killed_goes_on_to_its_end(tmp_path: Path) -> None:
    write_shop(tmp_path)
    folder = tmp_path / "run"
    asked = ("shop:app", "--duration", "10s", *QUICK, *LIMIT, "--wait", "0.1", "--out", "run")
    with Running(tmp_path, "soak", *asked) as running:
        wait_for_readings(running, folder, least=5)
        assert len(running.family()) >= 5  # itself, the server, Locust, and a keeper for each of these
        other = memleak(tmp_path, "soak", "--resume", "run")
        refused = "memleak soak: run is being written by a soak that still runs (memleak explain folder-in-use)\n"
        assert (other.returncode, other.stderr) == (2, refused)
        running.process.terminate()
        ended = running.end()
    assert ended.returncode == 3, ended
    assert "stopped by hand or by SIGTERM before its time" in words(ended.stdout)
    assert "stopped by hand or by SIGTERM before its time" in words((folder / "report.txt").read_text())
    first_s = result_of(folder)["seconds"]
    assert 0 < first_s < 9

    with Running(tmp_path, "soak", "--resume", "run") as running:
        wait_for_readings(running, folder, segment=2, least=5)
        running.process.kill()
        running.end()  # nothing of it is left
    ended = memleak(tmp_path, "report", "run")
    assert ended.returncode == 3, ended
    assert words(ended.stdout).startswith("INCONCLUSIVE shop:app: it ended early")
    assert result_of(folder)["seconds"] == first_s  # of the segment before: the second had no time to write any
    with (folder / "readings.jsonl").open("a") as file:
        file.write('{"kind":"reading","pid":1,"t"')  # as it was killed in the middle of a line

    with Running(tmp_path, "soak", "--resume", "run") as running:
        wait_for_readings(running, folder, segment=3, least=5)
        running.process.send_signal(signal.SIGINT)
        ended = running.end()
    assert ended.returncode == 3, ended
    assert words(ended.stdout).count("stopped by hand or by SIGTERM before its time") == 2

    ended = memleak(tmp_path, "soak", "--resume", "run")
    assert ended.returncode in (0, 3), ended
    assert "it ended early" not in words(ended.stdout)
    assert "max_requests" not in words(ended.stdout)  # the server's lives are short for another reason
    assert_whole_lines(folder)
    assert [event for event in events(folder) if event in ("started", "interrupted", "complete")] == [
        *("started", "interrupted", "started", "started", "interrupted", "started", "complete")
    ]
    result = result_of(folder)
    assert result["seconds"] > 9.5
    assert result["failure"] == ""


# The server ends

EXITS = f"""
{FIXED}
COUNT = 0


@app.get("/fragile")
async def fragile() -> int:
    global COUNT
    COUNT += 1
    if COUNT > 100:
        print("the fragile service gives up", file=sys.stderr, flush=True)
        os._exit(3)
    return COUNT
"""

KILLED_WHEN_GROWN = """
import psutil

SEEN: list[bytes] = []
BEGAN = psutil.Process().memory_info().rss


@app.get("/leak")
async def leak() -> int:
    SEEN.append(b"x" * 200_000)
    if psutil.Process().memory_info().rss > 3 * BEGAN:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
    return len(SEEN)
"""

LIMITED = """
import resource

import psutil

SEEN: list[bytes] = []


def limit() -> None:
    most = psutil.Process().memory_info().vms + 400_000_000  # threads and their arenas want 64 MB of addresses each
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@app.get("/leak")
async def leak() -> int:
    if not SEEN:
        limit()
    try:
        SEEN.append(b"x" * 1_000_000)
    except MemoryError:
        print("MemoryError", file=sys.stderr, flush=True)
        os._exit(1)
    return len(SEEN)
"""


@contextlib.contextmanager
def together(folder: Path, services: dict[str, tuple[str, tuple[str, ...]]]) -> Iterator[dict[str, Running]]:
    """Soaks at the same time, each in a folder of its name with a run in `run`: they wait more than they work."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (endpoints, options) in services.items():
            (folder / name).mkdir()
            write_shop(folder / name, endpoints)
            asked = (*QUICK, "--wait", "0.1", *LONG, *options, "--out", "run")
            running[name] = stack.enter_context(Running(folder / name, "soak", "shop:app", *asked))
        yield running


@linux
def test_a_server_that_ends_under_load_is_told_with_its_code_its_last_words_and_its_curve(tmp_path: Path) -> None:
    services = {
        "exits": (EXITS, LIMIT),
        "killed": (KILLED_WHEN_GROWN, ()),
        "limited": (LIMITED, ()),
    }
    with together(tmp_path, services) as running:
        ended = {name: run.end() for name, run in running.items()}

    said = words(ended["exits"].stdout)
    assert ended["exits"].returncode == 4, ended
    assert "failed: the server exited with code 3 under load" in said
    assert "the fragile service gives up" in said
    assert said.startswith("INCONCLUSIVE shop:app: ")

    for name, end in (("killed", "was killed by SIGKILL"), ("limited", "exited with code 1")):
        said = words(ended[name].stdout)
        assert ended[name].returncode == 1, ended
        assert said.startswith("LEAK shop:app: ")
        assert f"the server {end}" in said
        assert "RSS from outside: " in said
        assert "▇" in said
        assert result_of(tmp_path / name / "run")["outcome"] == "LEAK"

    for name in services:
        assert recorded(tmp_path / name / "run", "reading")
        assert_whole_lines(tmp_path / name / "run")
    again = memleak(tmp_path, "report", "limited/run")
    assert (again.returncode, words(again.stdout).split(" kept ")[0]) == (
        1,
        words(ended["limited"].stdout).split(" kept ")[0],
    )


# Workers and the load end


@needs_gunicorn
def test_a_killed_worker_is_replaced_and_a_killed_locust_ends_the_soak(tmp_path: Path) -> None:
    write_shop(tmp_path)
    folder = tmp_path / "run"
    load = ("--locustfile", write_load(tmp_path), "--out", "run")
    with Running(tmp_path, "soak", *LONG, *QUICK, *LIMIT, *load, *GUNICORN) as running:
        wait_for_readings(running, folder, least=30)
        before = {hello["pid"] for hello in recorded(folder, "hello")}
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        until(lambda: "worker_started" in events(folder)[-2:], "another worker")
        (fresh,) = {hello["pid"] for hello in recorded(folder, "hello")} - before
        until(lambda: readings_of(folder, fresh) > 30, "readings of the new worker")
        assert running.process.poll() is None
        (locust,) = running.locusts()
        locust.kill()
        ended = running.end()
    said = words(ended.stdout)
    assert ended.returncode == 4, ended
    assert said.startswith("INCONCLUSIVE gunicorn ")
    assert f"worker {victim} has ended" in said
    assert f"worker {fresh} serves" in said
    assert "failed: Locust was killed by SIGKILL" in said
    assert result_of(folder)["workers"] == 3
    assert_whole_lines(folder)


def readings_of(folder: Path, pid: int) -> int:
    return sum(reading["pid"] == pid for reading in recorded(folder, "reading"))


def test_a_load_that_cannot_begin_or_only_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    def wrong_paths(folder: Path) -> None:
        write_load(folder, "/nowhere")

    def wrong_syntax(folder: Path) -> None:
        (folder / "load.py").write_text("from locust import HttpUser\nclass Shopper(HttpUser:\n")

    causes: dict[str, tuple[Callable[[Path], None], str]] = {
        "paths": (wrong_paths, "HTTPError('404 Client Error: Not Found"),
        "syntax": (wrong_syntax, "failed: Locust exited with code 1; its log ends: "),
    }
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (spoil, _) in causes.items():
            folder = tmp_path / name
            folder.mkdir()
            write_shop(folder)
            spoil(folder)
            asked = ("shop:app", "--duration", "3s", *QUICK, *LIMIT, "--locustfile", "load.py", "--out", "run")
            running[name] = stack.enter_context(Running(folder, "soak", *asked))
        ended = {name: run.end() for name, run in running.items()}
    for name, (_, reason) in causes.items():
        said = words(ended[name].stdout)
        assert ended[name].returncode == 4, ended[name]
        assert "failed: " in said
        assert reason in said
        assert result_of(tmp_path / name / "run")["outcome"] == "INCONCLUSIVE"
    assert "SyntaxError" in ended["syntax"].stdout
    assert "requests failed: " in words(ended["paths"].stdout)


def test_what_failed_before_its_load_and_was_resumed_is_judged_by_what_came_then() -> None:
    from pytest_memleak.soak.judge import judge  # numpy, which is not everywhere

    recorded = Recorded()
    recorded.add({"kind": "event", "t": 0.0, "event": "started"})
    recorded.add({"kind": "event", "t": 1.0, "event": "failed", "words": "Locust exited with code 1"})
    recorded.add({"kind": "event", "t": 2.0, "event": "started"})
    recorded.add({"kind": "event", "t": 3.0, "event": "load_started"})
    for number in range(100):
        recorded.add({"kind": "reading", "t": 3.0 + number / 10, "pid": 7, "live_bytes": 1_000_000 + number % 2})
    recorded.add({"kind": "event", "t": 13.0, "event": "load_over"})
    recorded.add({"kind": "event", "t": 13.0, "event": "complete"})
    result = judge(recorded, Plan(app="shop:app", duration_s=10.0))
    assert (result.outcome, result.failure, result.readings) == (Outcome.CLEAN, "", 100)


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not allowed to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@linux
def test_a_disk_that_is_full_loses_no_verdict_and_cuts_no_line(tmp_path: Path, small_disk: Path) -> None:
    write_shop(tmp_path)
    folder = small_disk / "run"
    asked = ("shop:app", "--duration", "5s", *QUICK, *LIMIT, "--wait", "0.1", "--out", str(folder))
    with Running(tmp_path, "soak", *asked) as running:
        wait_for_readings(running, folder)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 100):
                pass
        ended = running.end()
    assert ended.returncode in (0, 3), ended
    said = words(ended.stdout)
    assert re.search(r"soak 5(\.\d+)? s under load", said)
    assert "note the disk was full: 0 records are lost, " in said
    assert " could not be written (No space left on device)" in said
    assert_whole_lines(folder)
    filler.unlink()
    assert memleak(tmp_path, "report", str(folder)).returncode == 3  # what was written ends early


# The agent


def test_a_python_without_us_is_seen_from_outside_and_told_why(tmp_path: Path) -> None:
    # Of the user's own, with a server that needs nothing.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    text = (tmp_path / write_load(tmp_path)).read_text()
    (tmp_path / "load.py").write_text(text.replace("/clean", "/").replace("/leak/1", "/"))
    command = ("--", str(python), "-m", "http.server", "--bind", "127.0.0.1", "{port}")
    ended = memleak(
        tmp_path, "soak", "--duration", "3s", *QUICK, *LIMIT, "--locustfile", "load.py", "--out", "run", *command
    )
    assert ended.returncode in (0, 3), ended
    said = words(ended.stdout)
    assert "readings of RSS from outside" in said
    assert f"no agent in a process of the server: Python 3.{sys.version_info[1]} at {python} has no " in said
    assert "no agent spoke from inside the server: RSS from outside is all there is" in said
    result = result_of(tmp_path / "run")
    assert (result["basis"], result["endpoints"]) == ("RSS from outside", [])


HANGS = """
import asyncio
from fastapi import FastAPI

app = FastAPI()
made = 0


@app.get("/")
async def home() -> int:
    global made
    made += 1
    if made > 20:
        await asyncio.Event().wait()
    return made
"""


def test_a_load_that_hangs_is_a_failure_and_never_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_memleak.soak import act, run
    from pytest_memleak.soak.plan import Plan

    (tmp_path / "hangs.py").write_text(HANGS, encoding="utf-8")
    load = "from locust import HttpUser\n\nclass Visitor(HttpUser):\n    tasks = [lambda user: user.client.get('/')]\n"
    (tmp_path / "load.py").write_text(load, encoding="utf-8")
    monkeypatch.setattr(run, "_STALLED_S", 2.0)
    plan = Plan(
        app="hangs:app",
        duration_s=120.0,
        users=3,
        locustfile=str(tmp_path / "load.py"),
        folder=str(tmp_path / "run"),
        cwd=str(tmp_path),
    )
    result = act.soak(plan, lambda progress: None)
    assert "the load made no request for" in result.failure
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.seconds < 100
