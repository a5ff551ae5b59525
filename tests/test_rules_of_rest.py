"""The six rules that make readings exact: each is kept here beside the way of breaking it."""

from __future__ import annotations

import collections
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import plugin_support
import pytest
from hunt_support import CALL_S, Clock, hunted

from pytest_memleak.hunt import hunt
from pytest_memleak.model import Budget, Outcome
from pytest_memleak.plugin.tracers import ThreadTracers
from pytest_memleak.probes.catalogue import Probes, TrackedObjects, find_probes
from pytest_memleak.probes.heap import Heap, borrowed_heap
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.settings import Settings
from pytest_memleak.verdict.exact import Rounds, judge, overall
from pytest_memleak.workloads.steps import drive


def no_call(number: int) -> None: ...


@pytest.fixture
def heap() -> Iterator[Heap]:
    with borrowed_heap() as lent:
        yield lent


# 1. The harness must not see itself.


def blocks_taken(record: Callable[[int], object], probes: Probes) -> int:
    record(0)
    gc.collect()
    before = probes.read["blocks"]()
    for number in range(1, 201):
        record(number)
    gc.collect()
    return probes.read["blocks"]() - before


def test_readings_in_the_ledger_leave_no_blocks_behind() -> None:
    probes = find_probes()
    ledger = Ledger(probes)
    # Not one block for four readings; other threads of a test run (xdist's) have a few of their own meanwhile.
    assert abs(blocks_taken(ledger.read, probes)) < 50
    assert ledger.length == 201


def test_readings_in_a_list_of_tuples_would_show_up_in_the_readings() -> None:
    probes = find_probes()
    snapshots: list[tuple[int, ...]] = []

    def record(number: int) -> None:
        snapshots.append(tuple(probe() for probe in probes.read.values()))

    assert blocks_taken(record, probes) > 200
    assert len(snapshots) == 201


# 2. At rest means at rest.


def watching(held: Sequence[object]) -> Probes:
    return Probes(read={"objects": held.__len__}, missing={})


def test_a_deep_rest_waits_for_a_worker_thread_that_finishes_late() -> None:
    held = [object()]

    def work() -> None:
        time.sleep(0.005)
        held.clear()

    worker = threading.Thread(target=work)
    probes = watching(held)
    worker.start()
    at_once = probes.read["objects"]()
    drive(at_rest(probes, deep=True), no_call)
    settled = probes.read["objects"]()
    worker.join()
    assert (at_once, settled) == (1, 0)


def test_a_rest_goes_on_while_two_readings_differ() -> None:
    held = [object() for _ in range(4)]
    probes = watching(held)
    rest = at_rest(probes)
    pauses = 0
    for _ in rest:
        # A worker that lets go of one more object in each pause, and is done after four.
        del held[-1:]
        pauses += 1
    assert not held
    assert pauses == 5


def test_a_rest_ends_even_when_no_two_readings_agree() -> None:
    readings = iter(range(1_000))
    probes = Probes(read={"objects": readings.__next__}, missing={})
    drive(at_rest(probes), no_call)
    assert 2 < next(readings) < 20


def test_tasks_that_end_a_tenth_of_a_second_after_their_calls_are_no_growth() -> None:
    clock = Clock()
    ends: collections.deque[float] = collections.deque()

    def call(number: int) -> None:
        clock.now += CALL_S / 5
        ends.append(clock.now + 0.1)

    def pending() -> int:
        while ends and ends[0] <= clock.now:
            ends.popleft()
        return len(ends)

    probes = find_probes()
    probes.read["tasks"] = pending
    steps = hunt("workload", Settings(max_time=30), probes=probes, clock=clock)
    result = drive(clock.resting(steps), call)
    assert result.outcome is Outcome.CLEAN, result.why
    assert clock.now < 20


def test_worker_threads_that_finish_late_are_no_growth() -> None:
    workers: collections.deque[threading.Thread] = collections.deque()
    # Under coverage every thread leaves its tracer, which the plugin lets go of before each call.
    tracers = ThreadTracers()

    def work(body: list[object]) -> None:
        time.sleep(0.005)

    def call(number: int) -> None:
        tracers.empty()
        if number % 20 == 0:
            worker = threading.Thread(target=work, args=([[] for _ in range(random.randint(1, 20))],))
            worker.start()
            workers.append(worker)
        while len(workers) > 2:
            workers.popleft().join()

    result = hunted(call, Settings(max_time=3), rests_timed=True)
    for worker in workers:
        worker.join()
    assert result.outcome is not Outcome.LEAK, result.why


# 3. A reading must not cost what the heap costs.


def test_after_freezing_the_collector_lists_only_what_is_new(heap: Heap) -> None:
    old = [[number] for number in range(1_000)]
    listed_before = len(gc.get_objects())
    heap.freeze()
    new = [[number] for number in range(100)]
    listed = gc.get_objects()
    found = {id(obj) for obj in listed}
    assert len(listed) < 500 < len(old) < listed_before
    assert all(id(obj) in found for obj in new)
    assert not any(id(obj) in found for obj in old)
    del listed, found


def test_without_freezing_the_collector_lists_the_old_objects_too(heap: Heap) -> None:
    heap.thaw()
    old = [[number] for number in range(1_000)]
    gc.collect()
    found = {id(obj) for obj in gc.get_objects()}
    assert all(id(obj) in found for obj in old)


