"""The ring of readings is judged, at a bounded cost: `verdicts` says what of.

What that imports, numpy and scipy among it, is 29 MB of the live heap that it judges: `prepare` has it imported
before the first reading.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_monitor import Judged, Reading
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Severity, Thresholds, TrackVerdict
from pytest_memleak.monitor.ring import Ring
from pytest_memleak.slugs import see

Clock = Callable[[], float]

# An hour of readings every five seconds is 720; of more each n-th, for the same time to judge.
_MOST_READINGS: Final = 800

# A leak takes minutes to show: a verdict each minute is soon enough for a scrape ...
_EVERY_S: Final = 60.0

# ... and where one costs more than 0.3 s, so much later that they take this share of a core.
_SHARE: Final = 0.005

# Enough for a fit, with a slope for each of the endpoints: so every part of the judge has run once.
_TRIAL_READINGS: Final = 120

_NO_READINGS: Final = "no reading has been taken yet"


def pause_s(cost_s: float) -> float:
    """How long after a verdict that cost so much processor time nobody but a person should ask for the next."""
    return max(_EVERY_S, cost_s / _SHARE)


class Cost:
    """The processor time of a verdict, with that of the threads that numpy's algebra keeps: it may be twenty-fold.

    Only the whole process has a clock for those. What the program uses meanwhile is taken off by its pace since the
    last verdict.
    """

    def __init__(self, wall: Clock = time.monotonic, process: Clock = time.process_time) -> None:
        self._clocks = (wall, process)
        self._last = (wall(), process())

    def of(self, work: Callable[[], object]) -> float:
        """Do it; seconds of processor time."""
        begun, own_s = self._now(), time.thread_time()
        work()
        over = self._now()
        own_s = time.thread_time() - own_s
        elapsed_s, used_s = begun[0] - self._last[0], begun[1] - self._last[1]
        pace = used_s / elapsed_s if elapsed_s > 0 else 0.0
        self._last = over
        return max(own_s, over[1] - begun[1] - pace * (over[0] - begun[0]))

    def _now(self) -> tuple[float, float]:
        wall, process = self._clocks
        return wall(), process()


def prepare() -> None:
    """Judge something, so that what is imported and kept for that is no growth of the judged process.

    No other thread forks meanwhile.
    """
    with _IMPORTING:
        _judge_something()


def _judge_something() -> None:
    ring = Ring(_TRIAL_READINGS)
    for at in range(_TRIAL_READINGS):
        uneven = at * 7_919 % 97
        level = 50_000_000 + 20_000 * at + 100 * uneven
        reading = Reading(
            t=5.0 * at, rss_bytes=level, vms_bytes=level, live_bytes=level, in_flight=0, full_collections=at
        )  # fmt: skip
        ring.add(reading, {"GET /a": 20 * at + uneven, "GET /b": 30 * at + 3 * (uneven * 31 % 97)})
    judge(ring, Thresholds())


# A child that is forked while another thread imports has that module's lock, and nobody who lets it go: its own
# import of numpy would never end. The import takes a second, on a busy machine some ten; where it hangs, a fork goes on
# after this time.
_IMPORTING: Final = threading.RLock()
_LONGEST_IMPORT_S: Final = 30.0
_held: Final = threading.local()


def _before_fork() -> None:
    _held.is_ours = _IMPORTING.acquire(timeout=_LONGEST_IMPORT_S)


def _after_fork() -> None:
    if getattr(_held, "is_ours", False):
        _IMPORTING.release()


def _after_fork_in_child() -> None:
    if getattr(_held, "is_ours", False):
        _IMPORTING.release()
    else:
        _IMPORTING._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _single_threaded() -> contextlib.AbstractContextManager[object]:
    """numpy's algebra in one thread: two that wait for one another on two busy cores take up to forty times as long.

    It is the whole process's for that time, some 60 ms each minute: the program's own algebra gets the same results,
    in one thread.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def judge(ring: Ring, thresholds: Thresholds) -> Judged:
    """Judge what the ring holds, with what is imported for it. 20 ms to half a second."""
    counts = ring.counts()
    readings = ring.readings()
    # The ring goes on: what has come between the two copies is left out.
    size = min(len(readings), *(len(column) for column in counts.values())) if counts else len(readings)
    readings = readings[len(readings) - size :]
    rows = list(range(0, size, -(-size // _MOST_READINGS) or 1))
    readings = [readings[at] for at in rows]
    columns = {name: [column[len(column) - size + at] for at in rows] for name, column in counts.items()}
    if not readings:
        return _none(_NO_READINGS)
    try:
        with _IMPORTING:  # first: what is not loaded cannot be limited
            from pytest_memleak.monitor import verdicts

        with _single_threaded():
            return verdicts.judged(readings, columns, thresholds)
    except ImportError as error:
        why = f"the verdict needs {error.name}: python -m pip install 'pytest-memleak[monitor]'"
        return _none(see("missing-extra", why))


def _none(why: str) -> Judged:
    unknown = Estimate(value=0.0, low=-math.inf, high=math.inf)
    verdict = TrackVerdict(
        name="RSS", outcome=Outcome.INCONCLUSIVE, severity=Severity.NONE, rate=unknown, gained=0.0,
        shape="too short", why=why,
    )  # fmt: skip
    return Judged(t=time.time(), heap=None, rss=verdict, endpoints=(), unattributed_mb_per_min=0.0, notes=())
