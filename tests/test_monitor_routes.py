"""The endpoints: each answer has its shape, its bound and its price, and shows nothing of what objects hold."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monitor_support import PREFIX, ask, scope_of, served
from waiting import until

from pytest_memleak.model_monitor import Reading
from pytest_memleak.monitor import answers, setup_memory_monitoring, teardown, walking
from pytest_memleak.watch.monitor_url import MonitorSampler

SHAPES: dict[str, Any] = {
    "GET /snapshot": answers.Snapshot,
    "POST /tracing": answers.TracingState,
    "GET /growth": answers.Growth,
    "POST /growth/baseline": answers.Baseline,
    "GET /history": answers.History,
    "GET /gc-stats": answers.GcStats,
    "POST /gc-collect": answers.Collected,
    "GET /leaks": answers.Leaks,
    "GET /process-info": answers.ProcessInfo,
}


class Kept:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        raise AssertionError("a repr of the user's was called")


KEPT: list[Kept] = []
SECRET = "hunter2 of these tests"


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMLEAK_TOKEN", raising=False)


class Asked:
    """An app with the monitor on, and its client."""

    def __init__(self, **options: Any) -> None:
        self.app = FastAPI()

        @self.app.get("/keep/{secret}")
        async def keep(secret: str) -> int:
            KEPT.extend(Kept(secret) for _ in range(100))
            return len(KEPT)

        self.monitor = setup_memory_monitoring(self.app, **{"interval_s": 60, **options})
        self.client = TestClient(self.app)

    def get(self, path: str, method: str = "GET", **more: Any) -> Any:
        answer = self.client.request(method, PREFIX + path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **more: Any) -> Any:
        return self.get(path, "POST", **more)


@pytest.fixture
def asked() -> Iterator[Asked]:
    found = Asked()
    yield found
    teardown(found.app)
    KEPT.clear()


@pytest.mark.parametrize("endpoint", SHAPES)
def test_each_answer_has_its_shape(endpoint: str, asked: Asked) -> None:
    method, path = endpoint.split()
    for _ in range(2):
        answer = asked.get(path, method)
        SHAPES[endpoint](**answer)
        assert set(answer) == set(SHAPES[endpoint].__fields__ if pydantic_1() else SHAPES[endpoint].model_fields)
        assert answer["pid"] == os.getpid()
        assert 0 <= answer["stalled_ms"] < 60_000


def pydantic_1() -> bool:
    return not hasattr(answers.Answer, "model_fields")


def test_every_endpoint_is_in_the_table(asked: Asked) -> None:
    paths = asked.app.openapi()["paths"]
    found = {
        f"{method.upper()} {path.removeprefix(PREFIX)}"
        for path, operations in paths.items()
        if path.startswith(PREFIX)
        for method in operations
    }
    assert found == set(SHAPES)


@pytest.mark.parametrize("others", [0, 400_000])
def test_which_type_grows_and_who_holds_it(others: int, asked: Asked) -> None:
    large = [[number] for number in range(others)]
    # Nothing of the tests before is thrown away meanwhile.
    gc.collect()
    assert asked.get("/growth")["baseline_t"] is None
    asked.client.get(f"/keep/{SECRET}")
    found = asked.get("/growth")
    assert found["objects"] > len(large)
    kept = next(one for one in found["types"] if one["type"].endswith(".Kept"))
    assert (kept["baseline"], kept["delta"], kept["growth_percent"]) == (None, None, None) or kept["delta"] == 100
    assert kept["count"] == 100
    assert any("KEPT (list)" in step for step in kept["path"]), kept
    assert found["declined"] is None
    baseline = asked.post("/growth/baseline")
    again = asked.get("/growth?samples=0")
    assert again["baseline_t"] == baseline["t"]
    assert all(one["delta"] == 0 for one in again["types"] if one["type"].endswith(".Kept"))
    assert all(one["path"] == [] for one in again["types"])


def test_no_answer_shows_what_objects_hold(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    asked.post("/growth/baseline")
    asked.post("/tracing", json={"seconds": 60, "frames": 3})
    asked.client.get(f"/keep/{SECRET}")
    for endpoint in SHAPES:
        method, path = endpoint.split()
        assert SECRET not in json.dumps(asked.get(path, method))


@pytest.mark.parametrize("path, method", [("/growth", "GET"), ("/growth/baseline", "POST")])
def test_a_large_heap_is_not_walked_unasked(path: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(max_objects=1_000)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(walking, "count", lambda: pytest.fail("it walked"))
            declined = asked.get(path, method)
        assert "?force=true" in declined["declined"]
        assert declined["objects"] == 0
        assert asked.get(path + "?force=true", method)["objects"] > 1_000
    finally:
        teardown(asked.app)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("others", [0, 400_000])
def test_a_forked_child_walks_it_where_allowed(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [[number] for number in range(others)]
    gc.collect()
    asked = Asked(max_objects=1_000, allow_fork=True)
    walked = walking.count
    here = os.getpid()

    def count() -> Any:
        assert os.getpid() != here
        return walked()

    monkeypatch.setattr(walking, "count", count)
    try:
        asked.get("/growth")
        asked.client.get("/keep/x")
        found = asked.get("/growth")
        assert found["objects"] > len(large)
        kept = next(one for one in found["types"] if one["type"].endswith(".Kept"))
        assert kept["count"] == 100
        assert any("KEPT (list)" in step for step in kept["path"]), kept
        assert psutil.Process().children() == []
    finally:
        teardown(asked.app)
        KEPT.clear()


def test_a_child_that_dies_is_told_and_gone() -> None:
    with pytest.raises(OSError, match="without an answer"):
        walking.in_child(lambda: os._exit(3))
    assert psutil.Process().children() == []


def test_tracing_for_a_limited_time(asked: Asked) -> None:
    assert asked.get("/snapshot")["top_missing"].startswith("tracing is off")
    state = asked.post("/tracing", json={"seconds": 600, "frames": 2})
    assert (state["tracing"], state["frames"]) == (True, 2)
    asked.client.get("/keep/x")
    found = asked.get("/snapshot")
    assert 0 < found["tracing_left_s"] <= 600
    assert found["live_bytes"] is None
    here = Path(__file__).name
    assert any(here in one["site"] and one["count"] >= 100 for one in found["top"]), found["top"]
    assert asked.post("/tracing", json={"seconds": 0})["tracing"] is False
    assert not tracemalloc.is_tracing()
    asked.post("/tracing", json={"seconds": 0.05})
    until(lambda: not tracemalloc.is_tracing(), "the end of its time")
    assert asked.get("/snapshot")["tracing_left_s"] == 0


def test_tracing_of_somebody_else_is_left_on(asked: Asked) -> None:
    tracemalloc.start(3)
    try:
        for seconds in (60, 0):
            state = asked.post("/tracing", json={"seconds": seconds})
            assert (state["tracing"], state["tracing_left_s"], state["frames"]) == (True, None, 3)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'{"seconds": 601}',
        b'{"seconds": -1}',
        b'{"seconds": NaN}',
        b'{"seconds": 1e999}',
        b'{"frames": 0}',
        b'{"frames": 26}',
        b'{"frames": "hunter2"}',
        b"{",
    ],
)
def test_orders_that_cannot_be_meant(body: bytes, asked: Asked) -> None:
    scope = scope_of(PREFIX + "/tracing", method="POST", content_type="application/json")
    status, _, answer = ask(asked.app, scope, body)
    assert status == 422
    assert b"hunter2" not in answer
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize(
    "path",
    ["/history?minutes=0", "/history?minutes=-1", "/history?minutes=nan", "/history?minutes=x", "/growth?samples=11"],
)
def test_questions_that_cannot_be_meant(path: str, asked: Asked) -> None:
    assert asked.client.get(PREFIX + path).status_code == 422


def test_the_past(asked: Asked) -> None:
    now = time.time()
    ring = asked.monitor.ring
    for minute in range(50, 0, -10):
        reading = Reading(
            t=now - 60 * minute, rss_bytes=1_000 + minute, vms_bytes=2_000, live_bytes=-1 if minute == 30 else 500,
            in_flight=0,
        )  # fmt: skip
        ring.add(reading, {"GET /a": 100 - minute, "GET /b": 1})
    found = asked.get("/history?minutes=35")["readings"]
    past = [one for one in found if one["t"] < now - 60]
    assert [one["rss_bytes"] for one in past] == [1_030, 1_020, 1_010]
    assert [one["live_bytes"] for one in past] == [None, 500, 500]
    assert [one["requests"] for one in past] == [71, 81, 91]
    assert asked.get("/history?minutes=1e12")["minutes"] == 60


def test_a_collection_that_was_asked_for(asked: Asked) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    asked.get("/gc-stats")
    gc.collect()
    gc.disable()
    try:
        # Several megabytes: other threads may well take one meanwhile.
        for _ in range(50_000):
            Cycle()
        found = asked.post("/gc-collect?force=true")
    finally:
        gc.enable()
    assert (found["generation"], found["declined"]) == (2, None)
    assert found["collected"] >= 50_000
    assert found["live_bytes_after"] < found["live_bytes_before"]
    assert asked.get("/gc-stats")["generations"][2]["collections"] >= 1


def test_a_long_collection_is_not_made_unasked(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "estimated_objects", lambda *_: 1_000_000)
    found = asked.post("/gc-collect")
    assert found["generation"] == 1
    assert "?force=true" in found["declined"]


def test_one_costly_look_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    inside, release = threading.Event(), threading.Event()
    walked = walking.count

    def slow() -> Any:
        inside.set()
        assert release.wait(60)
        return walked()

    monkeypatch.setattr(walking, "count", slow)
    with TestClient(asked.app) as client:
        asked.client = client
        first = threading.Thread(target=asked.get, args=("/growth",))
        first.start()
        assert inside.wait(60)
        refused = [
            client.request(method, PREFIX + path)
            for method, path in (("GET", "/growth"), ("POST", "/growth/baseline"), ("POST", "/gc-collect"))
        ]
        assert asked.get("/process-info")["pid"] == os.getpid()
        release.set()
        first.join()
        assert [answer.status_code for answer in refused] == [429] * 3
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    teardown(asked.app)


def test_a_verdict_is_kept_for_a_while(asked: Asked) -> None:
    first = asked.get("/leaks")
    assert asked.get("/leaks")["t"] == first["t"]
    assert first["verdict"] == "inconclusive"
    assert first["mb_per_min"]["low"] is None


def test_the_figures_of_the_process(asked: Asked) -> None:
    found = asked.get("/process-info")
    process = psutil.Process()
    assert found["created_s"] == process.create_time()
    assert found["threads"] == pytest.approx(process.num_threads(), abs=3)
    assert found["rss_bytes"] == pytest.approx(process.memory_info().rss, rel=0.2)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_leak_behind_a_real_server(tmp_path: Path) -> None:
    with served(tmp_path, options="interval_s=0.05, history_minutes=1") as running:
        sampler = MonitorSampler(f"http://127.0.0.1:{running.port}", "")
        with sampler:
            snapshot = sampler.read()
        assert [reading.rss for reading in snapshot.readings] == pytest.approx(
            [running.get(PREFIX + "/process-info")["rss_bytes"]], rel=0.5
        )
        number = 0

        def leaks() -> bool:
            nonlocal number
            for _ in range(25):
                number += 1
                running.get(f"/leaky/{number}")
                if number % 3 == 0:
                    running.get("/light")
            if number % 500 == 0:  # seconds are too short for a full collection by itself
                running.ask(PREFIX + "/gc-collect?force=true", method="POST")
            found = running.get(PREFIX + "/leaks")
            told = {name: one for one in found["endpoints"] for name in one["endpoints"]}
            return found["verdict"] == "leak" and "GET /leaky/{number}" in told

        until(leaks, "the verdict")
