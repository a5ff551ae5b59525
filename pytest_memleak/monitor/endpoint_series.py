"""The metrics that there are once for each endpoint: five hundred of them, and a scrape in milliseconds.

prometheus_client takes 7 µs a line, and these are 7,000 lines. So where one process answers for itself they are kept
here, a template of text for each endpoint, and written at once; the registry gets them as any collector's. With
files for many workers (`SharedEndpoints`) they are prometheus_client's own.
"""

from __future__ import annotations

import bisect
import math
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from pytest_memleak.model_monitor import OTHERS
from pytest_memleak.monitor.labels import Labels, bounded

# By tens from what an object takes to what a leak of some requests kills a worker with, on both sides of zero: a
# request may also free what an earlier one kept.
BUCKETS: Final = (-1e8, -1e6, -1e4, 0.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)

_BOUNDS: Final[list[str]] = [floatToGoString(bound) for bound in (*BUCKETS, math.inf)]  # type: ignore[no-untyped-call]

# The monitor's own bound, with its two names for all others.
MOST_ENDPOINTS: Final = 502

DELTA: Final = ("endpoint_memory_delta_bytes", "Change of live memory over a request; of the sampled requests.")
GROWN: Final = ("memleak_endpoint_grown_bytes_total", "Live memory that the sampled requests added.")
RELEASED: Final = ("memleak_endpoint_released_bytes_total", "Live memory that the sampled requests freed.")
REQUESTS: Final = ("memleak_endpoint_requests_total", "Requests that are over.")
KEPT: Final = (
    "memleak_endpoint_kept_bytes_per_request",
    "Growth of live memory by request, from the regression over all requests.",
)


class Endpoints(Protocol):
    """One store for a process that answers for itself, one for many workers."""

    def sample(self, endpoint: str, delta_bytes: int) -> None:
        """A request was looked at."""

    def finished(self, counts: Mapping[str, int]) -> None:
        """So many requests are over in this process."""

    def kept(self, bytes_per_request: Mapping[str, float]) -> None:
        """What the last verdict says, of the endpoints that it speaks of."""

    def forget(self) -> None:
        """A forked child begins anew."""

    def unregister(self) -> None:
        """Leave the registry."""


class OwnEndpoints:
    """A collector of one process. Raises ValueError where the registry has one of its names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.silent = threading.local()
        """`.on` while a scrape in this thread takes `text` instead."""

        self.forget()
        registry.register(self)

    def forget(self) -> None:
        """A forked child begins anew: a thread of its parent's may have held the lock."""
        self._turn = threading.Lock()
        self._known: set[str] = set()
        self._buckets: dict[str, array[int]] = {}
        self._sums: dict[str, array[float]] = {}
        self._finished: dict[str, int] = {}
        self._kept: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._templates: dict[str, str] = {}

    def unregister(self) -> None:
        """Leave the registry."""
        self._registry.unregister(self)

    def sample(self, endpoint: str, delta_bytes: int) -> None:
        """A request was looked at."""
        with self._turn:
            endpoint = self._bounded(endpoint)
            buckets = self._buckets.get(endpoint)
            if buckets is None:
                buckets = self._buckets[endpoint] = array("q", bytes(8 * (len(BUCKETS) + 1)))
                self._sums[endpoint] = array("d", bytes(16))
            # Cumulative, as the format wants them.
            for at in range(bisect.bisect_left(BUCKETS, delta_bytes), len(buckets)):
                buckets[at] += 1
            self._sums[endpoint][delta_bytes < 0] += abs(delta_bytes)

    def finished(self, counts: Mapping[str, int]) -> None:
        """So many requests are over in this process."""
        summed: dict[str, int] = {}
        with self._turn:
            for endpoint, count in list(counts.items()):
                name = self._bounded(endpoint)
                summed[name] = summed.get(name, 0) + count
            self._finished = summed

    def kept(self, bytes_per_request: Mapping[str, float]) -> None:
        """What the last verdict says."""
        with self._turn:
            self._kept = {self._bounded(endpoint): value for endpoint, value in bytes_per_request.items()}

    def _bounded(self, endpoint: str) -> str:
        return bounded(endpoint, self._known, MOST_ENDPOINTS, OTHERS)

    def describe(self) -> Iterable[Metric]:
        """The names, for the registry's look for doubles."""
        return self._families()

    def collect(self) -> Iterator[Metric]:
        """For whoever scrapes the registry."""
        if getattr(self.silent, "on", False):
            return
        delta, grown, released, requests, kept = self._families()
        with self._turn:
            for endpoint, buckets in self._buckets.items():
                # No sum of signed numbers: rate() would take each fall for a restart. And without a sum OpenMetrics
                # allows no count.
                delta.add_metric([endpoint], list(zip(_BOUNDS, map(float, buckets), strict=True)), None)
                grown.add_metric([endpoint], self._sums[endpoint][0])
                released.add_metric([endpoint], self._sums[endpoint][1])
            for endpoint, count in self._finished.items():
                requests.add_metric([endpoint], count)
            for endpoint, value in self._kept.items():
                kept.add_metric([endpoint], value)
        yield from (delta, grown, released, requests, kept)

    @staticmethod
    def _families() -> tuple[
        HistogramMetricFamily, CounterMetricFamily, CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily
    ]:
        return (
            HistogramMetricFamily(*DELTA, labels=["endpoint"]),
            CounterMetricFamily(*GROWN, labels=["endpoint"]),
            CounterMetricFamily(*RELEASED, labels=["endpoint"]),
            CounterMetricFamily(*REQUESTS, labels=["endpoint"]),
            GaugeMetricFamily(*KEPT, labels=["endpoint"]),
        )

    def text(self) -> bytes:
        """The same in the text format 0.0.4."""
        with self._turn:
            lines = [_head(DELTA, "histogram")]
            lines += [self._template(endpoint) % (*buckets, buckets[-1]) for endpoint, buckets in self._buckets.items()]
            for at, family in enumerate((GROWN, RELEASED)):
                lines.append(_head(family, "counter"))
                lines += [self._line(family[0], endpoint, sums[at]) for endpoint, sums in self._sums.items()]
            lines.append(_head(REQUESTS, "counter"))
            lines += [self._line(REQUESTS[0], endpoint, count) for endpoint, count in self._finished.items()]
            lines.append(_head(KEPT, "gauge"))
            lines += [self._line(KEPT[0], endpoint, value) for endpoint, value in self._kept.items()]
        return "".join(lines).encode()

    def _line(self, name: str, endpoint: str, value: float) -> str:
        return f"{name}{{{self._label(endpoint)}}} {float(value)!r}\n"

    def _label(self, endpoint: str) -> str:
        label = self._names.get(endpoint)
        if label is None:
            escaped = endpoint.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
            label = self._names[endpoint] = f'endpoint="{escaped}"'
        return label

    def _template(self, endpoint: str) -> str:
        template = self._templates.get(endpoint)
        if template is None:
            label = self._label(endpoint).replace("%", "%%")
            lines = [f'{DELTA[0]}_bucket{{{label},le="{bound}"}} %d.0\n' for bound in _BOUNDS]
            template = self._templates[endpoint] = "".join([*lines, f"{DELTA[0]}_count{{{label}}} %d.0\n"])
        return template


