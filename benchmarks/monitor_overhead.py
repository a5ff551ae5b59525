"""What the FastAPI monitor costs the app that it watches.

load    a hello-world under uvicorn with the monitor and without, both alive, on one core, in short slices that take
        turns: requests/s with 32 connections that never rest, and p50 and p99 there and at a third of that load
scrape  `/metrics` with 500 routes that all had requests, one of each looked at
stalls  a heap of a million objects: how long each endpoint of the monitor keeps the event loop, by a task of the
        app's own that ticks in it, beside what the answer says

Goal: 97 % of the requests/s, p99 within 1 ms, a scrape in 10 ms, no stall of 60 ms, and each told truthfully.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from http_load import Client, Served, Slice, ask, ask_json, cpu_s, get, keep_to, served
from monitor_apps import MONITOR, SIZE
from monitor_stalls import stalls
from pytest_runs import MISSED, OK, say, table

_SHARE: Final = 0.97
_P99_MS: Final = 1.0
_SCRAPE_MS: Final = 10.0

_CONNECTIONS: Final = 32
# A server that waits most of the time, as they do: what a request waits for is then its own.
_PACE: Final = 1 / 3

# On a busy machine the monitor's thread imports the judge, with numpy and scipy, for some seconds.
_READY_S: Final = 60.0

_PREFIX: Final = "/api/debug/memory"

_RESAMPLED: Final = 2_000

_Measure = Callable[[int], Coroutine[Any, Any, Slice]]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and between what it lies in 95 % of the samples that could have been drawn in their place."""
    drawn = random.Random(1)
    # Seeded: the same numbers have the same interval.
    medians = sorted(statistics.median(drawn.choices(values, k=len(values))) for _ in range(_RESAMPLED))
    return statistics.median(values), medians[_RESAMPLED // 40], medians[-_RESAMPLED // 40]


@contextlib.contextmanager
def _pair(app: str, seed: int) -> Iterator[tuple[Served, Served]]:
    """The same app without the monitor and with it, with the same hashes."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        plain, watched = (
            stack.enter_context(
                served(f"monitor_apps:{app}()", Path(name), **{MONITOR: on, "PYTHONHASHSEED": str(seed)})
            )
            for on in ("", "1")
        )
        yield plain, watched


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One slice, and the processor time that it took the server that answered, and the other that waited."""

    found: Slice
    own_s: float
    waiting_s: float

    @property
    def cost_us(self) -> float:
        """Processor time of the server by request."""
        return self.own_s / len(self.found.latencies_s) * 1e6


_Pair = tuple[_Turn, _Turn]
"""Without the monitor, and with it."""


def load(launches: int, pairs: int, seconds: float) -> bool:
    """Slices without and with the monitor, in alternating order, in servers that are started anew now and then.

    How the memory of a process happens to lie makes it some percent faster or slower for its whole life.
    """
    keep_to()
    full, third = [], []
    for launch in range(launches):
        with _pair("hello", launch) as (plain, watched):
            at_full, at_third = _launch(plain, watched, pairs, seconds)
        full.append(at_full)
        third.append(at_third)
    kept = _told(list(itertools.chain(*full)), list(itertools.chain(*third)))
    return _shares(full) and kept


def _launch(plain: Served, watched: Served, pairs: int, seconds: float) -> tuple[list[_Pair], list[_Pair]]:
    request = get("/hello")

    async def at_full(port: int) -> Slice:
        return await Client(port, lambda: request, _CONNECTIONS).busy(seconds=seconds)

    async def at_third(port: int) -> Slice:
        return await Client(port, lambda: request, _CONNECTIONS).paced(pace, seconds=seconds)

    asyncio.run(_ready(watched.port))
    for one in (watched, plain):
        asyncio.run(at_full(one.port))
    pace = asyncio.run(at_full(plain.port)).per_s * _PACE
    full = [_slices(pair, at_full, plain, watched) for pair in range(pairs)]
    return full, [_slices(pair, at_third, plain, watched) for pair in range(pairs)]


async def _ready(port: int) -> None:
    """Wait for the monitor's first reading: what it imports before that is no cost of a request."""
    due_s = time.monotonic() + _READY_S
    while not (await ask_json(port, f"{_PREFIX}/history"))["readings"]:
        if time.monotonic() > due_s:
            raise RuntimeError(f"the monitor took no reading within {_READY_S:g} s")
        await asyncio.sleep(0.1)


def _slices(pair: int, measure: _Measure, plain: Served, watched: Served) -> _Pair:
    """Without and with; each goes first in every second pair."""
    turns = [(plain, watched), (watched, plain)]
    if pair % 2:
        turns.reverse()
    found = []
    for server, other in turns:
        own_s, waiting_s = cpu_s(server.pid), cpu_s(other.pid)
        taken = asyncio.run(measure(server.port))
        found.append(_Turn(found=taken, own_s=cpu_s(server.pid) - own_s, waiting_s=cpu_s(other.pid) - waiting_s))
    return (found[1], found[0]) if pair % 2 else (found[0], found[1])


def _shares(launches: Sequence[Sequence[_Pair]]) -> bool:
    """The shares of requests/s and of processor time by request; whether the first is reached."""
    pairs = list(itertools.chain(*launches))
    # What the monitor does by itself takes time from the server without it as well: it is no cost of that one's.
    at_rest = sum(one.waiting_s for one, _ in pairs) / sum(one.found.seconds for one, _ in pairs)
    say(f"at rest the monitor takes {at_rest:.2%} of the core, which is in the throughput")
    cost, low, high = interval([_middle(one.cost_us / other.cost_us for one, other in few) for few in launches])
    both = [_middle(column) for column in zip(*((one.cost_us, other.cost_us) for one, other in pairs), strict=True)]
    say(
        f"by processor time: {cost:.1%} (95 %: {low:.1%} to {high:.1%}), {both[0]:.0f} and {both[1]:.0f} us a request;"
        " other work on the machine disturbs it less"
    )
    shares = [_middle(other.found.per_s / one.found.per_s for one, other in few) * (1 - at_rest) for few in launches]
    share, low, high = interval(shares)
    say(f"throughput: {share:.1%} (95 %: {low:.1%} to {high:.1%}; goal {_SHARE:.0%})")
    return share >= _SHARE


def _middle(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def _told(full: Sequence[_Pair], third: Sequence[_Pair]) -> bool:
    """The table of both loads; whether p99 kept its bound in both."""
    rows, kept = [], True
    for words, slices in ((f"{_CONNECTIONS} connections", full), ("a third of that", third)):
        for share in (0.5, 0.99):
            both = [[one.found.quantile_ms(share) for one in pair] for pair in slices]
            more, low, high = interval([with_it - without for without, with_it in both])
            without_ms, with_ms = (statistics.median(column) for column in zip(*both, strict=True))
            told = f"{more:+.2f} ({low:+.2f} to {high:+.2f})"
            rows.append([words, f"p{share * 100:.0f}", f"{without_ms:.2f}", f"{with_ms:.2f}", told])
            kept &= share < 0.99 or more <= _P99_MS
        rates = [statistics.median(one.found.per_s for one in column) for column in zip(*slices, strict=True)]
        rows.append([words, "1/s", *(f"{rate:.0f}" for rate in rates), ""])
    say(table(["load", "", "without", "with", "ms more (95 %)"], rows))
    say(f"p99: {'within' if kept else 'not within'} {_P99_MS:g} ms")
    return kept


def scrape(routes: int, times: int) -> bool:
    """The time until the whole answer is there, from outside."""
    keep_to()
    variables = {MONITOR: "1", SIZE: str(routes)}
    with tempfile.TemporaryDirectory() as name, served("monitor_apps:routes()", Path(name), **variables) as server:

        async def asked() -> tuple[list[float], bytes]:
            requests = iter([get(f"/route{number}/1") for number in range(routes)])
            found = await Client(server.port, lambda: next(requests), 1).busy(requests=routes)
            assert found.statuses == {200: routes}, found.statuses
            await ask_json(server.port, "/sampled")
            answers = [await ask(server.port, "/metrics") for _ in range(times + 1)]
            # The first makes the text of each route that the others fill in.
            return [seconds * 1000 for _, _, seconds in answers[1:]], answers[-1][1]

        taken_ms, text = asyncio.run(asked())
    endpoints = text.count(b"memleak_endpoint_requests_total{")
    median, low, high = interval(taken_ms)
    say(
        f"scrape: {median:.1f} ms (95 %: {low:.1f} to {high:.1f}; slowest of {times} {max(taken_ms):.1f} ms;"
        f" goal {_SCRAPE_MS:g} ms), {len(text.splitlines()):,} lines of {endpoints} endpoints"
    )
    assert endpoints >= routes
    return median < _SCRAPE_MS


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["load", "scrape", "stalls"], action="append")
    parser.add_argument("--launches", type=int, default=7, help="that both servers are started anew")
    parser.add_argument("--pairs", type=int, default=10, help="slices without and with it, at each load and launch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each slice")
    parser.add_argument("--routes", type=int, default=500, help="of the scrape")
    parser.add_argument("--times", type=int, default=50, help="that it is scraped")
    parser.add_argument("--objects", type=int, default=1_000_000, help="on the heap")
    parser.add_argument("--rounds", type=int, default=3, help="that each endpoint is asked")
    given = parser.parse_args()
    wanted = given.only or ["load", "scrape", "stalls"]
    reached = True
    if "load" in wanted:
        reached &= load(given.launches, given.pairs, given.seconds)
    if "scrape" in wanted:
        reached &= scrape(given.routes, given.times)
    if "stalls" in wanted:
        reached &= stalls(given.objects, given.rounds)
    return OK if reached else MISSED


if __name__ == "__main__":
    sys.exit(main())
