"""The programs that `trend_record.py` records: each serves requests, and leaks or only looks like it.

Run by any Python from 3.10 on, with no library: `python trend_workloads.py KIND SEED SECONDS MB`, where MB is what the
limit allows to grow in that time. What a workload keeps is told in multiples of it. The requests come by the clock, so
that a busy machine changes the noise and not the rate.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import gc
import math
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

REQUESTS: Final = 4_000
"""In a run."""

Serve: TypeAlias = Callable[[int, float], object]
"""Serves a request: its number, and the share of the run that is over."""


class Workload(NamedTuple):
    """What is served, whether it leaks, and whether a run of it shows that."""

    make: Callable[[random.Random, float], Serve]
    leaks: bool = False
    known: bool = True
    arrived: Callable[[float], float] = lambda share: share
    """The share of the requests that have come, by the share of the time."""

    lives: int = 1


class Node:
    """An object that refers to itself: only the collector frees it."""

    def __init__(self, load: object) -> None:
        self.load = load
        self.me = self


def payload(rng: random.Random, size: float) -> list[bytes]:
    """So many bytes in small objects."""
    each = rng.randint(120, 480)
    return [bytes(each) for _ in range(max(1, int(size / (each + 41))))]


def leak_list(rng: random.Random, mb: float, times: float = 0.0) -> Serve:
    kept: list[object] = []
    size = 1e6 * mb * (times or rng.uniform(2, 8)) / REQUESTS
    return lambda _number, _share: kept.append(payload(rng, size))


def leak_slowly(rng: random.Random, mb: float) -> Serve:
    return leak_list(rng, mb, rng.uniform(1.6, 2))


def leak_dict(rng: random.Random, mb: float) -> Serve:
    kept: dict[str, str] = {}
    each = max(1, round(1e6 * mb * rng.uniform(3, 8) / REQUESTS / 230))

    def serve(number: int, _share: float) -> None:
        kept.update({f"{number}-{part}": "x" * rng.randint(20, 80) for part in range(each)})

    return serve


def leak_cycles(rng: random.Random, mb: float) -> Serve:
    gc.disable()
    size = 1e6 * mb * rng.uniform(2, 8) / REQUESTS
    return lambda _number, _share: Node(payload(rng, size))


def leak_native(rng: random.Random, mb: float) -> Serve:
    malloc, memset = ctypes.CDLL(None).malloc, ctypes.memset
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    size = int(1e6 * mb * rng.uniform(2, 8) / REQUESTS)
    return lambda _number, _share: memset(malloc(size), 1, size)


def leak_blocks(rng: random.Random, mb: float) -> Serve:
    kept: list[bytes] = []
    steps = rng.randint(10, 25)
    size = int(1e6 * mb * rng.uniform(3, 8) / steps)
    return lambda number, _share: kept.append(b"x" * size) if number % (REQUESTS // steps) == 0 else None


def leak_and_churn(rng: random.Random, mb: float) -> Serve:
    leak, other = leak_list(rng, mb, rng.uniform(3, 8)), churn(rng, mb)
    return lambda number, share: (leak(number, share), other(number, share))


def leak_after_warm_up(rng: random.Random, mb: float) -> Serve:
    leak = leak_list(rng, mb, rng.uniform(3, 8))
    held: list[object] = []
    first = rng.uniform(0.03, 0.12)

    def serve(number: int, share: float) -> None:
        leak(number, share)
        if share < first:
            held.append(payload(rng, 1e6 * mb * 2 / (first * REQUESTS)))

    return serve


def leak_late(rng: random.Random, mb: float, begin: float = 0.0) -> Serve:
    leak = leak_list(rng, mb, rng.uniform(4, 8))
    begin = begin or rng.uniform(0.2, 0.4)
    return lambda number, share: leak(number, share) if share > begin else None


def leak_at_the_end(rng: random.Random, mb: float) -> Serve:
    return leak_late(rng, mb, rng.uniform(0.85, 0.92))


def grow_within(rng: random.Random, mb: float) -> Serve:
    return leak_list(rng, mb, rng.uniform(0.2, 0.4))


def idle(_rng: random.Random, _mb: float) -> Serve:
    return lambda _number, _share: None


def churn(rng: random.Random, mb: float) -> Serve:
    """Objects of all sizes with lives of all lengths, never more than so many."""
    slots: list[object] = [None] * 400
    size = 1e6 * mb * 0.5 / 400

    def serve(_number: int, _share: float) -> None:
        slots[rng.randrange(400)] = payload(rng, rng.uniform(0, 2 * size))

    for number in range(1_200):
        serve(number, 0.0)
    return serve


def cycles(rng: random.Random, mb: float) -> Serve:
    """Cycles that the collector frees, several times in a run."""
    period = REQUESTS // rng.randint(7, 20)
    gc.disable()
    size = 1e6 * mb * rng.uniform(0.5, 2) / period

    def serve(number: int, _share: float) -> None:
        Node(payload(rng, size))
        if number % period == period - 1:
            gc.collect()

    return serve


def cache(rng: random.Random, mb: float, constant: float = 0.0) -> Serve:
    """Filled by random keys of a finite set: exponentially, `constant` is the share of the run it takes to 63 %."""
    keys = int(REQUESTS * (constant or rng.uniform(0.04, 0.1)))
    size = 1e6 * mb * rng.uniform(2, 5) / keys
    look = functools.lru_cache(maxsize=None)(lambda _key: payload(rng, size))
    return lambda _number, _share: look(rng.randrange(keys))


def cache_half_full(rng: random.Random, mb: float) -> Serve:
    return cache(rng, mb * 2, rng.uniform(1.5, 2.5))


def cache_bounded(rng: random.Random, mb: float) -> Serve:
    """Keys that never come again fill it straight, until it is full and drops the oldest."""
    most = int(REQUESTS * rng.uniform(0.1, 0.4))
    size = 1e6 * mb * rng.uniform(2, 4) / most
    look = functools.lru_cache(maxsize=most)(lambda _key: payload(rng, size))
    return lambda number, _share: look(number)


def step(rng: random.Random, mb: float) -> Serve:
    """Something large is loaded once, in the first half."""
    at, size = rng.uniform(0.1, 0.45), int(1e6 * mb * rng.uniform(1, 4))
    kept: list[bytes] = []
    return lambda _number, share: kept.append(b"x" * size) if share > at and not kept else None


def batches(rng: random.Random, mb: float) -> Serve:
    """A job that comes again and again, needs much memory and gives it back."""
    period, size = rng.uniform(0.06, 0.12), int(1e6 * mb * rng.uniform(0.5, 2))
    held: dict[str, bytes] = {}

    def serve(_number: int, share: float) -> None:
        if share % period > 0.6 * period:
            held.setdefault("job", b"x" * size)
        else:
            held.clear()

    return serve


def day_and_night(rng: random.Random, mb: float) -> Serve:
    """A working set that follows the load."""
    held: collections.deque[object] = collections.deque()
    period, size = rng.uniform(0.1, 0.2), 1e6 * mb * rng.uniform(0.5, 2) / 200

    def serve(_number: int, share: float) -> None:
        wanted = 100 + 100 * math.sin(2 * math.pi * share / period)
        while len(held) < wanted:
            held.append(payload(rng, size))
        while len(held) > wanted:
            held.popleft()

    return serve


def threads(rng: random.Random, _mb: float) -> Serve:
    """Threads that come and go."""

    def serve(number: int, _share: float) -> None:
        if number % 40 == 0:
            crowd = [threading.Thread(target=payload, args=(rng, 50_000)) for _ in range(rng.randint(1, 6))]
            for one in crowd:
                one.start()
            for one in crowd:
                one.join()

    return serve


def _waves(share: float) -> float:
    """Six days and nights in a run."""
    return share - math.sin(2 * math.pi * 6 * share) / (2 * math.pi * 6) * 0.8


WORKLOADS: Final = {
    "leak_list": Workload(leak_list, leaks=True),
    "leak_slowly": Workload(leak_slowly, leaks=True),
    "leak_dict": Workload(leak_dict, leaks=True),
    "leak_cycles": Workload(leak_cycles, leaks=True),
    "leak_native": Workload(leak_native, leaks=True),
    "leak_blocks": Workload(leak_blocks, leaks=True),
    "leak_and_churn": Workload(leak_and_churn, leaks=True),
    "leak_after_warm_up": Workload(leak_after_warm_up, leaks=True),
    "leak_with_the_load": Workload(leak_list, leaks=True, arrived=_waves),
    "leak_late": Workload(leak_late, leaks=True),
    "leak_at_the_end": Workload(leak_at_the_end, leaks=True, known=False),
    "leak_restarted": Workload(leak_list, leaks=True, lives=3),
    "grow_within": Workload(grow_within),
    "idle": Workload(idle),
    "churn": Workload(churn),
    "cycles": Workload(cycles),
    "cache": Workload(cache),
    "cache_half_full": Workload(cache_half_full, known=False),
    "cache_bounded": Workload(cache_bounded),
    "step": Workload(step),
    "batches": Workload(batches),
    "day_and_night": Workload(day_and_night),
    "threads": Workload(threads),
    "churn_restarted": Workload(churn, lives=3),
    "cache_restarted": Workload(cache, lives=3),
}


def main() -> None:
    """Serve for so many seconds."""
    kind, seed, seconds, mb = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    workload, rng = WORKLOADS[kind], random.Random(f"{kind} {seed}")
    serve = workload.make(rng, mb)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    begun, done, share = time.monotonic(), 0, 0.0
    while share < 1.2:  # the recorder ends it
        share = (time.monotonic() - begun) / seconds
        due = int(workload.arrived(share) * REQUESTS)
        while done < due:
            payload(rng, rng.uniform(0, 40_000))  # what any request needs and gives back
            serve(done, share)
            done += 1
        time.sleep(0.01)


if __name__ == "__main__":
    main()
