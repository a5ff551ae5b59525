"""The metrics: their names and units, bounded labels, beside others in one registry, over many workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from pytest_memleak.model import Outcome
from pytest_memleak.model_monitor import OTHERS, Collection, Judged, Reading, Sample, Walk
from pytest_memleak.model_soak import EndpointGrowth, Estimate
from pytest_memleak.model_watch import Severity, TrackVerdict
from pytest_memleak.monitor import instruments, metrics
from pytest_memleak.monitor.metrics import Metrics, attach, metrics_app
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor

CONTRACT = {
    "process_rss_bytes": "gauge",
    "process_vms_bytes": "gauge",
    "endpoint_memory_delta_bytes": "histogram",
    "gc_duration_ms": "histogram",
    "gc_collections": "counter",
}
OWN = {
    "memleak_live_heap_bytes": "gauge",
    "memleak_endpoint_grown_bytes": "counter",
    "memleak_endpoint_released_bytes": "counter",
    "memleak_endpoint_kept_bytes_per_request": "gauge",
    "memleak_endpoint_requests": "counter",
    "memleak_gc_pause_seconds": "histogram",
    "memleak_tracked_objects": "gauge",
    "memleak_growth_bytes_per_second": "gauge",
    "memleak_verdict": "gauge",
    "memleak_uptime_seconds": "gauge",
}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(Settings())


@pytest.fixture
def made(monitor: Monitor) -> Metrics:
    return Metrics(monitor, CollectorRegistry())


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def judged(outcome: Outcome, mb_per_min: float, kept: dict[tuple[str, ...], float]) -> Judged:
    verdict = TrackVerdict(
        name="live heap",
        outcome=outcome,
        severity=Severity.NONE,
        rate=estimate(mb_per_min),
        gained=0.0,
        shape="flat",
        why="",
    )
    endpoints = tuple(
        EndpointGrowth(endpoints=names, requests=10, bytes_per_request=estimate(value), mb_per_min=estimate(0))
        for names, value in kept.items()
    )
    return Judged(t=0.0, heap=verdict, rss=verdict, endpoints=endpoints, unattributed_mb_per_min=0.0, notes=())


def fill(monitor: Monitor) -> None:
    """Something of everything."""
    reading = Reading(t=0.0, rss_bytes=50_000_000, vms_bytes=90_000_000, live_bytes=20_000_000, in_flight=0)
    monitor.requests.finished.update({"GET /a": 7, 'POST /b/{id}"\\': 3})
    monitor.tell(monitor.on_reading, reading)
    for endpoint, delta_bytes in (("GET /a", 5_000), ("GET /a", -200), ("GET /a", 0), ('POST /b/{id}"\\', 100)):
        monitor.tell(monitor.on_sample, Sample(endpoint=endpoint, delta_bytes=delta_bytes, is_alone=True))
    monitor.tell(monitor.on_collection, Collection(generation=2, pause_s=0.02))
    monitor.tell(monitor.on_walk, Walk(t=0.0, objects=30, counts={"dict": 20, "shop.Item": 10}))
    monitor.tell(monitor.on_judged, judged(Outcome.LEAK, 6.0, {("GET /a",): 512.0}))


def scrape(made: Metrics, accept: str = "") -> dict[str, float]:
    """Every sample by its name and labels, written as in PromQL."""
    return samples(made.render(accept)[0].decode())


def samples(text: str) -> dict[str, float]:
    return {
        line(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def line(name: str, labels: dict[str, str]) -> str:
    return name + "".join(f"[{key}={value}]" for key, value in labels.items())


def test_each_metric_has_its_name_its_kind_and_its_words(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    families = {found.name: found for found in text_string_to_metric_families(made.render("")[0].decode())}
    kinds = {name: family.type for name, family in families.items() if not name.endswith("_created")}
    assert kinds == CONTRACT | OWN
    assert all(family.documentation for family in families.values())


def test_what_was_told_is_what_is_scraped(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    found = scrape(made)
    delta = "endpoint_memory_delta_bytes_bucket[endpoint=GET /a]"
    expected = {
        "process_rss_bytes[stage=startup]": 50_000_000,
        "process_vms_bytes": 90_000_000,
        "memleak_live_heap_bytes": 20_000_000,
        "memleak_endpoint_requests_total[endpoint=GET /a]": 7,
        'memleak_endpoint_requests_total[endpoint=POST /b/{id}"\\]': 3,
        "memleak_endpoint_grown_bytes_total[endpoint=GET /a]": 5_000,
        "memleak_endpoint_released_bytes_total[endpoint=GET /a]": 200,
        "memleak_endpoint_kept_bytes_per_request[endpoint=GET /a]": 512,
        f"{delta}[le=-10000.0]": 0,
        f"{delta}[le=0.0]": 2,
        f"{delta}[le=1000.0]": 2,
        f"{delta}[le=10000.0]": 3,
        f"{delta}[le=+Inf]": 3,
        "endpoint_memory_delta_bytes_count[endpoint=GET /a]": 3,
        "gc_duration_ms_bucket[generation=2][le=10.0]": 0,
        "gc_duration_ms_bucket[generation=2][le=25.0]": 1,
        "memleak_gc_pause_seconds_bucket[generation=2][le=0.025]": 1,
        "memleak_tracked_objects[type=dict]": 20,
        "memleak_verdict[verdict=leak]": 1,
        "memleak_verdict[verdict=clean]": 0,
        "memleak_verdict[verdict=inconclusive]": 0,
        "memleak_growth_bytes_per_second": 100_000,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "endpoint_memory_delta_bytes_sum[endpoint=GET /a]" not in found  # a signed sum is no counter
    assert "endpoint_memory_delta_bytes" not in "".join(name for name in found if "_sum" in name)


def test_a_scrape_brings_the_counters_up_to_date(monitor: Monitor, made: Metrics) -> None:
    monitor.requests.finished["GET /a"] = 1
    assert scrape(made)["memleak_endpoint_requests_total[endpoint=GET /a]"] == 1
    monitor.requests.finished["GET /a"] = 4
    assert scrape(made)["memleak_endpoint_requests_total[endpoint=GET /a]"] == 4
    monitor.gc.start()
    try:
        before = scrape(made)["gc_collections_total[generation=2]"]
        __import__("gc").collect()
        after = scrape(made)
    finally:
        monitor.gc.stop()
    assert after["gc_collections_total[generation=2]"] == before + 1
    assert after["gc_duration_ms_count[generation=2]"] >= 1


def test_the_text_for_speed_says_what_the_registry_says(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    ours = scrape(made)
    theirs = samples(generate_latest(made.instruments.registry).decode())
    ours.pop("memleak_uptime_seconds")
    theirs.pop("memleak_uptime_seconds")
    # OpenMetrics, which others may ask the registry for, allows no count without a sum.
    assert {name: ours[name] for name in theirs} == theirs
    assert {name.partition("[")[0] for name in set(ours) - set(theirs)} == {"endpoint_memory_delta_bytes_count"}


def test_a_scraper_that_asks_for_openmetrics_gets_that(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    # What Prometheus sends: the text that is written fast is good enough for it.
    both = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    assert made.render(both)[1].startswith("text/plain")
    text, content_type = made.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family.type for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    assert families == CONTRACT | OWN


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_all_but_the_contracts_milliseconds(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    done = subprocess.run(["promtool", "check", "metrics"], input=made.render("")[0], capture_output=True, check=False)
    complaints = (done.stdout + done.stderr).decode().splitlines()
    assert {complaint.split()[0] for complaint in complaints} <= {"gc_duration_ms", "gc_duration_ms_created"}


def test_only_the_present_stage_has_a_figure(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    monitor.requests.in_flight = 1
    fill(monitor)
    assert [name for name in scrape(made) if name.startswith("process_rss")] == ["process_rss_bytes[stage=serving]"]


def test_a_new_verdict_and_a_new_walk_leave_nothing_of_the_old(monitor: Monitor, made: Metrics) -> None:
    fill(monitor)
    monitor.tell(monitor.on_judged, judged(Outcome.CLEAN, 0.0, {("GET /a", "GET /b"): 9.0, ("GET /c",): 1.0}))
    monitor.tell(monitor.on_walk, Walk(t=1.0, objects=1, counts={"list": 5}))
    found = scrape(made)
    kept = "memleak_endpoint_kept_bytes_per_request"
    assert {name: value for name, value in found.items() if name.startswith(kept)} == {
        f"{kept}[endpoint={instruments.NOT_TOLD_APART}]": 9,
        f"{kept}[endpoint=GET /c]": 1,
    }
    assert [name for name in found if name.startswith("memleak_tracked")] == ["memleak_tracked_objects[type=list]"]
    assert [found[f"memleak_verdict[verdict={word}]"] for word in ("clean", "leak", "inconclusive")] == [1, 0, 0]


def test_ten_thousand_names_make_no_more_labels_than_the_bound(monitor: Monitor, made: Metrics) -> None:
    for number in range(10_000):
        monitor.requests.finished[f"GET /{number}"] = 1
        monitor.tell(monitor.on_sample, Sample(endpoint=f"GET /{number}", delta_bytes=1, is_alone=True))
    many: dict[tuple[str, ...], float] = {(f"GET /{number}",): 1.0 for number in range(2_000)}
    monitor.tell(monitor.on_judged, judged(Outcome.LEAK, 1.0, many))
    for number in range(200):
        monitor.tell(monitor.on_walk, Walk(t=0.0, objects=1, counts={f"T{number}": 1}))
    found = scrape(made)
    endpoints = {name.partition("[endpoint=")[2].partition("]")[0] for name in found if "[endpoint=" in name}
    assert len(endpoints) <= 503
    assert OTHERS in endpoints
    requests = [value for name, value in found.items() if name.startswith("memleak_endpoint_requests_total")]
    assert sum(requests) == 10_000


def test_many_types_over_time_share_one_name_at_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As in files of many workers, where a label once given stays.
    monkeypatch.setattr("pytest_memleak.monitor.labels.is_multiprocess", lambda: True)
    made = Metrics(Monitor(Settings()), CollectorRegistry())
    for number in range(200):
        made.instruments.on_walk(Walk(t=0.0, objects=1, counts={f"T{number}": 1}))
    text = made.render("")[0].decode()
    types = {name for name in samples(text) if name.startswith("memleak_tracked_objects")}
    assert len(types) <= 51
    assert f"memleak_tracked_objects[type={instruments.OTHER_TYPES}]" in types


# Beside others.


@pytest.mark.parametrize("taken", ["process_rss_bytes", "gc_collections_total", "memleak_endpoint_requests_total"])
def test_where_a_name_is_taken_all_of_ours_go_elsewhere_and_both_are_shown(monitor: Monitor, taken: str) -> None:
    registry = CollectorRegistry()
    if taken.endswith("_total"):
        Counter(taken, "Theirs.", registry=registry).inc(3)
    else:
        Gauge(taken, "Theirs.", registry=registry).set(3)
    made = Metrics(monitor, registry)
    assert made.instruments.registry is not registry
    assert list(samples(generate_latest(registry).decode())) == [taken]
    fill(monitor)
    found = scrape(made)
    assert found[taken] == 3
    assert found["process_vms_bytes"] == 90_000_000
    assert found["memleak_endpoint_grown_bytes_total[endpoint=GET /a]"] == 5_000


def test_prometheus_clients_own_collectors_are_no_clash(monitor: Monitor) -> None:
    made = Metrics(monitor)
    try:
        assert made.instruments.registry is made.shared
        fill(monitor)
        found = scrape(made)
        assert found["python_gc_collections_total[generation=0]"] >= 0
        assert found["process_rss_bytes[stage=startup]"] == 50_000_000
    finally:
        made.detach()
    assert "process_rss_bytes" not in generate_latest(made.shared).decode()
    again = Metrics(monitor)
    assert again.instruments.registry is again.shared
    again.detach()


def leaf(app: FastAPI, name: str) -> Any:
    """A route that answers with a word."""

    @app.get(f"/{name}")
    def answer() -> PlainTextResponse:
        return PlainTextResponse(name)

    return answer


@pytest.fixture
def attached(monitor: Monitor) -> Iterator[list[Any]]:
    undo: list[Any] = []
    yield undo
    for act in undo:
        act()


def test_an_app_without_metrics_gets_them_even_behind_a_route_for_everything(
    monitor: Monitor, attached: list[Any]
) -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    def everything(path: str) -> str:
        return path

    attached.append(attach(app, monitor))
    fill(monitor)
    client = TestClient(app)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert samples(answer.text)["process_vms_bytes"] == 90_000_000
    assert client.head("/metrics").text == ""
    assert client.post("/metrics").status_code == 405
    assert client.get("/other").json() == "other"
    assert "/metrics" not in client.get("/openapi.json").text
    attached.pop()()
    assert client.get("/metrics").json() == "metrics"
    assert (monitor.on_reading, monitor.on_sample, monitor.on_worker_exit) == ([], [], [])


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_app_with_metrics_of_its_own_keeps_them(monitor: Monitor, attached: list[Any], order: str) -> None:
    app = FastAPI()
    if order == "before":
        leaf(app, "metrics")
    attached.append(attach(app, monitor))
    if order == "after":
        leaf(app, "metrics")
    assert TestClient(app).get("/metrics").text == "metrics"


@pytest.mark.parametrize("settings", [Settings(metrics=False), Settings(port=8001)])
def test_with_a_port_of_their_own_or_none_the_app_has_no_route(settings: Settings, attached: list[Any]) -> None:
    app, monitor = FastAPI(), Monitor(settings)
    attached.append(attach(app, monitor))
    fill(monitor)
    assert TestClient(app).get("/metrics").status_code == 404
    own = TestClient(metrics_app(monitor))
    assert samples(own.get("/metrics").text)["process_vms_bytes"] == 90_000_000
    attached.pop()()
    assert own.get("/metrics").status_code == 503


def test_the_instrumentator_shows_ours_beside_its_own(monitor: Monitor, attached: list[Any]) -> None:
    module = pytest.importorskip("prometheus_fastapi_instrumentator")
    app = FastAPI()
    leaf(app, "word")
    attached.append(attach(app, monitor))
    module.Instrumentator().instrument(app).expose(app)
    fill(monitor)
    with TestClient(app) as client:
        client.get("/word")
        found = samples(client.get("/metrics").text)
    assert found["process_vms_bytes"] == 90_000_000
    assert found["memleak_endpoint_grown_bytes_total[endpoint=GET /a]"] == 5_000
    assert any(name.startswith("http_request") for name in found)


# Many workers.

WORKER = """
import os, signal, sys, time
from pytest_memleak.model_monitor import Reading, Sample, Walk
from pytest_memleak.monitor.metrics import Metrics
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor

