"""From evidence to a pattern: which of the eight a growing container shows."""

from __future__ import annotations

from typing import Final

from pytest_memleak.model import Holder
from pytest_memleak.patterns import catalogue

_ORDERED: Final = ("list", "deque", "set", "bytearray")


def pattern_of(holder: Holder, callables: bool) -> tuple[str | None, str]:
    """The pattern's name and fix for a container that gains entries; `callables` when these are callbacks."""
    if holder.name.startswith("weakref.finalize"):
        return (
            "circular_reference",
            "a finalizer's callback must not hold its object: give it a weakref, or a plain function",
        )
    if holder.kind == "lru_cache":
        return "unbounded_cache", "give it a bound: lru_cache(maxsize=…)"
    if callables:
        name = "event_listener"
    elif holder.kind in _ORDERED:
        name = "global_accumulation"
    else:
        name = "unbounded_cache"
    return name, catalogue.BY_NAME[name].fix
