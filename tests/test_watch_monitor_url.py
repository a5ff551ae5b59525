"""A monitor's figures over HTTP: several workers behind one address, and what goes wrong on the way."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("httpx")

from pytest_memleak.watch.monitor_url import MonitorSampler
from pytest_memleak.watch.plan import WatchError
from pytest_memleak.watch.sampling import Gone

PATH = "/api/debug/memory/process-info"


def info(pid: int) -> dict[str, object]:
    return {
        "pid": pid, "created_s": 5.0, "rss_bytes": 1_000 * pid, "vms_bytes": 7, "threads": 3, "fds": None,
    }  # fmt: skip


class Monitor(http.server.ThreadingHTTPServer):
    """Answers with what `answers` gives: a status and a body; one worker after the other."""

    answers: Callable[[int], tuple[int, str]]
    token = ""
    count = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        monitor = self.server
        assert isinstance(monitor, Monitor)
        if monitor.token and self.headers.get("Authorization") != f"Bearer {monitor.token}":
            status, body = 401, ""
        elif self.path == PATH:
            status, body = monitor.answers(monitor.count)
            monitor.count += 1
        else:
            status, body = 404, ""
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing of it belongs into a test's output."""


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with Monitor(("127.0.0.1", 0), _Handler) as server:
        server.answers = lambda count: (200, json.dumps(info(10 + count % 2)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def url_of(monitor: Monitor) -> str:
    return f"http://127.0.0.1:{monitor.server_address[1]}"


def test_the_workers_behind_one_address(monitor: Monitor) -> None:
    with MonitorSampler(url_of(monitor) + "/", "") as sampler:
        snapshot = sampler.read()
        assert {(one.pid, one.rss, one.fds) for one in snapshot.readings} == {(10, 10_000, -1), (11, 11_000, -1)}
        assert sampler.pids() == []


def test_a_token_opens_it(monitor: Monitor) -> None:
    monitor.token = "secret"
    with MonitorSampler(url_of(monitor), "secret") as sampler:
        assert sampler.read().readings
    with MonitorSampler(url_of(monitor), "wrong") as sampler, pytest.raises(WatchError, match="refuses strangers"):
        sampler.read()


@pytest.mark.parametrize(
    "status, body, words",
    [
        (404, "", r"needs setup_memory_monitoring\(app\)"),
        (403, "", "refuses strangers: give its token by --token or MEMLEAK_TOKEN"),
        (200, "<html>", r"gave no figures of memory \(HTTP 200\)"),
        (200, "[]", "gave no figures of memory"),
        (200, '{"pid": 1}', "gave no figures of memory"),
        (500, "oops", r"gave no figures of memory \(HTTP 500\)"),
    ],
)
def test_what_is_no_monitor(monitor: Monitor, status: int, body: str, words: str) -> None:
    monitor.answers = lambda _: (status, body)
    with MonitorSampler(url_of(monitor), "") as sampler, pytest.raises(WatchError, match=words):
        sampler.read()


@pytest.mark.parametrize("url", ["foo", "ftp://x", "http://", "http:///x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(WatchError, match="--url: expects http://HOST:PORT"):
        MonitorSampler(url, "")


def test_one_that_falls_silent_has_ended(monitor: Monitor) -> None:
    with MonitorSampler(url_of(monitor), "") as sampler:
        sampler.read()
        monitor.shutdown()
        monitor.server_close()
        with pytest.raises(Gone, match="does not answer any more"):
            sampler.read()


def test_one_that_never_answered_is_said() -> None:
    with MonitorSampler("http://127.0.0.1:9", "") as sampler, pytest.raises(WatchError, match="is the app running"):
        sampler.read()