def _head(family: tuple[str, str], kind: str) -> str:
    name, words = family
    return f"# HELP {name} {words}\n# TYPE {name} {kind}\n"


class SharedEndpoints:
    """Of one worker among many: prometheus_client adds its files up. Raises ValueError where a name is taken."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: list[Histogram | Counter | Gauge] = []
        label = ("endpoint",)
        try:
            self._delta = Histogram(*DELTA, label, registry=registry, buckets=BUCKETS)
            self._made.append(self._delta)
            self._grown, self._released, self._requests = (
                self._counter(family) for family in (GROWN, RELEASED, REQUESTS)
            )
            gauge = Gauge(*KEPT, label, registry=registry, multiprocess_mode="liveall")
            self._made.append(gauge)
        except ValueError:
            self.unregister()
            raise
        self._kept = Labels(gauge, MOST_ENDPOINTS, OTHERS)
        self.forget()

    def _counter(self, family: tuple[str, str]) -> Counter:
        made = Counter(*family, ("endpoint",), registry=self._registry)
        self._made.append(made)
        return made

    def forget(self) -> None:
        """A forked child begins anew."""
        self._known: set[str] = set()
        self._counted: dict[str, int] = {}

    def unregister(self) -> None:
        """Leave the registry."""
        for metric in self._made:
            self._registry.unregister(metric)
        self._made.clear()

    def sample(self, endpoint: str, delta_bytes: int) -> None:
        """A request was looked at."""
        endpoint = bounded(endpoint, self._known, MOST_ENDPOINTS, OTHERS)
        self._delta.labels(endpoint).observe(delta_bytes)
        self._grown.labels(endpoint).inc(max(0, delta_bytes))
        self._released.labels(endpoint).inc(max(0, -delta_bytes))

    def finished(self, counts: Mapping[str, int]) -> None:
        """So many requests are over in this process."""
        for endpoint, count in list(counts.items()):
            new = count - self._counted.get(endpoint, 0)
            if new > 0:
                self._requests.labels(bounded(endpoint, self._known, MOST_ENDPOINTS, OTHERS)).inc(new)
                self._counted[endpoint] = count

    def kept(self, bytes_per_request: Mapping[str, float]) -> None:
        """What the last verdict says."""
        self._kept.show({name: value for name, value in bytes_per_request.items() if math.isfinite(value)})