def test_tracked_objects_count_old_ones_that_die(heap: Heap) -> None:
    old = [[number] for number in range(1_000)]
    heap.freeze()
    tracked = TrackedObjects()
    before, listed_before = tracked.count(), len(gc.get_objects())
    del old[:]
    new = [[number] for number in range(200)]
    change, change_of_the_list = tracked.count() - before, len(gc.get_objects()) - listed_before
    # Only the list of new objects would see a growth where objects were replaced by fewer.
    assert change == pytest.approx(len(new) - 1_000, abs=20)
    assert change_of_the_list == pytest.approx(len(new), abs=20)


def test_the_heap_is_given_back_unfrozen_also_on_errors() -> None:
    before = gc.get_freeze_count()

    def fail_on_a_frozen_heap() -> None:
        with borrowed_heap() as lent:
            lent.freeze()
            assert gc.get_freeze_count() > before + 1_000
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_a_frozen_heap()
    assert gc.get_freeze_count() <= before


def test_a_heap_that_the_program_froze_is_given_back_frozen() -> None:
    gc.freeze()
    try:
        with borrowed_heap() as lent:
            lent.thaw()
            assert gc.get_freeze_count() < 2_000
        assert gc.get_freeze_count() > 2_000
    finally:
        gc.unfreeze()


# 4. Enter the client.


def test_a_client_that_is_not_entered_is_named_in_the_notes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from starlette.testclient import TestClient

        async def hello(request):
            return PlainTextResponse("hello")

        app = Starlette(routes=[Route("/", hello)])

        @pytest.fixture
        def outside():
            return TestClient(app)

        @pytest.fixture
        def inside():
            with TestClient(app) as client:
                yield client

        @pytest.mark.no_leak(max_time=3)
        def test_broken(outside):
            assert outside.get("/").text == "hello"

        @pytest.mark.no_leak(max_time=3)
        def test_right(inside):
            assert inside.get("/").text == "hello"
    """)
    run = plugin_support.measure(pytester, "-vv", "-p", "no:randomly")
    assert "outside is not entered (`with TestClient(app) as outside`)" in plugin_support.words_of(run)
    notes = {name: " ".join(result["notes"]) for name, result in plugin_support.results(pytester).items()}
    broken = next(text for name, text in notes.items() if "test_broken" in name)
    right = next(text for name, text in notes.items() if "test_right" in name)
    assert "outside is not entered" in broken
    assert "not entered" not in right


# 5. Rounds of one size alias.

FULL, PRUNED = 750, 500


def cached(calls: int) -> int:
    """The entries of a cache that evicts in batches, after so many calls with a new key each."""
    return calls if calls < FULL else PRUNED + (calls - PRUNED) % (FULL - PRUNED)


def verdicts(sizes: Sequence[int]) -> list[Outcome]:
    """What the judge says of each window of 24 rounds."""
    calls = [1_000]
    for size in sizes:
        calls.append(calls[-1] + size)
    levels = [100_000 + cached(made) for made in calls]
    return [
        overall(
            judge(
                Rounds(calls=calls[first : first + 24], levels={"objects": levels[first : first + 24]}, whole=True),
                Budget(bytes_per_request=None),
            )
        )
        for first in range(len(sizes) - 22)
    ]


def test_rounds_of_one_size_take_a_cache_that_evicts_in_batches_for_a_leak() -> None:
    assert Outcome.LEAK in verdicts([256] * 80)


def test_rounds_of_random_sizes_seldom_do() -> None:
    rng = random.Random(0)
    drawn = verdicts([round(256 * rng.uniform(0.4, 1.6)) for _ in range(80)])
    assert drawn.count(Outcome.LEAK) < verdicts([256] * 80).count(Outcome.LEAK) / 4


@pytest.mark.parametrize("seed", range(4))
def test_a_hunt_never_convicts_a_cache_that_evicts_in_batches(seed: int) -> None:
    cache: dict[int, list[int]] = {}
    clock = Clock()

    def call(number: int) -> None:
        clock.now += 0.08 / 256
        cache[number] = [number]
        if len(cache) >= FULL:
            for key in list(cache)[: FULL - PRUNED]:
                del cache[key]

    steps = hunt("cache", Settings(max_time=5), probes=find_probes(), clock=clock, seed=seed)
    result = drive(clock.resting(steps), call)
    assert result.outcome is not Outcome.LEAK, result.why


# 6. A frozen object that becomes part of a dead cycle is not collected.


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_turnover_of_old_cyclic_objects_grows_in_a_frozen_heap_and_is_flat_once_it_is_refreshed(heap: Heap) -> None:
    nodes = collections.deque(Node() for _ in range(1_000))
    heap.freeze()
    tracked = TrackedObjects()
    before = tracked.count()
    for _ in range(500):
        nodes.popleft()
        nodes.append(Node())
    gc.collect()
    frozen = tracked.count() - before
    heap.refresh()
    tracked.refreeze()
    refreshed = tracked.count() - before
    assert frozen >= 500
    assert abs(refreshed) < 50


def test_turnover_of_old_cyclic_objects_is_not_convicted() -> None:
    nodes = collections.deque(Node() for _ in range(8_000))

    def call(number: int) -> None:
        nodes.popleft()
        nodes.append(Node())

    result = hunted(call, Settings(max_time=3), rests_timed=True)
    nodes.clear()
    assert result.outcome is not Outcome.LEAK, result.why
