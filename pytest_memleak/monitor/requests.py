"""The requests of this process: how many each endpoint has finished, and what some of them changed memory by."""

from __future__ import annotations

import contextlib
import math
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from pytest_memleak.agent.traffic import Ticket
from pytest_memleak.model_monitor import OTHERS, UNMATCHED, Sample

# A program that makes routes at run time must not make the readings grow.
_MOST_ENDPOINTS: Final = 500

# A reading of the live heap takes 0.2 ms, and a request has some ten steps: of the thread's time this share at the
# most goes into looking at samples. One request a second, then.
_SAMPLING_SHARE: Final = 0.002


class Requests:
    """Counted by the middleware, in the event loop's thread.

    With slots, as all that each request passes through: what it meets there has left the processor's caches since the
    last one, and a dictionary is one place more to fetch from memory.
    """

    __slots__ = (
        "_names", "_on_sample", "begun", "finished", "in_flight", "is_running", "last_s", "next_sample_s", "weigh",
    )  # fmt: skip

    def __init__(self, on_sample: Callable[[Sample], None]) -> None:
        self._on_sample = on_sample
        self.is_running = False
        """Whether readings are taken beside them."""

        self.weigh: Callable[[], int] | None = None
        """Live heap bytes; without it no sample is taken."""

        self.forget()

    def forget(self) -> None:
        """A forked child begins anew."""
        self.finished: dict[str, int] = {}
        """By endpoint, `GET /items/{id}`."""

        self.begun = 0
        self.in_flight = 0
        self.last_s = 0.0
        """When the last one began, by the monotonic clock; 0 before any did."""

        self.next_sample_s = 0.0
        """When the next one is looked at."""

        self._names: dict[tuple[int, str], tuple[weakref.ref[Any], str]] = {}

    def over(self, scope: Any, ticket: Ticket | None, router: Any, outside: Any = None) -> str:
        """An HTTP request is over; gives the name of its endpoint.

        Without a ticket the scope alone says what route it took, unless that is the one by which it came from
        `outside`. A route that was met before is known by its identity: to put its name together takes 1 µs each time.
        It is not kept alive for that. What is mounted or included elsewhere has its name from there, each time anew.
        """
        route, method = scope.get("route"), scope["method"]
        is_plain = (
            (ticket is None or ticket.route is None or ticket.route is route)
            and not scope.get("root_path")
            and "fastapi" not in scope
        )
        known = self._names.get((id(route), method)) if is_plain else None
        if known is not None and known[0]() is route:
            name = known[1]
            self.finished[name] += 1
            return name
        if ticket is None:
            ticket = Ticket(outside)
        ticket.note_from(scope, router)
        name = self.count(method, ticket)
        if is_plain and ticket.route is route and method in _METHODS and len(self._names) < _MOST_ENDPOINTS:
            with contextlib.suppress(TypeError):  # a route of the user's own may take no weak reference
                self._names[id(route), method] = (weakref.ref(route), name)
        return name

    def count(self, kind: str, ticket: Ticket) -> str:
        """A request is over; gives the name of its endpoint."""
        name = endpoint_of(kind, ticket)
        count = self.finished.get(name)
        if count is None:
            if len(self.finished) >= _MOST_ENDPOINTS:
                name = OTHERS
            count = self.finished.get(name, 0)
        self.finished[name] = count + 1
        self.last_s = time.monotonic()
        return name

    def sampled(self) -> SampledRequest | None:
        """A request begins after `next_sample_s`: the one that looks at it, if it can be looked at."""
        if self.weigh is None:
            return None
        # The others pass until this one is over, however long that takes.
        self.next_sample_s = math.inf
        return SampledRequest(self, self.weigh)

    def take_sample(self, sample: Sample | None, cost_s: float) -> None:
        """A sampled request is over; None where it could not be read."""
        begun = time.perf_counter()
        if sample is not None:
            self._on_sample(sample)
        cost_s += time.perf_counter() - begun
        self.next_sample_s = time.monotonic() + cost_s / _SAMPLING_SHARE


class SampledRequest:
    """The live heap before and after each step of one request, and over it as a whole."""

    def __init__(self, requests: Requests, weigh: Callable[[], int]) -> None:
        self._requests = requests
        self._weigh = weigh
        self._alone = requests.in_flight == 1
        self._begun = requests.begun
        self._steps = 0
        self._level = 0
        self.cost_s = 0.0
        self._readable = True
        self._before = self._read()

    def step_begins(self) -> None:
        """The event loop resumes the request."""
        self._level = self._read()

    def step_ends(self) -> None:
        """It waits, or is over."""
        self._steps += self._read() - self._level

    def finish(self, endpoint: str) -> None:
        """It is over."""
        requests = self._requests
        whole = self._read() - self._before
        is_alone = self._alone and requests.begun == self._begun
        sample = Sample(endpoint=endpoint, delta_bytes=whole if is_alone else self._steps, is_alone=is_alone)
        requests.take_sample(sample if self._readable else None, self.cost_s)

    def _read(self) -> int:
        begun = time.perf_counter()
        try:
            return self._weigh()
        except OSError:  # no memory even for the statistics
            self._readable = False
            return 0
        finally:
            self.cost_s += time.perf_counter() - begun


def endpoint_of(kind: str, ticket: Ticket) -> str:
    """`GET /items/{id}`; UNMATCHED for what no route serves, by path or by method."""
    route: Any = ticket.route
    if route is None:
        return UNMATCHED
    methods = getattr(route, "methods", None)
    if methods and kind not in methods and kind != "WEBSOCKET":
        return UNMATCHED
    if not methods and kind not in _METHODS:
        kind = "ANY"
    return f"{kind} {ticket.path}"


# A mounted app takes whatever method a stranger invents.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
