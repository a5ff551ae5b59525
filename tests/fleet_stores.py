"""Stores with scripted answers: what a Prometheus may say, what one did say, and fleets that are made up."""

from __future__ import annotations

import contextlib
import http.server
import json
import random
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parent / "fleet_recorded.json"

NOW: Final = 1_000_000.0
MEMORY: Final = "process_resident_memory_bytes"


Answer = tuple[int, str, str]
"""A status, a content type, a body."""


@contextlib.contextmanager
def answering(answer: Callable[[str, Mapping[str, str]], Answer]) -> Iterator[str]:
    """A server whose answers (status, content type, body) to a path and a query are scripted."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            self._give(parts.path, parts.query)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._give(urllib.parse.urlsplit(self.path).path, body)

        def _give(self, path: str, query: str) -> None:
            asked = dict(urllib.parse.parse_qsl(query))
            asked.update({f"header {name.lower()}": value for name, value in self.headers.items()})
            status, kind, text = answer(path, asked)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def matrix(series: list[tuple[dict[str, str], list[tuple[float, Any]]]], **more: Any) -> str:
    """A range query's answer."""
    result = [{"metric": labels, "values": [[when, str(value)] for when, value in values]} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more})


def vector(samples: list[tuple[dict[str, str], float]]) -> str:
    """An instant query's answer."""
    result = [{"metric": labels, "value": [0, str(value)]} for labels, value in samples]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def replayed(path: str, asked: Mapping[str, str]) -> Answer:
    """What the real Prometheus answered when it was asked that, whatever the time."""
    name, query = path.removeprefix("/api/v1/"), asked.get("query", "")
    for one in json.loads(RECORDED.read_text(encoding="utf-8")):
        if one["path"] == name and one["query"] == query:
            return one["status"], "application/json", json.dumps(one["answer"])
    return 200, "application/json", matrix([]) if name == "query_range" else vector([])


def error(status: int, words: str) -> Callable[[str, Mapping[str, str]], Answer]:
    body = json.dumps({"status": "error", "errorType": "execution", "error": words})
    return lambda path, asked: (status, "application/json", body)


def plain(status: int, body: str) -> Callable[[str, Mapping[str, str]], Answer]:
    return lambda path, asked: (status, "text/html", body)


def fleet_of(*slopes: float, noise: float = 1e5) -> Callable[[str, Mapping[str, str]], Answer]:
    """Pods of one deployment that grow so many bytes a second."""

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if path != "/api/v1/query_range" or asked["query"] != MEMORY:
            return 200, "application/json", matrix([]) if path.endswith("range") else vector([])
        return (
            200,
            "application/json",
            matrix(
                [
                    ({"pod": f"api-6d4cf56db6-x2x4{'bcdf'[number]}"}, grown(slope, number, asked, noise))
                    for number, slope in enumerate(slopes)
                ]
            ),
        )

    return answer


def grown(slope: float, number: int, asked: Mapping[str, str], noise: float) -> list[tuple[float, Any]]:
    start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
    chance = random.Random(f"{number} {start}")
    times = [start + at * step for at in range(round((end - start) / step) + 1)]
    return [(when, round(6e8 + slope * (when - NOW) + chance.gauss(0, noise))) for when in times]
