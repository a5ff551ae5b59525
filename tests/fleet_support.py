"""What the tests of `memleak fleet` share: leaking instances, a real Prometheus that scrapes them, a scripted store.

    python tests/fleet_support.py SECONDS FILE

lets such a Prometheus scrape for so long and records its answers: `tests/fleet_recorded.json` was made that way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fleet_stores import answering
from waiting import until

PROMETHEUS: Final = os.environ.get("MEMLEAK_TEST_PROMETHEUS") or shutil.which("prometheus")
"""The program; Debian's package of that name has it."""


LEAK_MB_PER_MIN: Final = 60.0

APP: Final = """
import http.server, random, sys, threading, time
import psutil

port, mb_per_min = int(sys.argv[1]), float(sys.argv[2])
process = psutil.Process()
kept = []

def leak(started=time.monotonic()):
    # by the clock: a busy machine makes it late, not slower
    while True:
        due = (time.monotonic() - started) * mb_per_min / 60 * 1e6
        while len(kept) * 50_000 < due:
            kept.append(b"x" * 50_000)
        scratch = b"y" * random.randrange(200_000, 400_000)
        time.sleep(0.05)

class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"process_resident_memory_bytes {process.memory_info().rss}\\n"
        text += f"process_start_time_seconds {process.create_time()}\\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass

threading.Thread(target=leak, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", port), Metrics).serve_forever()
"""
"""One instance of a service: leaks at a rate, and tells its memory as every client library does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """One instance as Kubernetes' service discovery would label it."""

    name: str
    mb_per_min: float
    limit_bytes: int = 0
    restarts: bool = False


PODS: Final = (
    Pod("api-6d4cf56db6-x2x4z", LEAK_MB_PER_MIN, 512 << 20),
    Pod("api-6d4cf56db6-8zk5q", LEAK_MB_PER_MIN, 512 << 20),
    Pod("api-6d4cf56db6-m7wvt", LEAK_MB_PER_MIN, 512 << 20),
    Pod("web-7b9c5f8d4-lq2nn", 0, 256 << 20),
    Pod("web-7b9c5f8d4-pt9rd", 0, 256 << 20, restarts=True),
    Pod("queue-0", LEAK_MB_PER_MIN),
    Pod("queue-1", 0),
)
"""shop/api leaks in all replicas, shop/queue in one of two, shop/web in none."""


@contextlib.contextmanager
def scraped(
    folder: Path, pods: tuple[Pod, ...] = PODS, most_samples: int = 50_000_000
) -> Iterator[tuple[str, Callable[[], None]]]:
    """A Prometheus that scrapes the pods: its URL, and what restarts those pods that do restart.

    It refuses what takes more than `most_samples`; 50 million are its default.
    """
    ports = [free_port() for _ in pods]
    with contextlib.ExitStack() as stack:
        limits = stack.enter_context(answering(lambda path, query: (200, "text/plain", _limits(pods))))
        running = [
            stack.enter_context(contextlib.closing(Instance(port, pod))) for port, pod in zip(ports, pods, strict=True)
        ]
        (folder / "prometheus.yml").write_text(json.dumps(_scraping(pods, ports, limits)), encoding="utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error",
            f"--query.max-samples={most_samples}",
        ]  # fmt: skip
        with (folder / "prometheus.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(_end, server)
        until(lambda: _answers(f"{url}/-/ready"), "Prometheus is ready")

        def restart() -> None:
            for instance in running:
                if instance.pod.restarts:
                    instance.restart()

        yield url, restart


class Instance:
    """A process of the app, which can be started again at the same port."""

    def __init__(self, port: int, pod: Pod) -> None:
        self.pod = pod
        self._command = [sys.executable, "-c", APP, str(port), str(pod.mb_per_min)]
        self._process = subprocess.Popen(self._command)

    def restart(self) -> None:
        self.close()
        self._process = subprocess.Popen(self._command)

    def close(self) -> None:
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _scraping(pods: tuple[Pod, ...], ports: list[int], limits: str) -> dict[str, Any]:
    """The configuration; JSON is YAML."""
    labelled = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"namespace": "shop", "pod": pod.name, "container": pod.name.split("-")[0]},
        }
        for pod, port in zip(pods, ports, strict=True)
    ]
    return {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [
            {"job_name": "pods", "static_configs": labelled},
            {
                "job_name": "kube-state-metrics",
                "honor_labels": True,
                "static_configs": [{"targets": [limits.removeprefix("http://")]}],
            },
        ],
    }


def _limits(pods: tuple[Pod, ...]) -> str:
    """What kube-state-metrics says of the pods that have a limit."""
    return "".join(
        f'kube_pod_container_resource_limits{{namespace="shop",pod="{pod.name}",container="{pod.name.split("-")[0]}",'
        f'resource="memory",unit="byte"}} {pod.limit_bytes}\n'
        for pod in pods
        if pod.limit_bytes
    )


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def record(seconds: float, file: Path) -> None:
    """What a real Prometheus answers after so many seconds, to each question that `memleak fleet` asks."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, scraped(Path(folder)) as (url, restart):
        time.sleep(seconds / 2)
        restart()
        time.sleep(seconds / 2)
        now = time.time()
        grid = {"start": f"{now - seconds:.3f}", "end": f"{now:.3f}", "step": "0.5"}
        asked: list[tuple[str, str, dict[str, str]]] = [
            ("query_range", "process_resident_memory_bytes", grid),
            ("query_range", "process_start_time_seconds", grid),
            ("query", 'max_over_time(kube_pod_container_resource_limits{resource="memory"}[10m])', {}),
            ("query_range", "sum(", grid),
            ("query_range", "nothing_like_this", grid),
            ("query_range", "up", {**grid, "step": "0.001"}),
        ]
        answers = []
        for path, query, more in asked:
            where = f"{url}/api/v1/{path}?{urllib.parse.urlencode({'query': query, **more})}"
            try:
                with urllib.request.urlopen(where) as answer:
                    status, body = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, error.read()
            answers.append({"path": path, "query": query, "status": status, "answer": json.loads(body)})
    file.write_text("[\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in answers) + "\n]\n")


if __name__ == "__main__":
    record(float(sys.argv[1]), Path(sys.argv[2]))
