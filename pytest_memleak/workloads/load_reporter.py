"""A locustfile without users, loaded beside one with: varies the mix of tasks, and tells the harness of the load.

Only Locust imports it, in its own processes: `locust -f user.py,.../load_reporter.py`. `load.load_environment` has
its variables. The channel is an AF_UNIX socket, so there is none on Windows.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, Final

import gevent
import gevent.lock
import gevent.monkey
import gevent.socket
from locust import TaskSet, events
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.user.task import DefaultTaskSet

from pytest_memleak.workloads.load import CHANNEL, KEY, MIX_PERIOD, MIX_PERIOD_S, MIX_SEED, ROLE
from pytest_memleak.workloads.mix import DRAWS, Mix

INTERVAL_S: Final = 1.0

RATE_WINDOW: Final = 12
"""How many messages back the recent rate looks: four reports of Locust's workers, which come every 3 seconds."""

PATIENCE_S: Final = 5.0
"""How long the handshake and the last message may take: a harness that does not read must not keep Locust alive."""

MOST_NAMES: Final = 200
MOST_ERRORS: Final = 100
"""How many names and errors are counted apart. A locustfile may name requests by their URLs, and nothing of ours
grows with the number of requests."""

ERRORS_TOLD: Final = 5
ERROR_LENGTH: Final = 200
OTHERS: Final = "(others)"

logger = logging.getLogger(__name__)


def called_as(method: str, name: str) -> str:
    """The name under its method, such as `GET /items/{item_id}`, whether or not it already says the method."""
    return name if name.startswith(f"{method} ") else f"{method} {name}"


class Totals:
    """What was requested since the start, whatever Locust resets meanwhile."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.failures = 0

    def add(self, method: str, name: str, requests: int, failures: int) -> None:
        """Count requests of a name."""
        called = called_as(method, name)
        self.names[called if called in self.names or len(self.names) < MOST_NAMES else OTHERS] += requests
        self.failures += failures

    def add_error(self, error: str, count: int) -> None:
        """Count failures of the same text."""
        text = error[:ERROR_LENGTH]
        self.errors[text if text in self.errors or len(self.errors) < MOST_ERRORS else OTHERS] += count

    def on_request(self, request_type: str, name: str, exception: object = None, **_: Any) -> None:
        """Hear of a request of this process."""
        self.add(request_type, name, 1, int(bool(exception)))
        if exception:
            self.add_error(f"{called_as(request_type, name)}: {exception!r}", 1)

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        """Hear of a worker's requests since its last report."""
        for entry in data["stats"]:
            self.add(entry["method"], entry["name"], entry["num_requests"], entry["num_failures"])
        for error in data["errors"].values():
            self.add_error(f"{called_as(error['method'], error['name'])}: {error['error']}", error["occurrences"])


class Reporter:
    """Sends the totals to the harness once a second, and ends the load when there is nobody to hear it."""

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self._environment = environment
        self._runner = runner
        self._totals = Totals()
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=RATE_WINDOW + 1)
        self._sending = gevent.lock.BoundedSemaphore()
        self._connection: Connection[bytes, bytes] | None = None
        self._is_over = False

    def start(self) -> None:
        """Connect and begin to report; ends the process with one sentence if the harness does not answer."""
        address, key = os.environ[CHANNEL], bytes.fromhex(os.environ.get(KEY, ""))
        try:
            with gevent.Timeout(PATIENCE_S):
                self._connection = in_thread(connected, address, key)
        except (OSError, EOFError, AuthenticationError, gevent.Timeout) as error:
            sys.exit(f"The harness does not answer at {address}: {error!r}")
        hooks: Any = self._environment.events  # their methods have no annotations
        if isinstance(self._runner, MasterRunner):
            hooks.worker_report.add_listener(self._totals.on_worker_report)
            # The workers' last reports come after a master has stopped, and before it quits.
            hooks.quit.add_listener(self._on_end)
        else:
            hooks.request.add_listener(self._totals.on_request)
            hooks.test_stop.add_listener(self._on_end)
        # A web interface may start the load again.
        hooks.test_start.add_listener(self._on_start)
        gevent.spawn(self._report)

    def _on_start(self, **_: Any) -> None:
        self._is_over = False

    def _on_end(self, **_: Any) -> None:
        self._is_over = True
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(PATIENCE_S):
            self._send(over=True)

    def _report(self) -> None:
        while self._connection is not None:
            gevent.sleep(INTERVAL_S)
            self._send()
        logger.warning("The harness has gone: the load ends.")
        self._runner.quit()

    def _send(self, *, over: bool = False) -> None:
        # One message at a time: a harness that reads slowly gets fewer of them, and none is kept waiting.
        with self._sending:
            if self._connection is None or (self._is_over and not over):
                return
            try:
                in_thread(self._connection.send_bytes, json.dumps(self._message(over=over)).encode())
            except OSError:
                self._connection = None

    def _message(self, *, over: bool) -> dict[str, Any]:
        totals, now_s = self._totals, time.monotonic()
        requests = sum(totals.names.values())
        then_s, before = self._recent[0]
        self._recent.append((now_s, requests))
        message = {
            "kind": "load",
            "process": os.getpid(),
            "users": self._runner.user_count,
            "requests": requests,
            "failures": totals.failures,
            "requests_per_s": round((requests - before) / max(now_s - then_s, 0.001), 1),
            "names": dict(totals.names),
            "failing": dict(totals.errors.most_common(ERRORS_TOLD)),
        }
        return {**message, "over": True} if over else message


def in_thread(act: Callable[..., Any], *arguments: Any) -> Any:
    """Do what may block in a thread of the system's, while the other greenlets run."""
    return gevent.get_hub().threadpool.apply(act, arguments)


def connected(address: str, key: bytes) -> Connection[bytes, bytes]:
    """Do what `multiprocessing.connection.Client` does, which gevent's sockets break: they never block."""
    plain_socket: Any = gevent.monkey.get_original("socket", "socket")
    with plain_socket(gevent.socket.AF_UNIX) as opened:
        opened.connect(address)
        connection: Connection[bytes, bytes] = Connection(opened.detach())
    if key:
        answer_challenge(connection, key)
        deliver_challenge(connection, key)
    return connection


def vary(kind: type[TaskSet], mix: Mix) -> None:
    """Let the mix have its say in what tasks a kind of task set draws.

    Kinds that do not draw at random have a method of their own, and keep it: sequences, Markov chains.
    """
    draw: Any = kind.get_next_task  # has no annotations

    @functools.wraps(draw)
    def varied(self: TaskSet) -> Any:
        now_s = time.time()
        for _ in range(DRAWS):
            task = draw(self)
            name = getattr(task, "__qualname__", None) or repr(type(task))
            if mix.accepts(name, now_s, random.random()):
                break
        return task

    kind.get_next_task = varied  # type: ignore[method-assign]


def begin(environment: Environment, runner: Runner, **_: Any) -> None:
    """Start the reports, after Locust has forked: of the master or the only process, which knows all."""
    reports = not isinstance(runner, WorkerRunner) or os.environ.get(ROLE) == "worker"
    if reports and os.environ.get(CHANNEL):
        Reporter(environment, runner).start()


_hooks: Any = events  # their methods have no annotations
_hooks.init.add_listener(begin)
_period_s = float(os.environ.get(MIX_PERIOD) or MIX_PERIOD_S)
if _period_s > 0:
    _mix = Mix(period_s=_period_s, seed=int(os.environ.get(MIX_SEED) or 0))
    for _kind in (DefaultTaskSet, TaskSet):
        vary(_kind, _mix)
