"""What a soak is asked to do: durations, refusals in one sentence, and the way into `run.json` and back."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_support import LENIENT

from pytest_memleak.soak.plan import Plan, PlanError, checked, parse_duration

needs_locust = pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs the extra locust")

LOCUSTFILE = "from locust import HttpUser\n"


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("30m", 1800),
        ("30min", 1800),
        ("90s", 90),
        ("90", 90),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("24h", 86_400),
        (" 2m ", 120),
        ("0.5s", 0.5),
        ("1h0m0s", 3600),
        (45, 45),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_hours_minutes_and_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "0", "0s", "h", "30x", "m30", "1.5h", "-5s", "1e3", "30 minutes", "nan", "inf", "5s5m"]
)
def test_what_is_no_duration_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_duration(text, "--duration")
    assert str(caught.value) == f"--duration: expects a time such as 30m, 90s or 1h30m, got {text!r}"


@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf"), True])
def test_a_number_that_is_no_duration_is_refused(number: float) -> None:
    with pytest.raises(PlanError, match=r"^duration: expects a time"):
        parse_duration(number)


@LENIENT
@given(hours=st.integers(0, 999), minutes=st.integers(0, 999), seconds=st.integers(0, 9_999))
def test_a_duration_that_is_written_out_is_read_back(hours: int, minutes: int, seconds: int) -> None:
    total = hours * 3600 + minutes * 60 + seconds
    if total:
        assert parse_duration(f"{hours}h{minutes}m{seconds}s") == total
        assert parse_duration(f"{hours}h {minutes}min {seconds}") == total
        assert parse_duration(total) == parse_duration(str(total)) == total


def plan(**values: Any) -> Plan:
    return Plan(**{"app": "shop.main:app", **values})


@needs_locust
@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"app": ""}, "what to soak: expects an app such as shop.main:app, a command after --, or --url"),
        ({"app": "", "command": ("x",), "url": "http://h"}, "what to soak: expects an app such as shop.main:app, "),
        ({"url": "http://localhost:1"}, "shop.main:app and a server that runs already"),
        ({"app": "", "pid": 7}, "--pid says whose memory is watched, and the load needs an address too: give --url"),
        ({"app": "shop"}, "the app 'shop' does not name an object"),
        ({"users": 0}, "users: expects at least 1, got 0"),
        ({"processes": 0}, "processes: expects at least 1, got 0"),
        ({"max_mb_per_min": -0.1}, "max_mb_per_min: expects a number of at least 0, got -0.1"),
        ({"max_mb_per_min": float("nan")}, "max_mb_per_min: expects a number of at least 0, got nan"),
        ({"max_mb_per_min": float("inf")}, "max_mb_per_min: expects a number of at least 0, got inf"),
        ({"spawn_rate": -1.0}, "spawn_rate: expects a number of at least 0, got -1"),
        ({"wait_s": float("inf")}, "wait: expects a number of at least 0, got inf"),
        ({"interval_s": float("nan")}, "interval: expects a number of at least 0, got nan"),
        ({"port": -1}, "port: expects 0 to 65535, got -1"),
        ({"port": 65_536}, "port: expects 0 to 65535, got 65536"),
        ({"master_port": 0}, "master_port: expects 1 to 65535, got 0"),
        ({"openapi": "/nowhere/api.json"}, "openapi: /nowhere/api.json is no file"),
        ({"master_host": "10.0.0.1"}, "master_host: joining a distributed run needs its locustfile (--locustfile)"),
        ({"health_path": "health"}, "health: expects a path such as /health, got 'health'"),
        ({"host": "203.0.113.7"}, "host: no server can listen on 203.0.113.7 here"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        checked(plan(**values))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@needs_locust
def test_a_locustfile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nothing\.py"):
        checked(plan(locustfile=str(tmp_path / "nothing.py")))


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlanError, match=f"something listens on http://127.0.0.1:{port} already"):
            checked(plan(port=port))


@needs_locust
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"max_mb_per_min": 0.0, "users": 1, "port": 0},
        {"command": ("gunicorn", "-b", "{bind}", "shop:app")},
        {"app": "", "command": ("gunicorn", "-b", "{bind}", "shop:app")},
        {"app": "", "url": "http://127.0.0.1:8000"},
        {"app": "", "url": "http://127.0.0.1:8000", "pid": 4},
    ],
)
def test_what_makes_sense_is_given_back_as_it_is(values: dict[str, Any]) -> None:
    asked = plan(**values)
    assert checked(asked) is asked


@needs_locust
def test_a_locustfile_needs_no_openapi_document(tmp_path: Path) -> None:
    path = tmp_path / "locustfile.py"
    path.write_text(LOCUSTFILE)
    asked = plan(locustfile=str(path), openapi="/nowhere/api.json", master_host="10.0.0.1")
    assert checked(asked) is asked


@pytest.mark.parametrize(
    "values, name",
    [
        ({}, "shop.main:app"),
        ({"app": "", "command": ("uvicorn", "x:y")}, "uvicorn x:y"),
        ({"app": "", "url": "http://h:1", "pid": 3}, "http://h:1"),
        ({"app": "", "pid": 3}, "process 3"),
    ],
)
def test_a_plan_is_called_by_what_it_soaks(values: dict[str, Any], name: str) -> None:
    assert plan(**values).name == name


@pytest.mark.parametrize("duration_s", [10, 60, 300, 1_800, 3_600, 14_400, 86_400, 30 * 86_400])
def test_readings_are_often_enough_to_judge_and_seldom_enough_to_keep(duration_s: float) -> None:
    interval = plan(duration_s=float(duration_s)).reading_interval_s
    assert 0 < interval <= 15
    # The judge wants 24 readings at the least, where the time allows them five times a second.
    assert duration_s / interval >= min(100, 5 * duration_s) * 0.5
    assert duration_s / interval <= max(2_000, duration_s / 15)


def test_an_interval_that_is_given_is_taken() -> None:
    assert plan(interval_s=0.5).reading_interval_s == 0.5


def defaults_but(**values: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(plan().to_dict())), **values}


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    asked = plan(
        command=("gunicorn", "{bind}"), duration_s=90.0, locust_options=("--tags", "a"), fail_fast=True, users=7
    )
    assert Plan.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


@LENIENT
@given(
    duration_s=st.floats(1, 1e6),
    users=st.integers(1, 10_000),
    command=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    fail_fast=st.booleans(),
    health_path=st.text(max_size=8),
)
def test_any_plan_comes_back_from_json_as_it_was(**values: Any) -> None:
    asked = plan(**values)
    assert Plan.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


def test_what_a_newer_version_wrote_beside_is_left_out() -> None:
    assert Plan.from_dict(defaults_but(tomorrow="unknown", more=[1])) == plan()


def test_what_an_older_version_did_not_write_has_its_default() -> None:
    assert Plan.from_dict({"app": "shop.main:app"}) == plan()


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"users": "10"}, "users: expects int, got '10'"),
        ({"duration_s": None}, "duration_s: expects float, got None"),
        ({"command": "gunicorn"}, "command: expects tuple, got 'gunicorn'"),
        ({"fail_fast": "yes"}, "fail_fast: expects bool, got 'yes'"),
        ({"app": ""}, "what to soak: "),
    ],
)
def test_what_is_no_plan_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.from_dict(defaults_but(**values))
    assert str(caught.value).startswith(sentence)


def test_whole_numbers_are_seconds_too() -> None:
    assert Plan.from_dict(defaults_but(duration_s=90)).duration_s == 90


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().users = 3  # type: ignore[misc]
