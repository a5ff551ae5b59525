"""The apps that the monitor's benchmarks serve, with the monitor and without it.

Each is a factory for uvicorn. The variable MEMLEAK_BENCHMARK_MONITOR says whether the monitor is on; nothing else
differs, and nothing of the monitor is imported without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import FastAPI, HTTPException
from http_load import CPU, keep_to

MONITOR: Final = "MEMLEAK_BENCHMARK_MONITOR"
SIZE: Final = "MEMLEAK_BENCHMARK_SIZE"
"""How many routes, or objects."""

_TICK_S: Final = 0.001


def _begin(app: FastAPI) -> Any:
    """Go to the server's core, and set the monitor up if it is asked for."""
    if CPU in os.environ:
        keep_to(os.environ[CPU])
    if not os.environ.get(MONITOR):
        return None
    from pytest_memleak.monitor import setup_memory_monitoring

    return setup_memory_monitoring(app)


def hello() -> FastAPI:
    """The smallest app there is."""
    app = FastAPI()
    _begin(app)

    @app.get("/hello")
    async def say_hello() -> dict[str, str]:
        return {"hello": "world"}

    return app


def routes() -> FastAPI:
    """Many routes; `/sampled` makes as if a request of each had been looked at, which takes minutes by itself."""
    app = FastAPI()
    monitor = _begin(app)
    paths = [f"/route{number}/{{item}}" for number in range(int(os.environ[SIZE]))]

    async def answer(item: int) -> dict[str, int]:
        return {"item": item}

    for path in paths:
        app.get(path)(answer)

    @app.get("/sampled")
    async def sampled() -> dict[str, int]:
        from pytest_memleak.model_monitor import Sample

        for at, path in enumerate(paths):
            delta = at * 1_009 % 20_000 - 5_000
            sample = Sample(endpoint=f"GET {path}", delta_bytes=delta, is_alone=True)
            monitor.tell(monitor.on_sample, sample)
        return {"endpoints": len(paths)}

    return app


class _Node:
    def __init__(self, number: int, before: Any) -> None:
        self.number = number
        self.before = before


def heap() -> FastAPI:
    """A large heap, and a task of its own that looks how long the loop stands still."""
    longest = [0.0]

    @contextlib.asynccontextmanager
    async def ticking(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_tick(longest))
        yield
        task.cancel()

    app = FastAPI(lifespan=ticking)
    monitor = _begin(app)
    # A full collection that comes by itself is the app's own stall, of 150 ms and more: it would be taken for ours.
    gc.set_threshold(*gc.get_threshold()[:2], 1_000_000)
    kept: list[Any] = []
    for number in range(int(os.environ[SIZE]) // 4):
        # What a service keeps: instances, lists, dicts, tuples that hold other objects.
        node = _Node(number, kept[-1] if kept else None)
        row = [node]
        kept += (node, row, {"row": row}, (row, number))
    _add_kept(app, kept)

    @app.get("/longest")
    async def tell_longest() -> dict[str, float]:
        seen, longest[0] = longest[0], 0.0
        return {"ms": seen * 1000}

    @app.get("/prepared")
    async def prepared() -> dict[str, int]:
        """An hour of readings, as if it had run for so long, and no verdict yet."""
        _fill(monitor)
        return {"objects": len(gc.get_objects())}

    @app.get("/stale")
    async def stale() -> dict[str, bool]:
        monitor.judged = None
        return {"judged": False}

    return app


def _add_kept(app: FastAPI, kept: list[Any]) -> None:
    @app.get("/keep/{number}")
    async def keep(number: int) -> dict[str, int]:
        kept.extend([value] for value in range(number))
        return {"kept": len(kept)}


async def _tick(longest: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        longest[0] = max(longest[0], time.perf_counter() - before - _TICK_S)


def _fill(monitor: Any) -> None:
    from pytest_memleak.model_monitor import Reading

    ring = monitor.ring
    now = time.time()
    for at in range(ring.size):
        uneven = at * 7_919 % 97
        level = 200_000_000 + 2_000 * at + 10_000 * uneven
        t = now - (ring.size - at) * monitor.settings.interval_s
        finished = {f"GET /e{number}": at * (number + 5) + (uneven * (number + 3)) % 89 for number in range(20)}
        ring.add(Reading(t=t, rss_bytes=level, vms_bytes=2 * level, live_bytes=level, in_flight=1), finished)


def soaked() -> FastAPI:
    """Several routes, some of which fail, and one that tells the live heap when nothing else goes on."""
    app = FastAPI()
    _begin(app)

    @app.get("/items/{item}")
    async def one_item(item: int) -> dict[str, Any]:
        return {"item": item, "names": [str(value) for value in range(20)]}

    @app.get("/threaded/{item}")
    def threaded(item: int) -> dict[str, int]:
        return {"item": item}

    @app.post("/orders")
    async def order() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"order": "taken"}

    @app.get("/conflict")
    async def conflict() -> None:
        raise HTTPException(409, "on purpose")

    @app.get("/broken")
    async def broken() -> None:
        raise LookupError("on purpose")

    @app.get("/live")
    async def live() -> dict[str, int]:
        from pytest_memleak.monitor.live import LIVE

        gc.collect()
        return {"bytes": LIVE.now()}

    return app
