"""Whether the FastAPI monitor itself grows: many requests to the same app with it and without it.

Both servers run under uvicorn, and take turns. Of 24 requests 8 and 5 go to two endpoints with a parameter, 4 to one
that takes orders, 4 to paths that are not there and each new, 2 get an error that is meant and 1 an error that is not;
the monitor is scraped and all of its GET endpoints are asked in each round. After each round, at rest and collected,
the live heap is read in the server, RSS from outside.

Goal: the live heap with the monitor is CLEAN at 0.05 MB/min, by the judge of `memleak soak`, RSS is no LEAK, and what
the monitor adds to the live heap is surely less than 1 byte a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil
from http_load import Client, Served, ask, ask_json, get, keep_to, served
from monitor_apps import MONITOR
from pytest_runs import MISSED, OK, say, table

from pytest_memleak.model import Outcome
from pytest_memleak.units import MB
from pytest_memleak.verdict import drift
from pytest_memleak.verdict.trend import trend, window

# That of the fixed shop's soak.
_LIMIT_MB_PER_MIN: Final = 0.05

_MOST_BYTES: Final = 1.0

# The smallest thing that malloc hands out.
_UNIT_BYTES: Final = 16

_CONNECTIONS: Final = 32

# The judge wants 100 readings better than fewer; a third of them is warm-up.
_ROUNDS: Final = 120

_PREFIX: Final = "/api/debug/memory"
_ASKED: Final = ("/metrics", *(f"{_PREFIX}/{name}" for name in (
    "snapshot", "growth", "history", "gc-stats", "leaks", "process-info",
)))  # fmt: skip

# A verdict that is being made has numbers in its hands, for less than a second: the least of some readings is at rest.
_READINGS: Final = 4
_APART_S: Final = 0.1


def _mix(seed: int) -> Callable[[], bytes]:
    """The requests in a row that repeats itself, with new numbers and new names each time."""
    drawn = random.Random(seed)
    numbers = itertools.count()
    kinds = ["items"] * 8 + ["threaded"] * 5 + ["orders"] * 4 + ["nothing"] * 4 + ["conflict"] * 2 + ["broken"]
    drawn.shuffle(kinds)
    row = itertools.cycle(kinds)

    def request() -> bytes:
        kind = next(row)
        if kind in ("items", "threaded"):
            return get(f"/{kind}/{next(numbers)}")
        if kind == "nothing":
            return get(f"/nothing/{drawn.getrandbits(64):x}")
        return get(f"/{kind}", method="POST" if kind == "orders" else "GET")

    return request


@dataclasses.dataclass(slots=True, kw_only=True)
class _Soaked:
    """One server and what it was seen to hold after each round."""

    server: Served
    request: Callable[[], bytes]
    is_watched: bool
    calls: list[int] = dataclasses.field(default_factory=list)
    times_s: list[float] = dataclasses.field(default_factory=list)
    live_bytes: list[int] = dataclasses.field(default_factory=list)
    rss_bytes: list[int] = dataclasses.field(default_factory=list)

    async def round(self, requests: int) -> None:
        """So many requests, and a reading."""
        client = Client(self.server.port, self.request, _CONNECTIONS)
        found = await client.busy(requests=requests)
        expected = {200, 404, 409, 500}
        if not set(found.statuses) <= expected or len(found.latencies_s) != requests:
            raise RuntimeError(f"{requests} requests were answered by {dict(found.statuses)}")
        if self.is_watched:
            for path in _ASKED:
                status, body, _ = await ask(self.server.port, path)
                if status not in (200, 429):
                    raise RuntimeError(f"{path}: {status}, {body.decode()[:200]}")
        self.calls.append((self.calls[-1] if self.calls else 0) + requests)
        await self._read()

    async def _read(self) -> None:
        least = sys.maxsize
        for _ in range(_READINGS):
            least = min(least, (await ask_json(self.server.port, "/live"))["bytes"])
            await asyncio.sleep(_APART_S)
        self.live_bytes.append(least)
        self.rss_bytes.append(psutil.Process(self.server.pid).memory_info().rss)
        self.times_s.append(time.monotonic())


async def _soak(plain: _Soaked, watched: _Soaked, requests: int, rounds: int) -> None:
    each = math.ceil(requests / rounds)
    begun = time.monotonic()
    for number in range(rounds):
        turns = (plain, watched) if number % 2 else (watched, plain)
        for server in turns:
            await server.round(each)
        if number % max(1, rounds // 10) == 0:
            say(f"{watched.calls[-1]:,} of {each * rounds:,} requests to each, {time.monotonic() - begun:.0f} s")


def soak(requests: int, rounds: int) -> bool:
    """Both servers, round by round; whether the monitor did not grow."""
    keep_to()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        plain, watched = (
            _Soaked(
                server=stack.enter_context(served("monitor_apps:soaked()", Path(name), **{MONITOR: on})),
                request=_mix(1),
                is_watched=bool(on),
            )
            for on in ("", "1")
        )
        asyncio.run(_soak(plain, watched, requests, rounds))
    return _told(plain, watched)


def _told(plain: _Soaked, watched: _Soaked) -> bool:
    more = [one - other for one, other in zip(watched.live_bytes, plain.live_bytes, strict=True)]
    more_rss = [one - other for one, other in zip(watched.rss_bytes, plain.rss_bytes, strict=True)]
    rows, found = [], {}
    for what, series, levels in (
        ("live heap, without", plain, plain.live_bytes),
        ("live heap, with", watched, watched.live_bytes),
        ("live heap, more", watched, more),
        ("RSS, without", plain, plain.rss_bytes),
        ("RSS, with", watched, watched.rss_bytes),
        ("RSS, more", watched, more_rss),
    ):
        row, outcome, high = _judged(series.calls, series.times_s, levels)
        rows.append([what, *row])
        found[what] = (outcome, high)
    say(table(["", "after warm-up MB", "at the end MB", "B/request (99 %)", "MB/min (99 %)", "verdict"], rows))
    high = found["live heap, more"][1]
    say(f"the monitor adds at most {high:.2f} B a request to the live heap (99 %; goal {_MOST_BYTES:g} B)")
    return (
        found["live heap, with"][0] is Outcome.CLEAN
        and found["RSS, with"][0] is not Outcome.LEAK
        and high < _MOST_BYTES
    )


def _judged(calls: Sequence[int], times_s: Sequence[float], levels: Sequence[int]) -> tuple[list[str], Outcome, float]:
    """The row of the table, the outcome, and the upper end of the growth by request."""
    first = window(len(calls))
    begun = times_s[0]
    judged = drift.judge([one - begun for one in times_s], levels, _LIMIT_MB_PER_MIN * MB / 60)
    slope = trend(calls[first:], levels[first:], _UNIT_BYTES)
    if slope is None:
        by_request, high = "too few rounds", math.inf
    else:
        grown, high = slope.growth, slope.growth.high
        by_request = f"{grown.per_call:+.2f} ({grown.low:+.2f} to {grown.high:+.2f})"
    rate = judged.rate.times(60 / MB)
    row = [
        f"{levels[first] / MB:.3f}",
        f"{levels[-1] / MB:.3f}",
        by_request,
        f"{rate.value:+.3f} ({rate.low:+.3f} to {rate.high:+.3f})",
        f"{judged.outcome.value}, {judged.shape}",
    ]
    return row, judged.outcome, high


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000_000, help="to each of the two servers")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="with a reading after each")
    given = parser.parse_args()
    if given.rounds < 1 or given.requests < given.rounds:
        parser.error("--requests: expects one for each of --rounds at least")
    return OK if soak(given.requests, given.rounds) else MISSED


if __name__ == "__main__":
    sys.exit(main())
