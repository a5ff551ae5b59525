"""The monitor's endpoints: what each may cost, and who answers it."""

from __future__ import annotations

import functools
import json
import math
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any, Final

import psutil
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response

from pytest_memleak.monitor import answers, collecting, found
from pytest_memleak.monitor.costly import Busy, Costly, LookThread
from pytest_memleak.monitor.growth import SHOWN, Declined, Growth
from pytest_memleak.monitor.guard import Guard
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.monitor.tracing import Tracing

TAG: Final = "memory"

_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": answers.Refusal, "description": "a body that is no JSON"},
    401: {"model": answers.Refusal, "description": "a stranger"},
    403: {"model": answers.Refusal, "description": "a stranger"},
    429: {"model": answers.Refusal, "description": "too costly just now: Retry-After says when"},
}

# A verdict changes with the readings, and takes up to half a second of a thread.
_FRESH_READINGS: Final = 2
_LEAST_FRESH_S: Final = 2.0

_FORCE: Final = "also where it stalls the process for longer than its bound"


def make_router(monitor: Monitor, guard: Guard, **options: Any) -> APIRouter:
    """The endpoints below the prefix. `options` are those of an APIRouter."""
    router = APIRouter(
        prefix=monitor.settings.prefix,
        tags=[TAG],
        dependencies=list(monitor.settings.dependencies),
        route_class=_guarded(guard),
        **options,
    )
    endpoints = Endpoints(monitor)
    monitor.on_fork.append(endpoints.forget)
    monitor.on_worker_exit.append(endpoints.end)
    shown = monitor.settings.include_in_schema
    for method, path, endpoint, model in endpoints.table():
        router.add_api_route(
            path, endpoint, methods=[method], response_model=model, responses=_REFUSALS, include_in_schema=shown
        )
    return router


