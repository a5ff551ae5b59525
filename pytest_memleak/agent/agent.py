"""The agent's thread: it reads the worker's counters at rest, and answers the harness.

    every few seconds   close the gate ─► wait until the worker is empty ─► collect, read ─► open the gate
    on demand           the diagnosis, under the load that runs then

A reading pauses the worker's new requests for 50 ms at the most, and says how long it did. When the harness
is gone, the agent goes too, and the worker is as if it had never been there.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from typing import Any, Final

from pytest_memleak import wire
from pytest_memleak.agent.traffic import Traffic

LONGEST_PAUSE_S: Final = 0.050
"""What a reading may hold requests for: below what a client's user notices, and a tail latency can bear."""

# A pause is never more than this share of the time, whatever interval the harness asks for: of the throughput
# that a soak may cost (5 %), most is left to the requests' own accounting.
_PAUSE_SHARE: Final = 0.02

# What is left of the pause when the reading itself takes longer than the last ones did.
_MARGIN_S: Final = 0.005
_SHORTEST_DRAIN_S: Final = 0.005

# A collection of 200,000 objects takes so long (0.1 µs each). A larger heap is frozen: only what is new since
# then is collected, and the last reading, after the load, thaws it.
_LONG_COLLECTION_S: Final = 0.020

# Some two blocks an object: a heap of so many would take longer than that from its first collection on.
_MANY_BLOCKS: Final = 400_000

# Listing 100,000 tasks takes 40 ms: where it takes long, it is done in one reading of ten.
_LONG_LISTING_S: Final = 0.005
_SELDOM: Final = 10

# The load is over: nothing is paused, and what ends a little later may end.
_DEEP_DRAIN_S: Final = 2.0

_DEFAULT_INTERVAL_S: Final = 1.0


def start(traffic: Traffic) -> None:
    """Start the agent of this process in a thread of its own."""
    thread = threading.Thread(target=_live, args=(traffic,), name="memleak-agent", daemon=True)
    thread.start()


def _live(traffic: Traffic) -> None:
    """From the first request's connection to the end; trouble is told and never reaches the program."""
    try:
        address = os.environ[wire.AGENT_CHANNEL]
        connection = Client(address, authkey=bytes.fromhex(os.environ[wire.AGENT_KEY]))
    except (KeyError, OSError, ValueError, EOFError, AuthenticationError) as error:
        sys.stderr.write(f"memleak: no way to the harness ({error!r}); this worker is not measured\n")
        return
    traffic.connection = connection
    with connection:
        try:
            Agent(traffic, connection).run()
        except _Gone:
            pass
        except Exception as error:  # noqa: BLE001  (the user's server goes on, whatever ails its guest)
            with contextlib.suppress(_Gone):
                _send(connection, {"kind": "trouble", "pid": os.getpid(), "why": repr(error)})
        finally:
            traffic.open()


class _Gone(Exception):
    """The harness has hung up."""


def _send(connection: Connection, message: dict[str, Any]) -> None:
    try:
        connection.send_bytes(json.dumps(message).encode())
    except OSError as error:
        raise _Gone from error


