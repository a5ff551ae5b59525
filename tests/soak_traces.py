"""Recorded soaks, written by a script: workers that keep so many bytes of each request, and what their agents say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_memleak.soak.lives import Recorded

Record = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class Service:
    """What a service does under load: by endpoint the bytes that a request keeps, and the requests a second.

    `jitter` is the scatter of a reading in bytes, `held_bytes` what a request holds while it is at the gate. `mix` is
    how far each minute's share of an endpoint is from the mean. `extra(t)` is live memory that no request explains.
    """

    keeps: Mapping[str, float]
    rate: Mapping[str, float] = dataclasses.field(default_factory=dict)
    jitter: float = 400.0
    mix: float = 0.6
    held_bytes: float = 9_000.0
    extra: Callable[[float], float] = lambda t: 0.0
    fds: Callable[[float], float] = lambda t: 20.0
    rss: Callable[[float, float], float] = lambda live, t: 60e6 + live
    fd_limit: int = 1024
    seed: int = 1
    interval_s: float = 2.0

    def life(self, pid: int, begin: float, end: float, *, after_s: float = 0.0) -> list[Record]:
        """A worker's records from its hello to its last reading; deep rest after the load where it was asked for."""
        rng = np.random.default_rng(self.seed * 1000 + pid)
        counts = dict.fromkeys(self.keeps, 0)
        kept = 0.0
        found: list[Record] = [{"kind": "hello", "t": begin, "pid": pid, "missing": [], "fd_limit": self.fd_limit}]
        share = dict.fromkeys(self.keeps, 1.0)
        t, readings = begin, 0
        while t <= end + after_s:
            if t <= end:
                if readings % 15 == 0:
                    share = {name: 1 + self.mix * rng.uniform(-1, 1) for name in self.keeps}
                for name, each in self.keeps.items():
                    made = int(rng.poisson(self.rate.get(name, 10.0) * share[name] * self.interval_s))
                    counts[name] += made
                    kept += made * each
            held = int(rng.poisson(2.0)) if t <= end else 0
            found.append(self.reading(pid, t, kept + held * self.held_bytes + rng.normal(0, self.jitter), counts, held))
            t, readings = round(t + self.interval_s, 3), readings + 1
        if after_s:
            found.append({**self.reading(pid, t, kept, counts, 0), "deep": True})
        return found

    def reading(self, pid: int, t: float, kept: float, counts: Mapping[str, int], held: int) -> Record:
        """What an agent says once."""
        live = 40e6 + kept + self.extra(t)
        return {
            "kind": "reading",
            "t": t,
            "pid": pid,
            "live_bytes": live,
            "pymalloc_bytes": 0.6 * 40e6 + kept + self.extra(t),
            "native_bytes": 0.4 * 40e6,
            "rss_bytes": self.rss(live, t),
            "fds": self.fds(t),
            "threads": 5,
            "tasks": 1,
            "held": held,
            "in_flight": 0,
            "pause_ms": 4.0,
            "requests": dict(counts),
        }


def event(t: float, name: str, words: str = "") -> Record:
    return {"kind": "event", "t": t, "event": name, **({"words": words} if words else {})}


def load(t: float, requests: int, failures: int = 0, **failing: int) -> Record:
    return {
        "kind": "load",
        "t": t,
        "users": 10,
        "requests": requests,
        "failures": failures,
        "requests_per_s": 20.0,
        "failing": failing,
    }


def outside(begin: float, end: float, rss: Callable[[float], float], interval_s: float = 2.0) -> list[Record]:
    """The view from outside."""
    rng = np.random.default_rng(7)
    times = np.arange(begin, end, interval_s)
    return [
        {"kind": "outside", "t": float(t), "rss_bytes": float(rss(float(t)) + rng.normal(0, 20_000)), "processes": 1}
        for t in times
    ]


def window(begin: float, end: float, records: list[Record], *, complete: bool = True) -> list[Record]:
    """A segment: the load from `begin` to `end`, and what was recorded meanwhile and after it."""
    all_of_it = [event(begin, "started"), event(begin, "load_started"), *records, load(end - 0.5, int(20 * end))]
    all_of_it.append(event(end, "load_over"))
    if complete:
        all_of_it.append(event(end + 0.001, "complete"))
    # What happens at one time is taken in as it is listed.
    return sorted(all_of_it, key=lambda record: record["t"])


def recorded(*segments: list[Record]) -> Recorded:
    """Everything of these segments, as a run that goes on would have it."""
    found = Recorded()
    for segment in segments:
        for record in segment:
            found.add(record)
    return found
