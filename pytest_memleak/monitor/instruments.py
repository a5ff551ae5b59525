"""What is measured, as Prometheus's metrics: names, units, buckets, and how they are brought up to date.

Every value is pushed when it is known, none computed by a callback: in the multi-process mode of prometheus_client
a worker's values are read from files, by whichever worker is asked.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pytest_memleak.model_monitor import Collection, Judged, Reading, Sample, Walk
from pytest_memleak.monitor.endpoint_series import OwnEndpoints, SharedEndpoints
from pytest_memleak.monitor.labels import Labels, is_multiprocess
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.units import MB

_Made = TypeVar("_Made", Counter, Gauge, Histogram)

# From a collection of the youngest generation to a full one of ten million objects (0.1 µs each: 1 s).
PAUSE_BUCKETS_MS: Final = (0.1, 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)

TOP_TYPES: Final = 10

# A program may make classes as it runs: of all that ever were among the ten, so many get a name.
_MOST_TYPES: Final = 50
OTHER_TYPES: Final = "(other types)"

NOT_TOLD_APART: Final = "(not told apart)"
"""Endpoints whose requests always came together: their growth is none's in particular."""

VERDICTS: Final = ("clean", "leak", "inconclusive")


class Instruments:
    """The metrics in a registry. Raises ValueError where one of the names is taken there."""

    def __init__(self, monitor: Monitor, registry: CollectorRegistry) -> None:
        self.monitor = monitor
        self.registry = registry
        self._made: list[Any] = []
        self.endpoints: OwnEndpoints | SharedEndpoints | None = None
        try:
            self._make()
            self.endpoints = SharedEndpoints(registry) if is_multiprocess() else OwnEndpoints(registry)
        except ValueError:
            self.unregister()
            raise
        self.forget()

    def _make(self) -> None:
        gauge, counter, histogram = self._gauge, self._counter, self._histogram
        by_generation = ("generation",)
        self.rss = gauge("process_rss_bytes", "Resident memory; only the stage that the process is in.", ("stage",))
        self.vms = gauge("process_vms_bytes", "Virtual memory.")
        self.gc_ms = histogram(
            "gc_duration_ms", "Pause of a garbage collection, milliseconds.", by_generation, PAUSE_BUCKETS_MS
        )
        self.gc_runs = counter("gc_collections_total", "Garbage collections.", by_generation)
        self.live = gauge("memleak_live_heap_bytes", "Bytes that Python's allocator and the C heap have handed out.")
        self.pause = histogram(
            "memleak_gc_pause_seconds",
            "Pause of a garbage collection.",
            by_generation,
            tuple(bucket / 1000 for bucket in PAUSE_BUCKETS_MS),
        )
        objects = gauge(
            "memleak_tracked_objects", "Objects of the commonest types at the last walk.", ("type",), mode="livesum"
        )
        self.objects = Labels(objects, _MOST_TYPES, OTHER_TYPES)
        self.growth = gauge("memleak_growth_bytes_per_second", "Growth of memory, as the last verdict has it.")
        self.verdict = gauge("memleak_verdict", "1 for the last verdict, 0 for the others.", ("verdict",))
        self.uptime = gauge("memleak_uptime_seconds", "Since the monitor started in this process.")

    def _gauge(self, name: str, words: str, labels: Iterable[str] = (), mode: Any = "liveall") -> Gauge:
        return self._keep(Gauge(name, words, labels, registry=self.registry, multiprocess_mode=mode))

    def _counter(self, name: str, words: str, labels: Iterable[str]) -> Counter:
        return self._keep(Counter(name, words, labels, registry=self.registry))

    def _histogram(self, name: str, words: str, labels: Iterable[str], buckets: tuple[float, ...]) -> Histogram:
        return self._keep(Histogram(name, words, labels, registry=self.registry, buckets=buckets))

    def _keep(self, metric: _Made) -> _Made:
        self._made.append(metric)
        return metric

    def unregister(self) -> None:
        """Take them out of the registry."""
        for metric in self._made:
            self.registry.unregister(metric)
        self._made.clear()
        if self.endpoints is not None:
            self.endpoints.unregister()
            self.endpoints = None

    def forget(self) -> None:
        """A process begins: what was counted already belongs to its parent."""
        # The collector's thread and a scrape may bring the counters up to date at once.
        self._turn = threading.Lock()
        self._runs: dict[int, int] = {}
        if self.endpoints is not None:
            self.endpoints.forget()
        self._stage = ""

    # What the monitor tells.

    def on_reading(self, reading: Reading) -> None:
        """Every few seconds: the figures of now."""
        self._show_rss(reading.rss_bytes)
        self.vms.set(reading.vms_bytes)
        if reading.live_bytes >= 0:
            self.live.set(reading.live_bytes)
        self.catch_up()

    def catch_up(self) -> None:
        """Bring the counters to where the monitor's own are."""
        self.uptime.set(max(0.0, time.time() - self.monitor.started_s))
        with self._turn:
            if self.endpoints is not None:
                self.endpoints.finished(self.monitor.requests.finished)
            for totals in self.monitor.gc.totals():
                new = totals.collections - self._runs.get(totals.generation, 0)
                self.gc_runs.labels(str(totals.generation)).inc(max(0, new))
                self._runs[totals.generation] = totals.collections

    def on_collection(self, collection: Collection) -> None:
        """A garbage collection was."""
        generation = str(collection.generation)
        self.gc_ms.labels(generation).observe(collection.pause_s * 1000)
        self.pause.labels(generation).observe(collection.pause_s)

    def on_sample(self, sample: Sample) -> None:
        """A request was looked at."""
        if self.endpoints is not None:
            self.endpoints.sample(sample.endpoint, sample.delta_bytes)

    def on_walk(self, walk: Walk) -> None:
        """The heap was walked."""
        top = sorted(walk.counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_TYPES]
        self.objects.show({name: float(count) for name, count in top})

    def on_judged(self, judged: Judged) -> None:
        """There is a verdict."""
        word = judged.verdict.outcome.value.lower()
        for verdict in VERDICTS:
            self.verdict.labels(verdict).set(verdict == word)
        self.growth.set(judged.verdict.rate.value * MB / 60)
        kept: dict[str, float] = {}
        for found in judged.endpoints:
            name = found.endpoints[0] if len(found.endpoints) == 1 else NOT_TOLD_APART
            value = found.bytes_per_request.value
            if math.isfinite(value):
                kept[name] = max(kept.get(name, value), value)
        if self.endpoints is not None:
            self.endpoints.kept(kept)

    def _show_rss(self, rss_bytes: int) -> None:
        stage = self.monitor.stage
        if self._stage and self._stage != stage:
            if is_multiprocess():
                self.rss.labels(self._stage).set(math.nan)
            else:
                self.rss.remove(self._stage)
        self._stage = stage
        self.rss.labels(stage).set(rss_bytes)
