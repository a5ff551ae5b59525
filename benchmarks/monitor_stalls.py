"""How long each endpoint of the monitor keeps the event loop of an app with a large heap, and what it says of that.

A part of `monitor_overhead.py`, which runs it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from http_load import ask, ask_json, keep_to, served
from monitor_apps import MONITOR, SIZE
from pytest_runs import say, table

_STALL_MS: Final = 60.0

_PREFIX: Final = "/api/debug/memory"

# Both clocks tick in milliseconds, and a thread that ends between two ticks of one is seen by the other.
_APART_MS: Final = 10.0
_APART: Final = 0.25

_ASKED: Final = (
    ("GET", "/snapshot"),
    ("GET", "/history"),
    ("GET", "/gc-stats"),
    ("GET", "/process-info"),
    ("GET", "/leaks"),
    ("POST", "/gc-collect"),
    ("POST", "/growth/baseline"),
    ("GET", "/growth"),
    ("POST", "/gc-collect"),
    ("GET", "/"),
)
"""By the second `gc-collect` a walk has told how many objects there are, and `growth` has something to hold a walk
against."""


def stalls(objects: int, rounds: int) -> bool:
    """Each endpoint in turn; what the app's own task saw meanwhile, and what the answer said."""
    keep_to()
    variables = {MONITOR: "1", SIZE: str(objects)}
    with tempfile.TemporaryDirectory() as name, served("monitor_apps:heap()", Path(name), **variables) as server:
        found = asyncio.run(_stalls(server.port, rounds))
    rows, kept, is_true = [], True, True
    for what, pairs in found.items():
        seen, told = ([pair[at] for pair in pairs] for at in (0, 1))
        apart = [abs(one - other) for one, other in pairs if not math.isnan(other)]
        untrue = [one for one in apart if one > max(_APART_MS, _APART * max(seen))]
        spread = (min(seen), statistics.median(seen), max(seen))
        rows.append([what, *(f"{one:.1f}" for one in spread), _or_dash(told), _or_dash(apart)])
        kept &= max(seen) < _STALL_MS
        is_true &= not untrue
    say(table(["endpoint", "least ms", "median ms", "most ms", "most told", "most apart"], rows))
    worst = max(seen for pairs in found.values() for seen, _ in pairs)
    say(f"stalls: {worst:.1f} ms at most (goal {_STALL_MS:g} ms), {'truthfully' if is_true else 'not truthfully'} told")
    return kept and is_true


def _or_dash(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{max(known):.1f}" if known else "-"


async def _stalls(port: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    ready = await ask_json(port, "/prepared")
    say(f"{ready['objects']:,} tracked objects")

    async def measured(what: str, path: str, method: str = "GET") -> None:
        await asyncio.sleep(0.05)
        await ask_json(port, "/longest")
        told = await _told_stall(port, path, method)
        seen = await ask_json(port, "/longest")
        found.setdefault(what, []).append((seen["ms"], told))

    for _ in range(rounds):
        await measured("(nothing)", "/longest")
        await ask_json(port, "/stale")
        for at, (method, path) in enumerate(_ASKED):
            again = " again" if (method, path) in _ASKED[:at] else ""
            await measured(f"{method} {path}{again}", _PREFIX + path, method)
            if path == "/growth/baseline":
                await ask_json(port, "/keep/1000")
        await measured("GET /metrics", "/metrics")
        await measured("POST /tracing", f"{_PREFIX}/tracing", "POST")
        await ask_json(port, "/keep/50000")
        await measured("GET /snapshot, traced", f"{_PREFIX}/snapshot")
        await measured("GET /growth, traced", f"{_PREFIX}/growth")
        await ask(port, f"{_PREFIX}/tracing", method="POST", body='{"seconds": 0}')
        await asyncio.sleep(1.1)
    return found


async def _told_stall(port: int, path: str, method: str) -> float:
    """Ask until it is answered; what the answer says that it stalled, if it says something."""
    while True:
        status, body, _ = await ask(port, path, method=method)
        if status == 429:
            await asyncio.sleep(2.0)
            continue
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status}, {body.decode()[:200]}")
        if b'"stalled_ms":' not in body[:100]:
            return math.nan
        return float(body.partition(b'"stalled_ms":')[2].partition(b",")[0])
