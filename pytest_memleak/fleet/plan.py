"""What is asked of a store, checked before it is asked."""

from __future__ import annotations

import dataclasses
import math
import urllib.parse
from typing import Final

from pytest_memleak.model_watch import Thresholds
from pytest_memleak.reports.fleet_text import span_words
from pytest_memleak.units import format_count

MOST_POINTS: Final = 11_000
"""What Prometheus gives of one series at most; it refuses a finer question."""

# Seven readings for each of the trend judge's batches: their median drops outliers, and more would only cost.
_WANTED_POINTS: Final = 240

# Prometheus is rarely told to scrape more often, and a finer grid repeats readings.
_LEAST_STEP_S: Final = 15.0

# The store's own grid is of milliseconds.
_FINEST_STEP_S: Final = 0.001

# What is worth a conviction over a long span: 60 MB, which in an hour is the contract's 1 MB/min. Below 1 MB an hour,
# 8.8 GB a year, the next deployment ends the process before it hurts.
_LARGEST_LIMIT: Final = 1.0
_GAIN_MB: Final = 60.0
_SMALLEST_LIMIT: Final = 1 / 60


class FleetError(Exception):
    """What was asked for cannot be had; the message is one sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A question to a store. 0 and empty stand for "as it fits": the step, the query, the grouping, the limit."""

    url: str
    query: str = ""
    span_s: float = 6 * 3600.0
    step_s: float = 0.0
    group_by: tuple[str, ...] = ()
    limit_mb_per_min: float | None = None
    high: float | None = None
    critical: float | None = None
    token: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 60.0

    def limit(self, seconds: float) -> float:
        """The growth that a replica which was seen for so long may have, in MB/min."""
        if self.limit_mb_per_min is not None:
            return self.limit_mb_per_min
        return default_limit(min(seconds, self.span_s))

    def thresholds(self, seconds: float) -> Thresholds:
        """From which growth on it is a leak, and how bad a one."""
        usual, limit = Thresholds(), self.limit(seconds)
        # What is not said gives way to what is: a limit above 5 MB/min needs no --high beside it.
        high = max(usual.high, limit) if self.high is None else self.high
        critical = max(usual.critical, high) if self.critical is None else self.critical
        return Thresholds(medium=limit, high=high, critical=critical)


def default_limit(seconds: float) -> float:
    """1 MB/min up to an hour, then 60 MB over the whole time, and never less than 1 MB an hour; in MB/min."""
    return min(_LARGEST_LIMIT, max(_SMALLEST_LIMIT, _GAIN_MB / (seconds / 60))) if seconds else _LARGEST_LIMIT


def default_step(span_s: float, scraped_s: float = 0.0) -> float:
    """Seconds between the points: about 240 of them, none finer than the store scrapes."""
    return float(math.ceil(max(_LEAST_STEP_S, span_s / _WANTED_POINTS, scraped_s)))


def checked(plan: Plan) -> Plan:
    """The plan itself. Raises FleetError."""
    parts = urllib.parse.urlsplit(plan.url)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise FleetError(f"--prometheus: expects http://HOST:PORT, got {plan.url!r}")
    if plan.step_s and not _FINEST_STEP_S <= plan.step_s <= plan.span_s:
        raise FleetError(
            f"--step: expects from {_FINEST_STEP_S:g} s to the --range of {span_words(plan.span_s)}, "
            f"got {plan.step_s:g} s"
        )
    points = plan.span_s / plan.step_s if plan.step_s else 0
    if points > MOST_POINTS:
        raise FleetError(
            f"--step: {span_words(plan.span_s)} in steps of {plan.step_s:g} s are {format_count(round(points))} "
            f"points of each series, and Prometheus gives {format_count(MOST_POINTS)}: "
            f"take --step {math.ceil(plan.span_s / MOST_POINTS)}s or longer"
        )
    thresholds = plan.thresholds(0.0)
    levels = (thresholds.medium, thresholds.high, thresholds.critical)
    if not all(math.isfinite(level) and level >= 0 for level in levels) or list(levels) != sorted(levels):
        raise FleetError(
            "--max-mb-per-min, --high and --critical have to be numbers that rise, got "
            + ", ".join(f"{level:g}" for level in levels)
        )
    return plan
