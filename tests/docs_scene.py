"""Where the commands of the docs run: a project like the reader's, a server, a Prometheus, and the world outside.

The commands run as they are written, but for what takes long or is elsewhere: `SHORTER` has each such change. Programs
of the world outside (`kubectl`, `journalctl`) are stood in for by scripts that print what such a program prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from docs_support import APP, ROOT, stages
from fleet_stores import answering, fleet_of

PATIENCE_S: Final = 240

SHORTER: Final = (
    (r"\bdetect \d+ \d+", "detect 1 0.2"),
    (r"\bdashboard \d+ \d+", "dashboard 1 0.3"),
    (r"\bmemleak track-objects\b", "memleak track-objects --interval 0.5"),
    (r"--duration \w+", "--duration 3s"),
    (r"--memleak-soak \w+", "--memleak-soak 3s"),
    (r" --users \d+", ""),
    # the lines of a leak take a second load
    (r"\bmemleak soak (?!--resume)", "memleak soak --no-diagnose "),
    (r"(memleak soak .*)\bapp\.main:app", r"\1shop.main:app"),
    (r"(--out|--save) after\b", r"\1 before"),
    (r"\bmemleak demo\b.*", "memleak demo -k home"),
    (r"(--shop=fixed_shop)( --memleak-inconclusive)", r"\1 -k home\2"),
    (r"^while sleep \d+;", "for again in 1 2 3;"),
    (r"(uvicorn shop\.main:app) --port 8000", r"timeout 3 \1 --port $FREE_PORT"),
    (r"^(gunicorn .*)-b 0\.0\.0\.0:8000", r"timeout 5 \1-b 127.0.0.1:$FREE_PORT"),
    (r"--port 8000\b", "--port $PORT"),
    (r"127\.0\.0\.1:8000\b", "127.0.0.1:$PORT"),
    (r"--pid 4711\b", "--pid $PID"),
    (r"--name shop\.main:app", '--name "shop.main:app --port $PORT"'),
    (r"http://prometheus:9090", "$STORE"),
    # any Python server of this machine would be a candidate
    (r"^(memleak (?:detect|dashboard|track-objects)(?!.* --(?:port|pid|name|url|help)).*)$", r"\1 --port $PORT"),
)
"""What becomes seconds, or is here and not there: regular expressions, applied in this order."""

LOG: Final = "".join(
    f"2026-05-04 03:{minute:02}:00 [4711] [INFO] RSS: {200 + 2 * minute}.0 MB\n" for minute in range(40)
)
"""The log of a worker that grows, and is killed."""

KILLED: Final = "[2026-05-04 03:40:00 +0000] [1] [ERROR] Worker (pid:4711) was sent SIGKILL! Perhaps out of memory?\n"

KERNEL: Final = (
    "2026-05-04T03:40:00+0000 host kernel: Out of memory: Killed process 4711 (gunicorn) total-vm:913152kB,"
    " anon-rss:524288kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1100kB oom_score_adj:0\n"
)

POD: Final = {
    "status": {"containerStatuses": [{"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}
}

KUBECTL: Final = f"""#!/bin/sh
case "$1" in
logs) sed 's/^/[pod\\/web-1\\/web] 2026-05-04T03:00:00Z /' app.log ;;
top) printf 'NAME CPU(cores) MEMORY(bytes)\\nweb-1 5m 200Mi\\n' ;;
get) cat <<'POD'
{json.dumps({"items": [POD]}, indent=4)}
POD
;;
*) exit 9 ;;
esac
"""

JOURNALCTL: Final = f"#!/bin/sh\ncat <<'LINES'\n{KERNEL}LINES\n"

SHOP: Final = """
import os

if "UNDER_THE_MONITOR" in os.environ:
    from pytest_memleak.monitor import setup_memory_monitoring

    setup_memory_monitoring(app)
"""
"""The end of the shop: what imports numpy would make each worker of a soak slow to start."""

LOAD: Final = """
from locust import FastHttpUser, constant, task


