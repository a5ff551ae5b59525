"""`memleak demo` as a new user runs it: red on the leaking shop, green on its fixed twin, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("aiosqlite")


def memleak(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own."""
    command = [sys.executable, "-m", "pytest_memleak", *arguments]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_leak_is_red_the_fixed_shop_is_green_and_the_demo_succeeds(tmp_path: Path) -> None:
    ended = memleak(tmp_path, "demo", "-k", "visits or price")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    red, _, green = ended.stdout.partition("the same shop, fixed: pytest --memleak shop_tests --shop=fixed_shop")
    assert "held by shop.visits.visits (list, +1 entry per request)" in " ".join(red.split())
    assert "1 failed, 1 passed" in red
    assert "2 passed" in green
    assert ended.stdout.splitlines()[-1] == "1 of 1 leaks convicted, 2 of 2 endpoints of the fixed shop clean"
    assert not ended.stderr
    assert not list(tmp_path.iterdir())


def test_an_expression_that_matches_no_test_is_refused(tmp_path: Path) -> None:
    ended = memleak(tmp_path, "demo", "-k", "nothing_of_that_name")
    assert ended.returncode == 2
    assert ended.stderr.strip() == "memleak demo: no test matched: leave -k out to run them all"
