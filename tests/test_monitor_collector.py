"""The instruments: the ring, the watch over the garbage collector, the thread, what requests are counted as."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastapi import FastAPI
from monitor_support import ask, scope_of
from waiting import until

from pytest_memleak.agent.traffic import Ticket
from pytest_memleak.model_monitor import OTHERS, UNMATCHED, Collection, Reading, Sample
from pytest_memleak.monitor import setup_memory_monitoring, teardown
from pytest_memleak.monitor.collector import Collector
from pytest_memleak.monitor.costly import Busy, Costly, LookThread
from pytest_memleak.monitor.gc_watch import GcWatch
from pytest_memleak.monitor.process import Figures
from pytest_memleak.monitor.requests import Requests, endpoint_of
from pytest_memleak.monitor.ring import Ring
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor


def reading(t: float, live: int = 0, in_flight: int = 0) -> Reading:
    return Reading(t=t, rss_bytes=live + 1, vms_bytes=live + 2, live_bytes=live, in_flight=in_flight)


@pytest.mark.parametrize("added", [0, 1, 3, 4, 5, 11])
def test_the_ring_keeps_the_last(added: int) -> None:
    ring = Ring(4)
    for number in range(added):
        ring.add(reading(number, live=number * 10), {"GET /a": number} if number % 2 == 0 else {})
    kept = list(range(max(0, added - 4), added))
    assert len(ring) == len(kept)
    assert [one.t for one in ring.readings()] == kept
    assert [one.live_bytes for one in ring.readings()] == [10 * number for number in kept]
    assert ring.last() == (reading(added - 1, live=10 * (added - 1)) if added else None)
    assert all(len(column) == len(kept) for column in ring.counts().values())
    assert [one.t for one in ring.readings(since=9)] == [number for number in kept if number >= 9]
    assert all(len(column) == len(ring.readings(9)) for column in ring.counts(9).values())


def test_a_ring_that_goes_on_does_not_grow() -> None:
    ring = Ring(100)
    counts = {f"GET /{number}": number for number in range(50)}
    ring.add(reading(0.5), counts)
    figures = Figures()

    def fill(readings: int) -> int:
        before = figures.live()
        for number in range(readings):
            ring.add(reading(number + 0.5, live=10**6), counts)
        return figures.live() - before

    fill(50)
    # 500 readings more: a byte kept of each number would be 25 kB and more.
    assert min(fill(500) for _ in range(3)) < 10_000


def test_the_collectors_runs() -> None:
    watch = GcWatch()
    watch.start()
    watch.start()
    assert gc.callbacks.count(watch._callback) == 1
    enabled = gc.isenabled()
    gc.disable()
    try:
        watch.fetch()
        before = watch.totals()
        for generation in (2, 0, 1):
            gc.collect(generation)
        found = watch.fetch()
    finally:
        if enabled:
            gc.enable()
    assert [one.generation for one in found] == [2, 0, 1]
    assert all(one.pause_s > 0 for one in found)
    assert watch.fetch() == []
    gained = [after.collections - first.collections for after, first in zip(watch.totals(), before, strict=True)]
    assert gained == [1, 1, 1]
    assert all(one.longest_s <= one.pause_s for one in watch.totals())
    watch.stop()
    gc.collect(0)
    assert watch.fetch() == []
    assert watch._callback not in gc.callbacks


def test_collections_that_nobody_fetches_take_no_memory() -> None:
    watch = GcWatch()
    for _ in range(20_000):
        watch._note("start", {})
        watch._note("stop", {"generation": 0, "collected": 1, "uncollectable": 0})
    assert watch.totals()[0].collections == 20_000
    assert len(watch.fetch()) < 10_000


def test_the_thread_goes_on_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    read: list[int] = []

    def fail() -> None:
        read.append(1)
        raise OSError("no file is left")

    collector = Collector(fail, 0.01)
    collector.start()
    until(lambda: len(read) >= 3, "a third reading")
    collector.stop()
    seen = len(read)
    assert capsys.readouterr().err.count("no file is left") == 1
    assert "memleak-monitor" not in {thread.name for thread in threading.enumerate()}
    assert len(read) == seen


def test_listeners_hear_everything_and_disturb_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(Settings(interval_s=0.02, history_minutes=1))
    heard: list[Any] = []

    def fail(_reading: Reading) -> None:
        raise RuntimeError("of a listener")

    monitor.on_reading += [fail, heard.append]
    monitor.on_collection.append(heard.append)
    monitor.on_worker_start.append(lambda: heard.append("start"))
    monitor.on_worker_exit.append(lambda: heard.append("exit"))
    monitor.start()
    monitor.start()
    gc.collect()
    until(lambda: {Reading, Collection} <= set(map(type, heard)), "a reading and a collection")
    monitor.stop()
    monitor.stop()
    assert (heard[0], heard[-1]) == ("start", "exit")
    assert heard.count("start") == heard.count("exit") == 1
    assert capsys.readouterr().err.count("of a listener") == 1


def test_the_live_heap_is_unknown_while_it_is_traced() -> None:
    figures = Figures()
    before = figures.live()
    tracemalloc.start()
    try:
        assert figures.live() == -1
        with pytest.raises(OSError, match="tracemalloc"):
            figures.weigh()
    finally:
        tracemalloc.stop()
    assert figures.live() > 0.9 * before > 0


class Route:
    def __init__(self, path: str, methods: set[str] | None) -> None:
        self.path = path
        self.methods = methods


@pytest.mark.parametrize(
    "kind, route, name",
    [
        ("GET", Route("/a/{b}", {"GET"}), "GET /a/{b}"),
        ("PUT", Route("/a/{b}", {"GET"}), UNMATCHED),
        ("BREW", Route("/a/{b}", {"GET"}), UNMATCHED),
        ("GET", None, UNMATCHED),
        ("BREW", Route("/mounted", None), "ANY /mounted"),
        ("WEBSOCKET", Route("/talk", None), "WEBSOCKET /talk"),
    ],
)
def test_what_a_request_is_counted_as(kind: str, route: Any, name: str) -> None:
    ticket = Ticket()
    ticket.note({"route": route})
    assert endpoint_of(kind, ticket) == name


def test_a_route_that_was_met_before_is_counted_under_its_name() -> None:
    requests = Requests(lambda sample: None)
    first, second = Route("/a/{b}", {"GET"}), Route("/c", {"GET", "PUT"})
    for route, method in [(first, "GET"), (second, "PUT"), (first, "GET"), (second, "GET"), (second, "PUT")]:
        requests.over({"route": route, "method": method}, Ticket(), None)
    assert requests.finished == {"GET /a/{b}": 2, "PUT /c": 2, "GET /c": 1}
    assert [requests.over({"route": first, "method": "PUT"}, Ticket(), None) for _ in range(2)] == [UNMATCHED] * 2
    requests.forget()
    assert requests.over({"route": first, "method": "GET"}, Ticket(), None) == "GET /a/{b}"
    assert requests.finished == {"GET /a/{b}": 1}


def test_a_route_in_the_place_of_one_that_is_gone_has_its_own_name() -> None:
    requests = Requests(lambda sample: None)
    for number in range(100):  # each likely where the last one was
        route = Route(f"/{number}", {"GET"})
        alive = weakref.ref(route)
        assert requests.over({"route": route, "method": "GET"}, Ticket(), None) == f"GET /{number}"
        del route
        assert alive() is None  # and is not kept alive


def test_a_name_that_comes_from_elsewhere_is_not_taken_from_before() -> None:
    requests = Requests(lambda sample: None)
    route = Route("/a", {"GET"})
    scope = {"route": route, "method": "GET", "root_path": "/one", "app_root_path": ""}
    assert requests.over({"route": route, "method": "GET"}, Ticket(), None) == "GET /a"
    assert requests.over(scope, Ticket(), None) == "GET /one/a"
    included = type("Context", (), {"original_route": route, "path": "/two/a"})()
    scope = {"route": route, "method": "GET", "fastapi": {"effective_route_context": included}}
    assert requests.over(scope, Ticket(), None) == "GET /two/a"
    inner = Ticket()
    inner.note({"route": Route("/b", {"GET"})})  # by a router that was given another scope
    assert requests.over({"route": route, "method": "GET"}, inner, None) == "GET /b"
    assert requests.over({"method": "GET"}, inner, None) == "GET /b"
    assert requests.over({"route": route, "method": "GET"}, Ticket(), None) == "GET /a"


def test_methods_that_strangers_invent_are_not_kept() -> None:
    requests = Requests(lambda sample: None)
    mounted = Route("/mounted", None)
    for number in range(50):
        assert requests.over({"route": mounted, "method": f"M{number}"}, Ticket(), None) == "ANY /mounted"
    assert requests._names == {}


def test_endpoints_are_bounded() -> None:
    requests = Requests(lambda sample: None)
    for number in range(600):
        ticket = Ticket()
        ticket.note({"route": Route(f"/{number}", {"GET"})})
        requests.count("GET", ticket)
    assert len(requests.finished) == 501
    assert requests.finished[OTHERS] == 100


def test_a_sampled_request_that_ran_alone() -> None:
    app = FastAPI()
    kept: list[bytes] = []

    @app.get("/keep")
    async def keep() -> int:
        await asyncio.sleep(0)
        kept.append(bytes(300_000))
        return len(kept)

    monitor = setup_memory_monitoring(app, interval_s=60)
    samples: list[Sample] = []
    monitor.on_sample.append(samples.append)
    monitor.start()
    until(lambda: len(monitor.ring), "the first reading: before it the judge is loaded, and nothing is sampled")
    try:
        for _ in range(3):
            ask(app, scope_of("/keep"))
            monitor.requests.next_sample_s = 0.0
    finally:
        teardown(app)
    assert [(sample.endpoint, sample.is_alone) for sample in samples] == [("GET /keep", True)] * 3
    assert samples[-1].delta_bytes == pytest.approx(300_000, rel=0.05)


def test_samples_of_requests_that_overlap_are_by_steps() -> None:
    app = FastAPI()
    kept: list[bytes] = []

    @app.get("/keep")
    async def keep() -> int:
        await asyncio.sleep(0.01)
        kept.append(bytes(300_000))
        return len(kept)

    @app.get("/light")
    async def light() -> int:
        await asyncio.sleep(0.03)
        return 0

    monitor = setup_memory_monitoring(app, interval_s=60)
    samples: list[Sample] = []
    monitor.on_sample.append(samples.append)
    monitor.start()
    until(lambda: len(monitor.ring), "the first reading: before it the judge is loaded, and nothing is sampled")

    async def both() -> None:
        # The light one is looked at, while the other keeps.
        await asyncio.gather(call(app, "/light"), call(app, "/keep"))

    try:
        asyncio.run(call(app, "/light"))
        monitor.requests.next_sample_s = 0.0
        asyncio.run(both())
    finally:
        teardown(app)
    assert [sample.is_alone for sample in samples] == [True, False]
    assert abs(samples[-1].delta_bytes) < 100_000


async def call(app: FastAPI, path: str) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None: ...

    await app(scope_of(path), receive, send)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_costly_looks_one_at_a_time_and_for_a_share_of_the_time() -> None:
    clock = Clock()
    costly = Costly(LookThread(), clock)
    inside, release = threading.Event(), threading.Event()

    def look() -> str:
        inside.set()
        assert release.wait(60)
        return "found"

    async def two() -> None:
        first = asyncio.ensure_future(costly.run(look))
        while not inside.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(Busy, match="under way"):
            await costly.run(lambda: None)
        release.set()
        found, stalled_ms = await first
        assert found == "found"
        assert stalled_ms >= 0

    asyncio.run(two())
    costly._left_s = -1.0
    with pytest.raises(Busy, match="share") as refused:
        asyncio.run(costly.run(lambda: None))
    assert refused.value.wait_s == pytest.approx(20, rel=0.01)
    clock.now += refused.value.wait_s + 1
    assert asyncio.run(costly.run(lambda: 7))[0] == 7


def is_running(thread: int) -> bool:
    return thread in {one.ident for one in threading.enumerate()}


def test_a_look_takes_none_of_the_threads_of_the_program() -> None:
    release = threading.Event()

    async def none_left() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, release.wait, 60)
            await anyio.sleep(0.01)
            try:
                thread = LookThread()
                first, _ = await Costly(thread).run(threading.get_ident)
                second, _ = await Costly(thread).run(threading.get_ident)
                assert first == second != threading.get_ident()
            finally:
                release.set()
        thread.end()
        await asyncio.to_thread(until, lambda: not is_running(first), "the thread ends")
        assert (await Costly(thread).run(lambda: 7))[0] == 7

    asyncio.run(none_left())


def test_a_look_that_nobody_waits_for_any_more_is_under_way_until_it_is_over() -> None:
    costly, inside, release = Costly(LookThread()), threading.Event(), threading.Event()

    def look() -> None:
        inside.set()
        assert release.wait(60)

    async def given_up() -> None:
        first = asyncio.ensure_future(costly.run(look))
        await asyncio.to_thread(until, inside.is_set, "the look begins")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(Busy, match="under way"):
            await costly.run(lambda: None)
        release.set()
        await asyncio.to_thread(until, lambda: not costly._turn.locked(), "the look is over")
        assert (await costly.run(lambda: 7))[0] == 7

    asyncio.run(given_up())


def test_where_no_thread_can_be_had_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    costly = Costly(LookThread())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(Busy, match="none can be had here"):
            asyncio.run(costly.run(lambda: None))
    assert asyncio.run(costly.run(lambda: 7))[0] == 7


def test_a_stall_is_told() -> None:
    def stall() -> None:
        # One call into C that gives nobody the interpreter.
        sorted(range(2_000_000), key=int.__neg__)

    def failing() -> None:
        raise LookupError("in the thread")

    _, stalled_ms = asyncio.run(Costly(LookThread()).run(stall))
    assert stalled_ms > 20
    with pytest.raises(LookupError):
        asyncio.run(Costly(LookThread()).run(failing))
