"""What the endpoints answer, as plain values; `answers` has their shapes."""

from __future__ import annotations

import gc
import math
import platform
import sys
import time
from typing import Any, Final

import psutil

from pytest_memleak.model_monitor import Judged, Reading, Walk
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import TrackVerdict
from pytest_memleak.monitor.state import Monitor

# A curve on a page has some 1,000 pixels; of more readings each n-th is given.
_MOST_READINGS: Final = 1_000


def known(figure: int) -> int | None:
    """A figure, or None where it cannot be read here."""
    return None if figure < 0 else figure


def memory(monitor: Monitor) -> dict[str, Any]:
    """The figures of this moment."""
    now = monitor.look()
    return {"rss_bytes": now.rss_bytes, "vms_bytes": now.vms_bytes, "live_bytes": known(now.live_bytes)}


def history(monitor: Monitor, minutes: float) -> dict[str, Any]:
    """The readings of the last minutes."""
    minutes = min(minutes, monitor.settings.history_minutes)
    since = time.time() - minutes * 60
    counts = list(monitor.ring.counts(since).values())
    readings = monitor.ring.readings(since)
    # Both are of the same end; a reading may have come in between.
    size = min([len(readings), *map(len, counts)])
    readings = readings[len(readings) - size :]
    every = -(-size // _MOST_READINGS) or 1
    columns = [column[len(column) - size :] for column in counts]
    rows = [
        _row(reading, int(sum(column[at] for column in columns)))
        for at, reading in enumerate(readings)
        if at % every == 0
    ]
    return {"interval_s": monitor.settings.interval_s, "minutes": minutes, "every": every, "readings": rows}


def _row(reading: Reading, requests: int) -> dict[str, Any]:
    return {
        "t": reading.t,
        "rss_bytes": reading.rss_bytes,
        "vms_bytes": reading.vms_bytes,
        "live_bytes": known(reading.live_bytes),
        "in_flight": reading.in_flight,
        "requests": requests,
    }


def gc_stats(monitor: Monitor) -> dict[str, Any]:
    """The garbage collector's settings, counters and pauses."""
    generations = [
        {
            "generation": totals.generation,
            "collections": totals.collections,
            "collected": totals.collected,
            "uncollectable": totals.uncollectable,
            "pause_ms_total": round(totals.pause_s * 1000, 3),
            "pause_ms_longest": round(totals.longest_s * 1000, 3),
        }
        for totals in monitor.gc.totals()
    ]
    return {
        "enabled": gc.isenabled(),
        "thresholds": list(gc.get_threshold()),
        "counts": list(gc.get_count()),
        "generations": generations,
    }


def process_info(monitor: Monitor, process: psutil.Process) -> dict[str, Any]:
    """The process: its age, threads, descriptors and processor time."""
    times = process.cpu_times()
    return {
        "created_s": process.create_time(),
        "started_s": monitor.started_s,
        "uptime_s": max(0.0, time.time() - process.create_time()),
        "stage": monitor.stage,
        **memory(monitor),
        "threads": process.num_threads(),
        "fds": _fds(process),
        "fd_limit": _fd_limit(),
        "cpu_percent": process.cpu_percent(),
        "cpu_user_s": times.user,
        "cpu_system_s": times.system,
        "python": platform.python_version(),
        "requests": sum(list(monitor.requests.finished.values())),
        "in_flight": monitor.requests.in_flight,
    }


def _fds(process: psutil.Process) -> int | None:
    try:
        if sys.platform == "win32":
            return process.num_handles()
        # What lists the descriptors has one open meanwhile.
        return process.num_fds() - (sys.platform == "linux")
    except (OSError, psutil.Error):
        return None


def _fd_limit() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def leaks(judged: Judged) -> dict[str, Any]:
    """The verdict."""
    verdict = judged.verdict
    shares = [
        {
            "endpoints": list(growth.endpoints),
            "requests": growth.requests,
            "leaks": growth.leaks,
            "bytes_per_request": _interval(growth.bytes_per_request),
            "mb_per_min": _interval(growth.mb_per_min),
        }
        for growth in judged.endpoints
    ]
    return {
        "t": judged.t,
        **_trend(verdict),
        "severity": verdict.severity.value,
        "basis": verdict.name,
        "readings": verdict.readings,
        "seconds": verdict.seconds,
        "rss": _trend(judged.rss),
        "endpoints": shares,
        "unattributed_mb_per_min": judged.unattributed_mb_per_min,
        "notes": list(judged.notes),
    }


def _trend(verdict: TrackVerdict) -> dict[str, Any]:
    return {
        "verdict": verdict.outcome.value.lower(),
        "mb_per_min": _interval(verdict.rate),
        "shape": verdict.shape,
        "why": verdict.why,
    }


def _interval(estimate: Estimate) -> dict[str, Any]:
    """JSON has no infinity."""
    low, high = (end if math.isfinite(end) else None for end in (estimate.low, estimate.high))
    return {"value": estimate.value if math.isfinite(estimate.value) else 0.0, "low": low, "high": high}


def growth(walk: Walk, baseline: Walk | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The types that accumulate."""
    return {
        "t": walk.t,
        "baseline_t": baseline.t if baseline else None,
        "objects": walk.objects,
        "declined": None,
        "types": rows,
    }
