"""What is asked of a store, in PromQL."""

from __future__ import annotations

import re
from typing import Final

PROCESSES: Final = "process_resident_memory_bytes"
CONTAINERS: Final = 'container_memory_working_set_bytes{container!="",container!="POD"}'

DEFAULTS: Final = (PROCESSES, CONTAINERS)
"""Which memory is asked for where nothing is said, the first that the store has: what an app tells of itself, else
what the kubelet does."""

LIMITS: Final = (
    'max_over_time(kube_pod_container_resource_limits{resource="memory"}[10m])',
    "max_over_time(kube_pod_container_resource_limits_memory_bytes[10m])",
    'max_over_time(container_spec_memory_limit_bytes{container!="",container!="POD"}[10m]) > 0',
)
"""Limits by namespace, pod and container: kube-state-metrics' (from 2.0 on, and before), and cAdvisor's. Of the last
minutes, since a scrape that failed just now leaves nothing to an instant."""

NO_LIMIT: Final = float(1 << 60)
"""cAdvisor writes "no limit" as the largest multiple of a page; nobody has so much memory."""

SCRAPES_S: Final = 600.0
"""In so long a scrape every five minutes shows twice."""

_PLAIN: Final = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(\{[^{}]*\})?\s*")

_STARTS: Final = (
    (re.compile(r"process_\w+_bytes"), "process_start_time_seconds"),
    (re.compile(r"container_memory_\w+"), "container_start_time_seconds"),
)

_MEMORY: Final = re.compile(r"(resident|rss|working_set|memory).*bytes$")
_SHOWN: Final = 6


def start_times(query: str) -> str:
    """The query that gives the start times of the same processes; empty where none is known."""
    found = _PLAIN.fullmatch(query)
    if found is None:
        return ""
    name, matchers = found[1] or "", found[2] or ""
    return next((f"{start}{matchers}" for memory, start in _STARTS if memory.fullmatch(name)), "")


def scrapes(query: str) -> str:
    """The query that gives how often most of the series were read of late; empty for an expression."""
    if not query.strip() or _PLAIN.fullmatch(query) is None:
        return ""
    return f"quantile(0.5, count_over_time({query.strip()}[{SCRAPES_S:.0f}s]))"


def alike(names: list[str]) -> list[str]:
    """Those metrics that look like memory, for who asked for one that is not there."""
    return [name for name in sorted(names) if _MEMORY.search(name)][:_SHOWN]
