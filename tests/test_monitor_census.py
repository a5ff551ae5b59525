"""The count of the objects is exact on a heap that is counted in pieces, whatever comes and goes in between."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_memleak.monitor import census, walking


class Here:
    pass


class Gone:
    pass


class Young:
    pass


class Between:
    """Something happens between two pieces."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pieces = 0
        self.then: Callable[[int], object] = lambda _: None
        self._undisturbed = census.undisturbed
        patch.setattr(census, "undisturbed", self)

    def __call__(self, work: Callable[[], Any]) -> Any:
        found = self._undisturbed(work)
        self.pieces += 1
        self.then(self.pieces)
        return found


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """Small pieces, of a heap where only the test makes old objects and no garbage."""
    monkeypatch.setattr(census, "_PIECE", 4_000)
    monkeypatch.setattr(census, "_MOST_PIECES", 1_000)
    gc.collect()
    gc.disable()
    yield Between(monkeypatch)
    gc.enable()


def counted(kind: type, found: census.Census) -> int:
    return found.counts.get(id(kind), 0)


def old(make: Callable[[], list[object]]) -> list[object]:
    made = make()
    gc.collect()
    return made


needs_order = pytest.mark.skipif(sys.version_info >= (3, 14), reason="it is counted in one piece")


@needs_order
def test_old_and_young_are_counted_once_each(between: Between) -> None:
    kept = old(lambda: [Here() for _ in range(15_432)])
    young = [Young() for _ in range(321)]
    found = census.take()
    assert between.pieces > 5
    assert (counted(Here, found), counted(Young, found)) == (15_432, 321)
    assert found.objects == sum(found.counts.values())
    assert found.objects == pytest.approx(len(gc.get_objects()), abs=50)
    assert found.types[id(Here)] is Here
    del kept, young


@needs_order
def test_what_goes_meanwhile_moves_nobody_out_of_the_count(between: Between) -> None:
    both = old(lambda: [kind() for _ in range(20_000) for kind in (Here, Gone)])
    kept, leaving = both[::2], both[1::2]
    both.clear()
    # The oldest first: when the count has come to them, from behind it.
    between.then = lambda _: leaving.__delitem__(slice(100))
    found = census.take()
    assert counted(Here, found) == 20_000
    assert len(leaving) < counted(Gone, found) < 20_000
    del kept


@needs_order
def test_what_comes_meanwhile_and_grows_old_is_counted_once(between: Between) -> None:
    kept = old(lambda: [Here() for _ in range(4_000)])
    coming: list[object] = []

    def come(pieces: int) -> None:
        coming.extend(Here() for _ in range(10))
        gc.collect(1)  # the young collections make them old

    between.then = come
    found = census.take()
    # Those of the last time came when all had been counted.
    assert counted(Here, found) == 4_000 + len(coming) - 10
    del kept


@needs_order
@pytest.mark.parametrize("collections", [1, 2, 100])
def test_a_full_collection_meanwhile_begins_it_anew(collections: int, between: Between) -> None:
    kept = old(lambda: [Here() for _ in range(4_000)])
    done = 0

    def collect(pieces: int) -> None:
        nonlocal done
        if done < collections:
            done += 1
            gc.collect()

    between.then = collect
    assert counted(Here, census.take()) == 4_000
    # Twice in each of three tries: behind a piece, and behind the one that sees it.
    assert done == min(collections, 7)
    del kept


@needs_order
def test_too_many_that_go_at_once_begin_it_anew(between: Between) -> None:
    leaving = old(lambda: [Gone() for _ in range(30_000)])
    kept = old(lambda: [Here() for _ in range(4_000)])
    between.then = lambda pieces: leaving.clear() if pieces == 10 else None
    found = census.take()
    assert (counted(Here, found), counted(Gone, found)) == (4_000, 0)
    del kept


def test_other_threads_run_in_between(between: Between) -> None:
    over = threading.Event()
    turns = 0

    def run() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1

    thread = threading.Thread(target=run)
    thread.start()
    seen: list[int] = []
    between.then = lambda _: seen.append(turns)
    try:
        while len(set(seen)) < 3:
            census.take()
    finally:
        over.set()
        thread.join()
    assert sys.getswitchinterval() < 0.1
    assert not gc.isenabled()


def test_the_newest_of_the_old_are_given(between: Between) -> None:
    kept = old(lambda: [Here() for _ in range(4_000)])
    more = old(lambda: [Gone() for _ in range(4_000)])
    young = [Young(), *(Here() for _ in range(5))]
    found = census.take()
    assert all(one in kept for one in census.newest(found, [id(Here)], 3))
    assert len(census.newest(found, [id(Here)], 3)) == 3
    assert census.newest(found, [id(Young)], 3) == young[:1]
    assert census.newest(found, [id(Between)], 3) == [between]
    more.clear()
    kept.clear()
    assert census.newest(found, [id(Gone)], 3) == []
    assert all(one in young for one in census.newest(found, [id(Here)], 3))


def test_nothing_is_kept(between: Between) -> None:
    kept = [Here(), Here()]
    before = sys.getrefcount(kept[0])
    for _ in range(2):
        found = census.take()
        assert census.newest(found, [id(Here)], 3)
    gc.collect(0)
    census.newest(census.take(), [id(Here)], 3)
    after = sys.getrefcount(kept[0])
    assert after == before
    # Nor is there garbage of ours, which would hold all of them until it is collected.
    gc.collect()
    census.newest(census.take(), [id(Here), id(type(None))], 3)
    assert gc.collect() == 0


def test_a_holder_is_found_among_many_objects_and_our_own_are_left_out() -> None:
    many = [[number] for number in range(300_000)]
    HELD.append(Here())
    found = walking.count()
    walk = walking.walk_of(found)
    name = f"{__name__}.Here"
    assert walk.counts[name] == 1
    held = walking.look(found, [name])[name]
    assert held.path == (f"{__name__}.HELD (list)", name)
    assert not any(one.startswith("pytest_memleak.") for one in walk.counts)
    assert walk.counts["list"] > len(many)
    HELD.clear()


HELD: list[Here] = []
