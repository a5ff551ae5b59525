"""One process's monitor: its settings, its instruments, what they have found, and who is told of it.

    requests ─► middleware ─► Requests ──┐
    gc       ─► GcWatch ─────────────────┼─► collector's thread ─► Ring ─► judged, curves
    /proc, the allocators' books ────────┘                     └─► the listeners (metrics)

Nothing runs until the first ASGI call of the process (`start`): to import an app costs nothing, and a server that
forks its workers forks no thread of ours.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

from pytest_memleak.model_monitor import Collection, Judged, Reading, Sample, Walk
from pytest_memleak.model_watch import Thresholds
from pytest_memleak.monitor import calls, judging
from pytest_memleak.monitor.collector import Collector
from pytest_memleak.monitor.gc_watch import GcWatch
from pytest_memleak.monitor.process import Figures
from pytest_memleak.monitor.requests import Requests
from pytest_memleak.monitor.ring import Ring
from pytest_memleak.monitor.settings import Settings

Stage = Literal["startup", "idle", "serving"]

# Half a minute of silence is idle; at the usual five seconds that is six readings without a request.
_IDLE_S: Final = 30.0

# On a busy machine the judge's import takes some seconds; where it hangs, a walk with his objects is better than none.
_PREPARED_S: Final = 30.0

_TRACKED: Final = 50
"""Functions in an answer."""


class Monitor:
    """Of this process; a forked child has the same object, emptied."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.on_reading: list[Callable[[Reading], None]] = []
        self.on_collection: list[Callable[[Collection], None]] = []
        self.on_sample: list[Callable[[Sample], None]] = []
        self.on_walk: list[Callable[[Walk], None]] = []
        self.on_judged: list[Callable[[Judged], None]] = []
        self.on_worker_start: list[Callable[[], None]] = []
        self.on_worker_exit: list[Callable[[], None]] = []
        self.on_fork: list[Callable[[], None]] = []
        """In a forked child, before it starts: what belonged to the parent is given up."""

        self.gc = GcWatch()
        self.requests = Requests(lambda sample: self.tell(self.on_sample, sample))
        self.ring = Ring(settings.readings)
        self._begin()
        _MONITORS.add(self)

    def _begin(self) -> None:
        self.pid = os.getpid()
        self.started_s = time.time()
        self.walk: Walk | None = None
        self.walk_blocks = 0
        """The allocator's blocks at the last walk."""

        self.baseline: Walk | None = None
        self.judged: Judged | None = None
        self.figures: Figures | None = None
        self._collector: Collector | None = None
        self.requests.is_running = False
        self._told: set[str] = set()
        self._starting = threading.Lock()
        self._judging = threading.Lock()
        self._prepared = threading.Event()
        self._cost = judging.Cost()
        self._judge_at_s = math.inf

    def start(self) -> None:
        """Begin to read, in a thread of its own. Twice is once."""
        if self._collector is not None:
            return
        with self._starting:
            if self._collector is not None:
                return
            self.figures = Figures()
            self.gc.start()
            self.requests.weigh = self._weigh
            calls.REQUESTS.seen = self._requests_seen
            self._judge_at_s = time.monotonic() + judging.pause_s(0)
            self._collector = Collector(self._read_and_judge, self.settings.interval_s, self._prepare)
            self.requests.is_running = True
            for listener in self.on_worker_start:
                self._call(listener)
            self._collector.start()

    def stop(self) -> None:
        """End the thread and leave the collector of garbage alone; the figures stay."""
        with self._starting:
            collector, self._collector = self._collector, None
            self.requests.is_running = False
        if collector is not None:
            collector.stop()
            self.gc.stop()
            self.requests.weigh = None
            if calls.REQUESTS.seen == self._requests_seen:
                calls.REQUESTS.seen = None
            for listener in self.on_worker_exit:
                self._call(listener)

    def after_fork(self) -> None:
        """In a child: its parent's figures are not its own, and no thread has come along."""
        self.gc.stop()
        self.gc.forget()
        self.requests.forget()
        self.ring.clear()
        self._begin()
        for listener in self.on_fork:
            self._call(listener)

    def read(self) -> Reading:
        """Take a reading into the ring, and tell the listeners."""
        # Before the figures: these requests are surely in them.
        finished = dict(self.requests.finished)
        reading = self.look()
        self.ring.add(reading, finished)
        self.tell(self.on_reading, reading)
        self.hand_out()
        return reading

    def judge(self) -> Judged:
        """Judge the readings, in the caller's thread, and tell the listeners. 20 ms to half a second."""
        with self._judging:
            # Where it fails, too, the next try is not at once.
            self._judge_at_s = time.monotonic() + judging.pause_s(0)
            cost_s = self._cost.of(self._judge)
            self._judge_at_s = time.monotonic() + judging.pause_s(cost_s)
            assert self.judged is not None
            return self.judged

    def _judge(self) -> None:
        self.judged = judging.judge(self.ring, Thresholds())
        self.tell(self.on_judged, self.judged)

    def _prepare(self) -> None:
        try:
            with self._judging:
                self._call(judging.prepare)
        finally:
            self._prepared.set()

    @contextlib.contextmanager
    def unjudged(self) -> Iterator[None]:
        """While the judge is imported already and judges nothing: his objects are no growth of the program's."""
        if self.is_running:
            self._prepared.wait(_PREPARED_S)
        with self._judging:
            yield

    def _read_and_judge(self) -> None:
        self.read()
        if time.monotonic() >= self._judge_at_s:
            self._call(self.judge)

    def _weigh(self) -> int:
        """For samples of requests; raises OSError while our own numbers come and go in another thread."""
        if self._judging.locked() or self.figures is None:
            raise OSError("a verdict is being made")
        return self.figures.weigh()

    def _requests_seen(self) -> tuple[int, int]:
        return self.requests.begun, self.requests.in_flight

    def look(self) -> Reading:
        """A reading of now, which is not kept."""
        return (self.figures or Figures()).read(self.requests.in_flight)

    def live(self) -> int:
        """Live heap bytes now, -1 where the allocators cannot be asked."""
        return (self.figures or Figures()).live()

    @property
    def is_running(self) -> bool:
        """Whether its thread reads."""
        return self.requests.is_running

    @property
    def latest(self) -> Reading | None:
        """The last reading."""
        return self.ring.last()

    @property
    def stage(self) -> Stage:
        """`startup` until the first request, `serving` while there are some, `idle` after half a minute without."""
        last_s = self.requests.last_s
        if self.requests.in_flight:
            return "serving"
        if not last_s:
            return "startup"
        return "serving" if time.monotonic() - last_s < _IDLE_S else "idle"

    def tracked(self) -> list[dict[str, Any]]:
        """The functions under `@memory_tracked`, those that added most first."""
        module = sys.modules.get("pytest_memleak.monitor.tracked")
        if module is None:
            return []
        functions = [
            {"name": one.name, "calls": one.calls, "mean_bytes": one.mean_bytes} for one in module.tracked_functions()
        ]
        return sorted(functions, key=lambda one: -(one["mean_bytes"] or 0.0) * one["calls"])[:_TRACKED]

    def hand_out(self) -> None:
        """Tell the listeners of the garbage collections since the last time, in the caller's thread."""
        for collection in self.gc.fetch():
            self.tell(self.on_collection, collection)

    def tell(self, listeners: Sequence[Callable[[Any], None]], found: Any) -> None:
        """Call them with what was found; their trouble never reaches the program."""
        for listener in listeners:
            self._call(listener, found)

    def _call(self, listener: Callable[..., object], *found: Any) -> None:
        try:
            listener(*found)
        except Exception as error:  # noqa: BLE001  (the user's server goes on, whatever ails its guest)
            name = getattr(listener, "__qualname__", "a listener")
            if name not in self._told:
                self._told.add(name)
                sys.stderr.write(f"memleak: the monitor's {name} failed ({error!r}); it is told once\n")


_MONITORS: Final[weakref.WeakSet[Monitor]] = weakref.WeakSet()


def _after_fork() -> None:
    for monitor in list(_MONITORS):
        monitor.after_fork()


def _at_exit() -> None:
    # A thread that is in the middle of an import when the interpreter goes may take the process down.
    for monitor in list(_MONITORS):
        if monitor._collector is not None:
            monitor._collector.stop()


atexit.register(_at_exit)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
