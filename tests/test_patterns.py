"""The catalogue holds what users were promised, and growing containers are matched to it."""

from __future__ import annotations

import pytest

from pytest_memleak.model import Holder
from pytest_memleak.patterns import catalogue
from pytest_memleak.patterns.match import pattern_of


def holder(kind: str) -> Holder:
    return Holder(name="app.HELD", kind=kind)


def test_the_catalogue_has_the_eight_patterns_with_their_severities() -> None:
    assert {pattern.name: pattern.severity for pattern in catalogue.PATTERNS} == {
        "unbounded_cache": "HIGH",
        "global_accumulation": "HIGH",
        "circular_reference": "MEDIUM",
        "database_connection": "HIGH",
        "event_listener": "HIGH",
        "thread_pool": "MEDIUM",
        "async_task": "MEDIUM",
        "file_handle": "MEDIUM",
    }


def test_names_find_their_patterns_and_none_is_listed_twice() -> None:
    assert tuple(catalogue.BY_NAME.values()) == catalogue.PATTERNS
    assert all(catalogue.BY_NAME[pattern.name] is pattern for pattern in catalogue.PATTERNS)


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("unbounded_cache", "cachetools.TTLCache(maxsize=…, ttl=…)"),
        ("global_accumulation", "deque(maxlen=…)"),
        ("circular_reference", "weakref.ref()"),
        ("database_connection", "async with"),
        ("event_listener", "unsubscribe"),
        ("thread_pool", ".shutdown()"),
        ("async_task", "TaskGroup"),
        ("file_handle", "with open(…) as f:"),
    ],
)
def test_a_pattern_says_what_it_looks_like_and_how_it_is_fixed(name: str, remedy: str) -> None:
    pattern = catalogue.BY_NAME[name]
    assert remedy in pattern.fix
    assert pattern.looks_like


@pytest.mark.parametrize("kind", ["list", "deque", "set", "bytearray"])
def test_a_growing_sequence_is_an_accumulation(kind: str) -> None:
    fix = catalogue.BY_NAME["global_accumulation"].fix
    assert pattern_of(holder(kind), callables=False) == ("global_accumulation", fix)


@pytest.mark.parametrize("kind", ["dict", "defaultdict", "OrderedDict", "WeakKeyDictionary"])
def test_a_growing_mapping_is_a_cache_without_a_bound(kind: str) -> None:
    fix = catalogue.BY_NAME["unbounded_cache"].fix
    assert pattern_of(holder(kind), callables=False) == ("unbounded_cache", fix)


def test_a_growing_lru_cache_is_told_to_take_its_own_bound() -> None:
    assert pattern_of(holder("lru_cache"), callables=False) == (
        "unbounded_cache",
        "give it a bound: lru_cache(maxsize=…)",
    )


@pytest.mark.parametrize("kind", ["list", "dict", "set"])
def test_a_container_that_gains_callbacks_holds_listeners_whatever_its_kind(kind: str) -> None:
    assert pattern_of(holder(kind), callables=True)[0] == "event_listener"
