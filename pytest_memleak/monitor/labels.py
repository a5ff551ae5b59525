"""Labels with an end: at most so many values, and none of yesterday's."""

from __future__ import annotations

import math
import os

from prometheus_client import Gauge


def shared_folder() -> str:
    """Where prometheus_client keeps the values of all workers; empty where each process has its own."""
    # It reads the second name yet, and sets the first from it later on.
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or os.environ.get("prometheus_multiproc_dir", "")  # noqa: SIM112


def is_multiprocess() -> bool:
    """Whether prometheus_client keeps this process's values in files for all workers."""
    return bool(shared_folder())


class Labels:
    """The values that one label of a gauge has: at most so many, and the old ones gone when new ones come."""

    def __init__(self, gauge: Gauge, most: int, others: str) -> None:
        self._gauge = gauge
        self._most = most
        self._others = others
        self._known: set[str] = set()
        self._now: set[str] = set()

    def show(self, values: dict[str, float]) -> None:
        """These and no others."""
        shown: dict[str, float] = {}
        for name, value in values.items():
            label = bounded(name, self._known, self._most, self._others)
            shown[label] = shown.get(label, 0.0) + value
        for label in self._now - set(shown):
            if is_multiprocess():
                self._gauge.labels(label).set(math.nan)  # nothing can be taken out of a file
            else:
                self._gauge.remove(label)
                self._known.discard(label)
        for label, value in shown.items():
            self._gauge.labels(label).set(value)
        self._now = set(shown)


def bounded(name: str, known: set[str], most: int, others: str) -> str:
    """The name, or that for all others where there are too many already."""
    if name not in known:
        if len(known) >= most:
            return others
        known.add(name)
    return name
