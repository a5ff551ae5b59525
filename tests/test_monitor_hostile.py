"""Ten thousand requests of strangers at real servers: nobody gets in, nothing is told, and no label is added."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

import pytest_memleak

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="networks of Linux, sockets of POSIX")

COUNT = 10_000


def test_ten_thousand_strangers_get_in_nowhere_and_add_no_label() -> None:
    # The script's own folder too: PYTHONSAFEPATH leaves it out.
    folders = [str(Path(pytest_memleak.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*folders, os.environ.get("PYTHONPATH", "")))}
    environment.pop("MEMLEAK_TOKEN", None)
    command = [sys.executable, str(Path(__file__).with_name("hostile_support.py")), str(COUNT), "20261125"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    seen = json.loads(done.stdout)
    assert seen["wrong"] == []
    assert seen["requests"] == COUNT
    # What was plainly for the monitor is a third of it, and each server has answered with its own word.
    assert seen["refused"] > COUNT // 4
    for place, status in [("token", 401), ("peer", 403), ("mounted", 401), ("root path", 401), ("own port", 401)]:
        assert seen["statuses"][f"{place} {status}"] > COUNT // 50, seen["statuses"]
    assert sum(count for status, count in seen["statuses"].items() if status.endswith(" 200")) > 10
    # No path, method, header or connection has become a label.
    assert seen["after"] == seen["before"]
    # The app's own routes, with the mount's path where Starlette tells it.
    known = {"(no route)", "GET /items/{number}", "GET /metrics", "GET /shop/items/{number}", "GET /shop/metrics"}
    assert all({"(no route)"} <= set(labels) <= known for labels in seen["after"])
    # From the same address, who has the token is let in; without one nobody is who is not this machine.
    assert seen["known"] == [[401, 200], [403, 403], [401, 200], [401, 200], [401, 200]]
