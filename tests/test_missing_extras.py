"""What is not installed is named in one sentence, with the command that installs it: every command, every entry point.

The modules of an extra are hidden by a finder that stands before all others, in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memleak.doctor.extras import SERVES

EXTRAS = {
    "fastapi": ("fastapi", "starlette", "httpx", "httpx2"),
    "native": ("memray",),
    "demo": ("fastapi", "starlette", "httpx", "httpx2", "aiosqlite"),
    "locust": ("cattrs", "locust", "gevent", "numpy", "scipy", "uvicorn"),
    "watch": ("httpx", "numpy", "scipy", "zstandard"),
    "monitor": ("fastapi", "starlette", "numpy", "prometheus_client", "scipy", "uvicorn"),
    "scan": ("libcst",),
}
"""The modules that come with an extra."""

EVERYTHING = sorted({module for modules in EXTRAS.values() for module in modules})

HIDING = """
import importlib.abc
import os
import sys


class Hiding(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hiding())
"""
"""A sitecustomize, so that it stands there before anything of ours is imported."""

# Asked for a package that is not there, it answers None; it hands on what a finder raises.
FIND_SPEC = """
import importlib.util

_whole = importlib.util.find_spec


def _find_spec(name, package=None):
    return None if name.partition(".")[0] in os.environ["HIDDEN"].split() else _whole(name, package)


importlib.util.find_spec = _find_spec
"""

COMMANDS = {
    "demo": (("demo",), "demo"),
    "soak": (("soak", "shop:app"), "locust"),
    "verify": (("verify", "a", "b"), "locust"),
    "detect": (("detect",), "watch"),
    "dashboard": (("dashboard",), "watch"),
    "track-objects": (("track-objects",), "watch"),
    "analyze-logs": (("analyze-logs", "app.log"), "watch"),
    "fleet": (("fleet", "--prometheus", "http://127.0.0.1:1"), "watch"),
    "report": (("report", "run"), "watch"),
    "scan-code --fix": (("scan-code", "app.py", "--fix"), "scan"),
    "scan-code --diff-only": (("scan-code", "app.py", "--diff-only"), "scan"),
}
"""What needs an extra, and which."""

MENDABLE = """
def read(path):
    file = open(path)
    text = file.read()
    return len(text)
"""


def run(folder: Path, *arguments: str, hidden: list[str]) -> subprocess.CompletedProcess[str]:
    """A Python that has not what is hidden."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(HIDING + FIND_SPEC)
    (folder / "app.py").write_text(MENDABLE)
    paths = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "HIDDEN": " ".join(hidden), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_its_extra_is_one_sentence_with_the_pip_command(name: str, tmp_path: Path) -> None:
    arguments, extra = COMMANDS[name]
    done = run(tmp_path, "-m", "pytest_memleak", *arguments, hidden=EVERYTHING)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    install = rf"python -m pip install 'pytest-memleak\[{extra}\]'"
    assert re.fullmatch(rf"memleak [a-z-]+: .*needs .*: {install} \(memleak explain missing-extra\)\n", done.stderr)


@pytest.mark.parametrize("arguments", [("scan-code", "app.py"), ("explain", "no-gdb"), ("--help",)], ids=" ".join)
def test_what_needs_no_extra_works_without_any(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "pytest_memleak", *arguments, hidden=EVERYTHING)
    assert (done.returncode, done.stderr) == (1 if "app.py" in arguments else 0, ""), done.stderr


def test_the_plugin_works_without_any_extra(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.no_leak(max_time=20)\ndef test_it():\n    assert [1]\n"
    )
    done = run(tmp_path, "-m", "pytest", "--memleak", "-q", "-p", "no:cacheprovider", "test_it.py", hidden=EVERYTHING)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


TESTS = """
import pytest


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_callable(memleak):
    memleak.run(app, lambda client: client.get("/"))


def test_soak(memleak):
    memleak.soak("shop:app", duration="2m")


@pytest.mark.no_leak(duration="2m", app="shop:app")
def test_marked():
    pass
"""


def test_the_fixture_and_the_marker_name_the_extra_that_they_need(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "shop.py").write_text("app = None\n")
    arguments = ["-m", "pytest", "--memleak", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = run(tmp_path, *arguments, hidden=EVERYTHING)
    said = " ".join(done.stdout.split())
    assert "Error" not in said, done.stdout
    assert "3 failed" in said, done.stdout
    needs = {
        "fastapi": r"memleak\.run: callables need Starlette's TestClient \(.*?\)",
        "locust": r"a soak needs numpy and scipy and cattrs and locust",
    }
    for extra, words in needs.items():
        assert re.search(rf"{words}: python -m pip install 'pytest-memleak\[{extra}\]' \(memleak explain", said), said
    assert "Traceback" not in said


def test_the_monitor_names_its_extra(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "from pytest_memleak.monitor import setup_memory_monitoring", hidden=EVERYTHING)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last == (
        "ModuleNotFoundError: the monitor needs fastapi: python -m pip install 'pytest-memleak[monitor]' "
        "(memleak explain missing-extra)"
    )


MONITORED = """
from fastapi import FastAPI
from pytest_memleak.monitor import setup_memory_monitoring
setup_memory_monitoring(FastAPI())
"""


def test_a_monitor_without_its_metrics_says_so_and_works(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    done = run(tmp_path, "-c", MONITORED, hidden=["prometheus_client"])
    assert done.returncode == 0
    assert done.stderr == (
        "memleak: no metrics without prometheus-client: python -m pip install 'pytest-memleak[monitor]' "
        "(memleak explain missing-extra)\n"
    )


def test_each_extra_is_hidden_and_each_that_a_command_needs_is_one() -> None:
    assert set(EXTRAS) == set(SERVES)
    assert {extra for _, extra in COMMANDS.values()} <= set(EXTRAS)