def _guarded(guard: Guard) -> type[APIRoute]:
    """Routes that ask the guard before anything of the request is read, and tell nothing of it in an error."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()

            async def handle(request: Request) -> Response:
                refusal = guard.refusal(request.scope)
                if refusal is not None:
                    return refusal  # type: ignore[return-value]
                try:
                    return await answer(request)
                except RequestValidationError as error:
                    return JSONResponse({"detail": [_bare(one) for one in error.errors()]}, status_code=422)
                except Busy as error:
                    headers = {"Retry-After": str(math.ceil(error.wait_s))}
                    return JSONResponse({"detail": str(error)}, status_code=429, headers=headers)

            return handle

    return Guarded


def _bare(error: Any) -> dict[str, Any]:
    return {"loc": list(error["loc"]), "msg": error["msg"], "type": error["type"]}


class Endpoints:
    """Each gives plain values; the models are for the document, and the tests hold the values against them."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._thread = LookThread()
        self._costly = Costly(self._thread)
        # Its numbers are crunched beside the program, and no more often than there are new readings.
        self._verdicts = Costly(self._thread, is_free=True)
        self._growth = Growth(monitor)
        self.tracing = Tracing(monitor.unjudged)
        self._process: psutil.Process | None = None

    def forget(self) -> None:
        """A forked child begins anew."""
        self._thread.forget()
        self._costly.forget()
        self._verdicts.forget()
        self.tracing.forget()
        self._process = None

    def end(self) -> None:
        """The worker stops."""
        self.tracing.end()
        self._thread.end()

    def table(self) -> tuple[tuple[str, str, Callable[..., Any], Any], ...]:
        """Method, path, what answers, and the answer's shape."""
        return (
            ("GET", "/snapshot", self.snapshot, answers.Snapshot),
            ("POST", "/tracing", self.trace, answers.TracingState),
            ("GET", "/growth", self.growth, answers.Growth),
            ("POST", "/growth/baseline", self.reset_baseline, answers.Baseline),
            ("GET", "/history", self.history, answers.History),
            ("GET", "/gc-stats", self.gc_stats, answers.GcStats),
            ("POST", "/gc-collect", self.gc_collect, answers.Collected),
            ("GET", "/leaks", self.leaks, answers.Leaks),
            ("GET", "/process-info", self.process_info, answers.ProcessInfo),
        )

    async def snapshot(self, force: bool = Query(False, description=_FORCE)) -> Response:
        """The memory of now; the lines that allocated most, while tracing is on."""
        top: list[dict[str, Any]] = []
        stalled_ms: float | None = None
        if self.tracing.is_on:
            (top, missing), stalled_ms = await self._costly.run(functools.partial(self.tracing.top, force=force))
        else:
            top, missing = self.tracing.top(force=force)
        begun = time.perf_counter()
        walk = self._monitor.walk
        answer = {
            "t": time.time(),
            **found.memory(self._monitor),
            "objects": walk.objects if walk else None,
            "tracing": self.tracing.is_on,
            "tracing_left_s": self.tracing.left_s,
            "top": top,
            "top_missing": missing,
            "tracked": self._monitor.tracked(),
        }
        return self._answer(answer, begun, stalled_ms)

    async def trace(self, order: answers.TracingOrder | None = None) -> Response:
        """Trace allocations for a limited time, of which `snapshot` then tells; it slows the program meanwhile."""
        order = order or answers.TracingOrder(seconds=60, frames=1)
        # It waits for a verdict that is being made.
        await self._thread.begin(functools.partial(self.tracing.switch, order.seconds, order.frames)).found()
        begun = time.perf_counter()
        answer = {
            "tracing": self.tracing.is_on,
            "tracing_left_s": self.tracing.left_s,
            "frames": tracemalloc.get_traceback_limit() if self.tracing.is_on else 0,
        }
        return self._answer(answer, begun)

    async def growth(
        self,
        force: bool = Query(False, description=_FORCE),
        samples: int = Query(3, ge=0, le=10, description="types of which is said who holds one"),
        types: int = Query(SHOWN, ge=1, le=10_000, description="how many at most: those that grew most, then the most"),
    ) -> Response:
        """The types whose objects accumulate since the baseline. The first walk is the baseline."""
        try:
            (walk, baseline, rows), stalled_ms = await self._costly.run(
                functools.partial(self._growth.types, force=force, samples=samples, most=types)
            )
        except Declined as error:
            empty: dict[str, Any] = {
                "t": None,
                "baseline_t": None,
                "objects": 0,
                "declined": str(error),
                "types": [],
            }
            return self._answer(empty, time.perf_counter())
        return self._answer(found.growth(walk, baseline, rows), time.perf_counter(), stalled_ms)

    async def reset_baseline(self, force: bool = Query(False, description=_FORCE)) -> Response:
        """Take the objects of now for the baseline of `growth`."""
        try:
            walk, stalled_ms = await self._costly.run(functools.partial(self._growth.reset, force=force))
        except Declined as error:
            return self._answer(
                {"t": None, "objects": 0, "declined": str(error)}, time.perf_counter()
            )  # fmt: skip
        answer = {"t": walk.t, "objects": walk.objects, "declined": None}
        return self._answer(answer, time.perf_counter(), stalled_ms)

    async def history(self, minutes: float = Query(60, gt=0, description="how far back")) -> Response:
        """The past readings."""
        begun = time.perf_counter()
        return self._answer(found.history(self._monitor, minutes), begun)

    async def gc_stats(self) -> Response:
        """The garbage collector: its runs and pauses by generation."""
        begun = time.perf_counter()
        return self._answer(found.gc_stats(self._monitor), begun)

    async def gc_collect(
        self,
        generation: int = Query(2, ge=0, le=2),
        force: bool = Query(False, description=_FORCE),
    ) -> Response:
        """Collect garbage now; on a large heap only the young generations, unless forced."""
        work = functools.partial(collecting.collect, self._monitor, generation, force=force)
        answer, stalled_ms = await self._costly.run(work)
        return self._answer(answer, time.perf_counter(), stalled_ms)

    async def leaks(self) -> Response:
        """Whether memory grows, how sure that is, and whose requests keep it."""
        begun, monitor = time.perf_counter(), self._monitor
        fresh_s = max(_LEAST_FRESH_S, _FRESH_READINGS * monitor.settings.interval_s)
        last = monitor.judged
        if last is not None and time.time() - last.t <= fresh_s:
            return self._answer(found.leaks(last), begun)
        try:
            judged, stalled_ms = await self._verdicts.run(monitor.judge)
        except Busy:
            if last is None:
                raise
            # The last one is better than none.
            return self._answer(found.leaks(last), begun)
        begun = time.perf_counter()
        return self._answer(found.leaks(judged), begun, stalled_ms)

    async def process_info(self) -> Response:
        """The process: memory, threads, descriptors, processor time."""
        begun = time.perf_counter()
        if self._process is None:
            self._process = psutil.Process()
        return self._answer(found.process_info(self._monitor, self._process), begun)

    def _answer(self, answer: dict[str, Any], begun: float, stalled_ms: float | None = None) -> Response:
        """With who answers, and what it stalled: what was done here, in the event loop, or what was seen of work."""
        # An hour of readings takes longer to write down than to find: that is part of the stall, so it comes first.
        body = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        here_ms = (time.perf_counter() - begun) * 1000
        stall = round(max(here_ms, stalled_ms or 0.0), 2)
        head = f'{{"pid":{self._monitor.pid},"stalled_ms":{stall},'
        return Response(head + body[1:], media_type="application/json", headers={"Cache-Control": "no-store"})