class Agent:
    """Reads this process, for as long as the harness listens."""

    def __init__(self, traffic: Traffic, connection: Connection) -> None:
        from pytest_memleak.probes.catalogue import find_probes
        from pytest_memleak.probes.live import live_bytes_probe

        self.traffic = traffic
        self.connection = connection
        self.probes = find_probes(traffic.loops)
        self.live, self.missing = live_bytes_probe(self.probes)
        self.interval_s = _DEFAULT_INTERVAL_S
        self._frozen_blocks = 0
        self._reading_s = 0.0
        self._pause_s = 0.0
        self._readings = 0
        self._tasks = 0
        self._listing_s = 0.0
        self._sent: dict[str, int] = {}

    def run(self) -> None:
        """Read every interval, and obey, until the harness has hung up."""
        _send(
            self.connection,
            {
                "kind": "hello",
                "pid": os.getpid(),
                "ppid": os.getppid(),
                "python": platform.python_version(),
                "missing": self.missing,
                "fd_limit": _fd_limit(),
            },
        )
        due = time.monotonic()
        while True:
            order = self._next_order(max(0.0, due - time.monotonic()))
            if order is not None:
                self._obey(order)
            else:
                _send(self.connection, self.read())
                due = time.monotonic() + max(self.interval_s, self._pause_s / _PAUSE_SHARE)

    def _next_order(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            if self.connection.poll(timeout_s):
                order: dict[str, Any] = json.loads(self.connection.recv_bytes())
                return order
        except (OSError, EOFError) as error:
            raise _Gone from error
        return None

    def _obey(self, order: dict[str, Any]) -> None:
        if order["kind"] == "pace":
            self.interval_s = order["interval_s"]
        elif order["kind"] == "rest":
            _send(self.connection, self.read(deep=True))
        elif order["kind"] == "diagnose":
            from pytest_memleak.agent.examination import examine

            found = examine(self.traffic, order)
            _send(self.connection, {"kind": "diagnosis", "pid": os.getpid(), **found})

    def read(self, *, deep: bool = False) -> dict[str, Any]:
        """One reading at rest. `deep`: without a bound on the pause, on a thawed heap."""
        drain_s = LONGEST_PAUSE_S - 1.5 * self._reading_s - _MARGIN_S
        begun = time.monotonic()
        self.traffic.close()
        try:
            self.traffic.wait_until_empty(_DEEP_DRAIN_S if deep else max(_SHORTEST_DRAIN_S, drain_s))
            drained = time.monotonic()
            self._collect(deep=deep)
            numbers = self._numbers()
            # Before the gate opens: these are the requests that made these numbers.
            finished = dict(self.traffic.finished)
        finally:
            self.traffic.open()
        ended = time.monotonic()
        if not deep:
            # The longest of late: the next must not surprise.
            self._reading_s = max(ended - drained, 0.9 * self._reading_s)
            self._pause_s = ended - begun
        changed = {name: count for name, count in finished.items() if self._sent.get(name) != count}
        self._sent = finished
        reading = {"kind": "reading", "pid": os.getpid(), "t": ended, **numbers}
        reading |= {"pause_ms": round((ended - begun) * 1000, 2), "requests": changed}
        return {**reading, "deep": True} if deep else reading

    def _collect(self, *, deep: bool) -> None:
        if deep:
            gc.unfreeze()
            gc.collect()
        elif not self._readings and self.probes.now("blocks") > _MANY_BLOCKS:
            self._freeze()
        # The processor's time: a machine that is busy is no large heap.
        begun = time.thread_time()
        gc.collect()
        if not deep and time.thread_time() - begun > _LONG_COLLECTION_S:
            gained = self.probes.now("blocks") - self._frozen_blocks
            if not self._frozen_blocks or gained > _MANY_BLOCKS // 2:
                self._freeze()

    def _freeze(self) -> None:
        """Take what lives now out of the collector's sight, cycles that die later too, until the deep reading.

        So it is done only once, and again when as much has been gained as makes a collection long.
        """
        gc.freeze()
        self._frozen_blocks = self.probes.now("blocks")

    def _numbers(self) -> dict[str, int]:
        import psutil

        pymalloc, native = self.live()
        numbers = {
            "live_bytes": pymalloc + native,
            "pymalloc_bytes": pymalloc,
            "native_bytes": native,
            "held": self.traffic.held,
            "in_flight": self.traffic.in_flight,
        }
        for name, signal in _SIGNALS.items():
            if signal in self.probes.read:
                # Where descriptors have run out they cannot be listed either.
                with contextlib.suppress(OSError, psutil.Error):
                    numbers[name] = self.probes.now(signal)
        if self._listing_s < _LONG_LISTING_S or self._readings % _SELDOM == 0:
            begun = time.monotonic()
            # Each held request is a task of the server's.
            self._tasks = max(0, self.probes.now("tasks") - numbers["held"] - numbers["in_flight"])
            self._listing_s = time.monotonic() - begun
        self._readings += 1
        return {**numbers, "tasks": self._tasks}


def _fd_limit() -> int:
    """How many file descriptors this process may have; 0 where that is not known or has no end."""
    try:
        import resource
    except ImportError:
        return 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


_SIGNALS: Final = {"blocks": "blocks", "rss_bytes": "rss", "fds": "fds", "threads": "threads"}
