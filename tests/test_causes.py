"""From findings to causes: what is told as a leak, and what known growth does not excuse."""

from __future__ import annotations

import re
import sys
import types

import pytest

from pytest_memleak.diagnosis import known
from pytest_memleak.diagnosis.causes import causes, unexplained
from pytest_memleak.diagnosis.holders import Held, Kept
from pytest_memleak.model import Frame, Holder, Site

CACHE = (("app/cache.py", 5), None)
LEAK = (("app/orders.py", 17), None)


def site(places: tuple[tuple[str, int], None], bytes_per_call: float) -> Site:
    (path, line), _ = places
    return Site(frame=Frame(path=path, line=line), place=places[0], bytes_per_call=bytes_per_call, count_per_call=1)


def known_cache(bytes_per_entry: float) -> Held:
    """A bounded cache that gains one entry per call."""
    kept = Kept(
        holder=Holder(name="app.cache.SEEN", kind="lru_cache", entries_per_call=1, bound="lru_cache(maxsize=9000)"),
        site=None,
        types="str",
        bytes_per_entry=bytes_per_entry,
        table_bytes_per_entry=0,
        explained=frozenset([CACHE]),
        callables=False,
        is_users=True,
    )
    return Held(kept=(), known=(kept,), loose=(), notes=())


def test_a_bounded_cache_that_fills_does_not_hide_a_leak_beside_it() -> None:
    held, sites = known_cache(60), [site(LEAK, 5_000), site(CACHE, 60)]
    assert [str(one.frame) for one in unexplained(held, sites)] == ["app/orders.py:17"]
    (leak,) = causes([], held, sites, 5_060)
    assert str(leak.sites[0].frame) == "app/orders.py:17"


def test_what_comes_and_goes_beside_a_cache_that_fills_is_no_leak() -> None:
    held, sites = known_cache(600), [site(CACHE, 600), site(LEAK, 50)]
    assert unexplained(held, sites) == []
    assert causes([], held, sites, 650) == []


def test_a_cache_of_the_standard_library_is_known_to_be_bounded() -> None:
    cache: object = vars(re)["_cache"]
    assert known.bound_of(cache, 10) == f"re._MAXCACHE={vars(re)['_MAXCACHE']}"
    assert known.bound_of({"of": "the user"}, 10) == ""


def test_a_constant_of_a_module_bounds_none_of_its_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, int] = {}
    module = types.ModuleType("shop_with_a_capacity")
    vars(module).update(capacity=10_000, SEEN=seen)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert known.bound_of(seen, 10) == ""
