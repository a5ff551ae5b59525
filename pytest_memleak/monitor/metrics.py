"""The monitor's metrics for Prometheus: into the program's registry, on its `/metrics` or on a port of their own.

    Monitor ─► listeners ─► Instruments ─► registry ─► /metrics
                                 └─► files of PROMETHEUS_MULTIPROC_DIR ─► whichever worker is asked

Where another owns one of the names, all of ours go into a registry of their own, and a scrape of ours shows both.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import prometheus_client
import psutil
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Metric, multiprocess
from prometheus_client.exposition import choose_encoder
from starlette.routing import Match, Route

from pytest_memleak.monitor.endpoint_series import OwnEndpoints
from pytest_memleak.monitor.gate import NOT_OURS
from pytest_memleak.monitor.instruments import Instruments
from pytest_memleak.monitor.labels import is_multiprocess, shared_folder
from pytest_memleak.monitor.state import Monitor

PATH: Final = "/metrics"

# `gauge_liveall_1234.db`: what counts only while its worker lives.
_LIVE_FILE: Final = re.compile(r"gauge_live[a-z]+_(\d+)\.db")


class Metrics:
    """The metrics of one monitor, from `attach` to `detach`."""

    def __init__(self, monitor: Monitor, registry: CollectorRegistry | None = None) -> None:
        self.monitor = monitor
        self.shared = registry or prometheus_client.REGISTRY
        try:
            self.instruments = Instruments(monitor, self.shared)
        except ValueError:
            self.instruments = Instruments(monitor, CollectorRegistry())
        made = self.instruments
        self._listeners: list[tuple[list[Any], Any]] = [
            (monitor.on_reading, made.on_reading),
            (monitor.on_collection, made.on_collection),
            (monitor.on_sample, made.on_sample),
            (monitor.on_walk, made.on_walk),
            (monitor.on_judged, made.on_judged),
            (monitor.on_worker_start, self.on_worker_start),
            (monitor.on_worker_exit, self.on_worker_exit),
        ]
        for listeners, listener in self._listeners:
            listeners.append(listener)

    def detach(self) -> None:
        """Listen no more, and leave the registry as it was found."""
        for listeners, listener in self._listeners:
            with contextlib.suppress(ValueError):
                listeners.remove(listener)
        self._listeners.clear()
        self.instruments.unregister()

    def on_worker_start(self) -> None:
        """This process begins, perhaps as a fork: its parent's counts stay its parent's."""
        self.instruments.forget()
        remove_dead_workers()

    def on_worker_exit(self) -> None:
        """This process is no worker any more: its memory is none of the sum."""
        if is_multiprocess():
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics as text in the format that the scraper likes best, and its content type."""
        self.monitor.hand_out()
        self.instruments.catch_up()
        encode, content_type = choose_encoder(accept if _wants_openmetrics(accept) else "text/plain")
        own = self.instruments.registry
        if is_multiprocess():
            remove_dead_workers()
            merged = CollectorRegistry()
            merged.register(_Merged())
            return encode(merged), content_type
        both = own if own is self.shared else _Both(self.shared, own)
        series = self.instruments.endpoints
        if not isinstance(series, OwnEndpoints) or "openmetrics" in content_type:
            return encode(both), content_type
        series.silent.on = True
        try:
            return encode(both) + series.text(), content_type
        finally:
            series.silent.on = False


def _wants_openmetrics(accept: str) -> bool:
    """Whether the scraper takes nothing else. Prometheus takes both, and the older format is written fast."""
    return "openmetrics" in accept and "text/plain" not in accept and "*/*" not in accept


class _Both:
    """Two registries as one: of a name that both have, the program's own."""

    def __init__(self, first: CollectorRegistry, second: CollectorRegistry) -> None:
        self._registries = (first, second)

    def collect(self) -> Iterable[Metric]:
        seen: set[str] = set()
        for registry in self._registries:
            found = [metric for metric in registry.collect() if metric.name not in seen]
            seen.update(metric.name for metric in found)
            yield from found


class _Merged:
    """All workers' values out of their files, without those that a worker has withdrawn."""

    def collect(self) -> Iterable[Metric]:
        collector: Any = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        for metric in collector.collect():
            metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
            yield metric


def remove_dead_workers() -> list[int]:
    """Remove the live gauges of workers that are gone without a word, as after SIGKILL; whose they were."""
    folder = shared_folder()
    if not folder:
        return []
    found = (_LIVE_FILE.fullmatch(path.name) for path in Path(folder).glob("gauge_live*.db"))
    dead = sorted({int(match[1]) for match in found if match} - set(psutil.pids()))
    for pid in dead:
        # Another worker may be at the same.
        with contextlib.suppress(FileNotFoundError):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    return dead


def metrics_app(metrics: Metrics | Monitor) -> Callable[[Any, Any, Any], Any]:
    """An ASGI app that answers each GET with the metrics: for a port of their own, or to mount."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        source = metrics if isinstance(metrics, Metrics) else _METRICS.get(id(metrics))
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, b"", [(b"allow", b"GET, HEAD")])
            return
        if source is None:
            await _answer(send, 503, b"no metrics are attached\n", [])
            return
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        text, content_type = source.render(accept)
        body = b"" if scope["method"] == "HEAD" else text
        await _answer(
            send, 200, body, [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(text))]
        )

    return app


async def _answer(send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def metrics_route(monitor: Monitor) -> Route:
    """`/metrics`, for a port of their own: a mounted app would send every scrape on to `/metrics/`."""
    return Route(PATH, _Endpoint(monitor), include_in_schema=False)


class _MetricsRoute(Route):
    """`/metrics`, before a route that takes every path; it gives way to one that the program adds later."""

    def __init__(self, app: FastAPI, endpoint: Any) -> None:
        super().__init__(PATH, endpoint, include_in_schema=False)
        self._program = app

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Whether the request is for this route."""
        # First what is known at once: to look through the app's routes for each of its requests costs 0.1 µs apiece.
        if not scope["path"].endswith(PATH) or _has_metrics(self._program, self):
            return NOT_OURS
        return super().matches(scope)


def _has_metrics(app: FastAPI, but: Any = None) -> bool:
    return any(route is not but and getattr(route, "path", None) == PATH for route in app.routes)


class _Endpoint:
    """Not a function: Starlette calls an object as the ASGI app that it is."""

    def __init__(self, metrics: Metrics | Monitor) -> None:
        self._app = metrics_app(metrics)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


_METRICS: Final[dict[int, Metrics]] = {}
"""By the identity of their monitor, from `attach` to its undoing."""


def attach(app: FastAPI, monitor: Monitor) -> Callable[[], None]:
    """Metrics for a monitor, on the app's `/metrics` if its settings want that; gives what undoes all of it.

    An app that has a `/metrics` of its own shows ours there, as long as that shows prometheus_client's registry.
    """
    metrics = _METRICS[id(monitor)] = Metrics(monitor)
    route: _MetricsRoute | None = None
    if monitor.settings.metrics and monitor.settings.port is None:
        route = _MetricsRoute(app, _Endpoint(metrics))
        app.router.routes.insert(0, route)

    def detach() -> None:
        _METRICS.pop(id(monitor), None)
        metrics.detach()
        if route in app.router.routes:
            app.router.routes.remove(route)

    return detach
