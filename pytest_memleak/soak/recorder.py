"""What goes on all the time in a soak: messages taken in, the view from outside, records written, progress shown."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pytest_memleak.model import Outcome
from pytest_memleak.soak import outside
from pytest_memleak.soak.channel import Channel, Message
from pytest_memleak.soak.folder import RunFolder
from pytest_memleak.soak.judge import glance
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan

_LOOK_S: Final = 0.2
_FAILING: Final = 5

# 0.24 ms at 14 MiB, 23 ms at 2 GiB, for each worker: a thousandth of the time.
_USS_S: Final = 10.0
_USS_SHARE: Final = 1000
_PROGRESS_S: Final = 1.0
_GLANCE_S: Final = 10.0
_GLANCE_SHARE: Final = 30
"""A glance at a long run takes a second: 3 % of the time of one core at the most."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a soak is. Times in seconds, sizes in bytes; None where it is not known yet."""

    phase: str
    elapsed_s: float
    wanted_s: float
    requests: int
    failures: int
    requests_per_s: float
    rss_bytes: float | None
    mb_per_min: float | None
    outcome: Outcome


class Recorder:
    """Listens, looks and writes, as often as it is asked to `pump`."""

    def __init__(
        self, plan: Plan, folder: RunFolder, channel: Channel, progress: Callable[[Progress], None], past: Recorded
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.channel = channel
        self.recorded = past
        self.agents: dict[int, int] = {}
        """The workers that are there, by peer: their pids."""

        self.said: Mapping[str, Any] = {}
        """What the load said last."""

        self.rested: set[int] = set()
        """The peers that have read at deep rest."""

        self.root_pid = 0
        self._loads: dict[int, Mapping[str, Any]] = {}
        self._show_progress = progress
        # A resumed run's clock goes on where its last record was.
        self._zero = time.monotonic() - past.latest_s
        self._next_outside = self._next_progress = self._next_glance = self._next_load = 0.0
        self._next_uss = 0.0
        self._glance: tuple[Outcome, float | None] = (Outcome.INCONCLUSIVE, None)

    def pump(self, phase: str) -> None:
        """Take in what was said, look from outside, show how far it is."""
        message = self.channel.next(_LOOK_S)
        while message is not None:
            self._heed(message)
            message = self.channel.next(0) if not self.channel.messages.empty() else None
        now = time.monotonic()
        if now >= self._next_outside and self.root_pid:
            self._next_outside = now + self.plan.reading_interval_s
            seen = outside.tree_rss(self.root_pid)
            if seen is not None:
                self._record({"kind": "outside", "t": self._now(), **seen, **self._uss(now)})
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_S
            self._show(phase, now)

    def _uss(self, now: float) -> dict[str, int]:
        """The unique set size, every so often: the kernel walks the pages of all workers for it."""
        if now < self._next_uss:
            return {}
        uss = outside.uss_of(self.root_pid)
        self._next_uss = now + max(_USS_S, _USS_SHARE * (time.monotonic() - now))
        return {} if uss is None else {"uss_bytes": uss}

    def _heed(self, message: Message) -> None:
        body = message.body
        if body is None:
            pid = self.agents.pop(message.peer, None)
            if pid is not None and self._is_under_load():
                self.event("worker_gone", f"worker {pid} has ended")
            return
        kind = body.get("kind")
        if kind == "hello":
            if self._is_under_load():
                self.event("worker_started", f"worker {body['pid']} serves")
            self.agents[message.peer] = body["pid"]
            self.channel.send(message.peer, {"kind": "pace", "interval_s": self.plan.reading_interval_s})
        if kind == "load":
            self._loads[body.get("process", 0)] = body
            self.said = _together(list(self._loads.values()))
            # Locust speaks every second; a day of that would be most of the folder.
            if time.monotonic() >= self._next_load:
                self.record_load()
            return
        if kind == "trouble":
            self.event("trouble", f"the agent in worker {body['pid']} gave up: {body['why']}")
            return
        if kind == "reading" and body.get("deep"):
            self.rested.add(message.peer)
        body["t"] = body["t"] - self._zero if kind == "reading" else self._now()
        self._record(body)

    def record_load(self) -> None:
        """Record what the load has done so far."""
        if self.said:
            self._next_load = time.monotonic() + self.plan.reading_interval_s
            self._record({**self.said, "t": self._now()})

    def expect_load(self) -> None:
        """A load begins anew."""
        self.said = {}
        self._loads.clear()

    def _record(self, record: Mapping[str, Any]) -> None:
        rounded = {**record, "t": round(float(record["t"]), 3)}
        self.recorded.add(rounded)
        self.folder.append(rounded)

    def event(self, event: str, words: str = "") -> None:
        """Record that something happened; `words` are for the report."""
        if event == "load_over" and self._is_under_load():
            self.record_load()
        self._record({"kind": "event", "t": self._now(), "event": event, **({"words": words} if words else {})})

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _show(self, phase: str, now: float) -> None:
        if now >= self._next_glance and self.recorded.windows:
            outcome, rate = glance(self.recorded, self.plan)
            self._next_glance = now + max(_GLANCE_S, _GLANCE_SHARE * (time.monotonic() - now))
            self._glance = outcome, rate.value if abs(rate.high) != float("inf") else None
        load = self.said
        rss = self.recorded.outside_rss
        self._show_progress(
            Progress(
                phase=phase,
                elapsed_s=self.recorded.measured_s if self.recorded.windows else 0.0,
                wanted_s=self.plan.duration_s,
                requests=int(load.get("requests", 0)),
                failures=int(load.get("failures", 0)),
                requests_per_s=float(load.get("requests_per_s", 0.0)),
                rss_bytes=rss[-1] if rss else None,
                mb_per_min=self._glance[1],
                outcome=self._glance[0],
            )
        )

    def _is_under_load(self) -> bool:
        return bool(self.recorded.windows) and self.recorded.windows[-1][1] is None


def _together(loads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several Locust processes of a foreign master have done; mostly it is one that speaks for all."""
    failing: collections.Counter[str] = collections.Counter()
    for load in loads:
        failing.update(load.get("failing", {}))
    totals = {name: sum(load.get(name, 0) for load in loads) for name in ("users", "requests", "failures")}
    rate = sum(float(load.get("requests_per_s", 0.0)) for load in loads)
    return {"kind": "load", **totals, "requests_per_s": round(rate, 2), "failing": dict(failing.most_common(_FAILING))}
