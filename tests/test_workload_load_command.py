"""The command and the environment of a load, and the mix that varies: without Locust."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_memleak.workloads import load
from pytest_memleak.workloads.load import LoadError, check_locustfile, load_command, load_environment
from pytest_memleak.workloads.mix import LOW_SHARE, Mix


def command_for(host: str, seconds: float, **options: Any) -> list[str]:
    given = {"locustfile": None, "openapi": None, "processes": 1, "master_host": None, "master_port": 0, **options}
    return load_command(host=host, users=12, spawn_rate=100, duration_s=seconds, **given)


def test_the_command_of_a_run_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "locustfile.py"
    command = load_command(
        host="http://localhost:1",
        users=50,
        spawn_rate=2.5,
        duration_s=59.5,
        locustfile=file,
        openapi=None,
        processes=2,
        master_host=None,
        master_port=5600,
        extra=["--tags", "a"],
    )
    assert command == [
        *(sys.executable, "-m", "locust", "-f", f"{file},{load.LOAD_REPORTER}", "--host", "http://localhost:1"),
        *("--processes", "2", "--headless", "--only-summary", "--exit-code-on-error", "0", "--stop-timeout", "3"),
        *("-u", "50", "-r", "2.5", "-t", "60s"),
        *("--master-bind-host", "127.0.0.1", "--master-bind-port", "5600", "--master-port", "5600", "--tags", "a"),
    ]


def test_the_command_that_joins_a_run_leaves_users_and_duration_to_its_master(tmp_path: Path) -> None:
    command = command_for("http://h", 5, openapi=tmp_path / "api.json", master_host="10.0.0.1", master_port=5557)
    assert command == [
        *(sys.executable, "-m", "locust", "-f", f"{load.OPENAPI_LOAD},{load.LOAD_REPORTER}", "--host", "http://h"),
        *("--worker", "--master-host", "10.0.0.1", "--master-port", "5557"),
    ]


def test_a_load_comes_of_one_source(tmp_path: Path) -> None:
    for options in ({}, {"locustfile": tmp_path, "openapi": tmp_path}):
        with pytest.raises(LoadError, match="give one of them"):
            command_for("http://h", 5, **options)


def test_the_environment_holds_what_was_given(tmp_path: Path) -> None:
    told = load_environment(
        channel="/tmp/x", key=b"\x01\xff", openapi=tmp_path, include="GET", headers={"A": "b"}, master_host="h"
    )
    assert told == {
        "MEMLEAK_LOAD_CHANNEL": "/tmp/x",
        "MEMLEAK_LOAD_KEY": "01ff",
        "MEMLEAK_LOAD_ROLE": "worker",
        "MEMLEAK_OPENAPI": str(tmp_path),
        "MEMLEAK_WAIT_S": "0",
        "MEMLEAK_INCLUDE": "GET",
        "MEMLEAK_HEADERS": '{"A": "b"}',
        "MEMLEAK_MIX_PERIOD_S": "4",
        "MEMLEAK_MIX_SEED": "0",
    }
    assert set(load_environment()) == {"MEMLEAK_WAIT_S", "MEMLEAK_MIX_PERIOD_S", "MEMLEAK_MIX_SEED"}


def test_a_locustfile_that_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for path, message in [(tmp_path / "no.py", "does not exist"), (tmp_path, "is a directory")]:
        with pytest.raises(LoadError, match=message):
            check_locustfile(path)
    for name, message in [("load.txt", "end in .py"), ("a,b.py", "commas")]:
        (tmp_path / name).touch()
        with pytest.raises(LoadError, match=message):
            check_locustfile(tmp_path / name)
    (tmp_path / "load.py").touch()
    check_locustfile(tmp_path / "load.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadError, match=r"pip install 'pytest-memleak\[locust\]'"):
        check_locustfile(None)


def test_the_parent_never_imports_gevent() -> None:
    code = "import sys, pytest_memleak.workloads.load as load; load.check_locustfile; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"gevent", "locust"} & set(loaded)


def test_a_task_is_high_half_of_the_time_and_all_mixes_of_a_seed_agree() -> None:
    one, same, other = Mix(period_s=4, seed=1), Mix(period_s=4, seed=1), Mix(period_s=4, seed=2)
    times = [4 * period + 1.5 for period in range(400)]
    high = [one.is_high("GET /", now_s) for now_s in times]
    assert high == [same.is_high("GET /", now_s + 2) for now_s in times]
    assert high != [other.is_high("GET /", now_s) for now_s in times]
    assert high != [one.is_high("POST /", now_s) for now_s in times]
    assert 140 <= sum(high) <= 260  # six standard deviations of a fair coin
    low = times[high.index(False)]
    assert one.accepts("GET /", low, LOW_SHARE - 0.01)
    assert not one.accepts("GET /", low, LOW_SHARE)
    assert one.accepts("GET /", times[high.index(True)], 0.99)