class Customer(FastHttpUser):
    wait_time = constant(0.1)

    @task
    def read(self):
        self.client.get("/items/1", name="GET /items/{item_id}")

    @task
    def search(self):
        self.client.get("/search?q=kettle", name="GET /search")
"""

TEST: Final = """
import pytest
from fastapi.testclient import TestClient

from app.main import app


@pytest.mark.no_leak(max_mb_per_min=1)
def test_search(leak_call):
    assert TestClient(app).get("/search", params={"q": f"kettle {leak_call.number}"}).status_code == 200
"""

CONFIGURATION: Final = """
[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
addopts = "-p no:randomly -p no:memray -p no:hypothesispytest"
memleak_max_time = "2"
asyncio_default_fixture_loop_scope = "function"
"""
"""Two seconds a test: here it matters that a command works. What is found is for `test_docs_outputs`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The project as it was made, and what its commands are told in the environment."""

    project: Path
    environment: Mapping[str, str]

    def run(self, folder: Path, command: str) -> tuple[int, str]:
        """Run a command in a folder: the exit code, and all that was printed."""
        return shell(folder, shorter(command), self.environment)


def shorter(command: str) -> str:
    for pattern, replacement in SHORTER:
        command = re.sub(pattern, replacement, command)
    return command


def shell(folder: Path, command: str, more: Mapping[str, str]) -> tuple[int, str]:
    """Run a command as a person types it; its exit code, and all that was printed."""
    path = os.pathsep.join([str(folder / "stand-ins"), sysconfig.get_path("scripts"), os.environ["PATH"]])
    # An index is not asked: what a page installs is here already, or the page names what is not to be had.
    ours = {"PATH": path, "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore", "COLUMNS": "80"}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env={**os.environ, **ours, **more}, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            text, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            # With all that it has started: a server that stays would be found by the next command.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, text


def overlaid(scene: Scene, page: Path | None, folder: Path) -> Path:
    """A copy of the project in which the files of a page, as first shown, take the place of its own."""
    shutil.copytree(scene.project, folder)
    if page:
        shutil.rmtree(folder / "tests")
        for name, code in stages(page)[0].items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(code, encoding="utf-8")
    return folder


def write_project(folder: Path) -> None:
    """The reader's project: a service, a test, a load, logs, a shop, a repository."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True)
    written = {
        "app/main.py": APP, "shop/main.py": APP + SHOP, "locustfile.py": LOAD,
        "tests/test_search.py": TEST, "pyproject.toml": CONFIGURATION, "app.log.1": LOG,
        "app.log": LOG + KILLED, "stand-ins/kubectl": KUBECTL, "stand-ins/journalctl": JOURNALCTL,
    }  # fmt: skip
    for name, text in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    git = "git -c user.name=docs -c user.email=docs@example.com"
    code, told = shell(folder, f"git init -q -b main && git add . && {git} commit -q -m one", {})
    assert code == 0, told


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[int]:
    """The shop under the monitor; gives its pid."""
    command = [sys.executable, "-m", "uvicorn", "shop.main:app", "--port", str(port), "--log-level", "warning"]
    environment = {
        **os.environ,
        "UNDER_THE_MONITOR": "1",
        "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers(port):
                assert time.monotonic() < deadline, "the shop does not answer"
                time.sleep(0.1)
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def set_up(folder: Path, commands: tuple[str, ...]) -> Iterator[Scene]:
    """The scene, once `commands` have made the files that other commands take."""
    write_project(folder)
    port = free_port()
    with served(folder, port) as pid, answering(fleet_of(3e4, 3e4)) as store:
        told = {"PORT": str(port), "FREE_PORT": str(free_port()), "PID": str(pid), "STORE": store}
        scene = Scene(project=folder, environment=told)
        for command in commands:
            code, text = scene.run(folder, command)
            assert code in (0, 1, 3), f"{command}\n{text}"
        yield scene