def worker(rss, ends):
    monitor = Monitor(Settings())
    metrics = Metrics(monitor)
    metrics.on_worker_start()
    monitor.requests.finished["GET /a"] = 5
    for _ in range(2):
        monitor.requests.in_flight += 1  # from startup to serving
        monitor.tell(monitor.on_reading, Reading(t=0, rss_bytes=rss, vms_bytes=rss, live_bytes=rss, in_flight=0))
        monitor.requests.in_flight = 0 if _ else 1
    monitor.tell(monitor.on_sample, Sample(endpoint="GET /a", delta_bytes=100, is_alone=True))
    monitor.tell(monitor.on_walk, Walk(t=0, objects=1, counts={"list": 9}))
    monitor.tell(monitor.on_walk, Walk(t=0, objects=1, counts={"dict": 4}))
    if ends == "goes":
        metrics.on_worker_exit()
    if ends == "scraped":
        sys.stdout.write(metrics.render("")[0].decode())
        sys.stdout.flush()
    if ends in ("killed", "goes"):
        os.kill(os.getpid(), signal.SIGKILL)

for rss, ends in ((111, "killed"), (222, "goes"), (333, "scraped")):
    pid = os.fork()
    if not pid:
        worker(rss, ends)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork, no SIGKILL")
def test_counters_of_all_workers_and_gauges_of_the_living(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(WORKER)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = samples(done.stdout)
    rss = {name: value for name, value in found.items() if name.startswith("process_rss_bytes")}
    assert list(rss.values()) == [333]
    assert "[stage=serving]" in next(iter(rss))
    assert found["memleak_endpoint_requests_total[endpoint=GET /a]"] == 15
    assert found["endpoint_memory_delta_bytes_count[endpoint=GET /a]"] == 3
    assert found["memleak_endpoint_grown_bytes_total[endpoint=GET /a]"] == 300
    assert {name: value for name, value in found.items() if name.startswith("memleak_tracked")} == {
        "memleak_tracked_objects[type=dict]": 4
    }
    # The last one is gone by now, and so is whatever else had been there.
    left = tmp_path / "gauge_liveall_999999999.db"
    left.touch()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    try:
        assert 999999999 in metrics.remove_dead_workers()
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
    assert not list(tmp_path.glob("gauge_live*.db"))
    assert list(tmp_path.glob("counter_*.db"))
