"""Growth that is no leak: containers bounded by construction, recorders of the test tools, the user's list."""

from __future__ import annotations

import collections
import gc
import re
import sys
import types
from collections.abc import Sequence
from typing import Any, Final

from pytest_memleak.diagnosis import labels
from pytest_memleak.diagnosis.containers import LRU_CACHE
from pytest_memleak.diagnosis.source import module_name
from pytest_memleak.model import Leak

# What hand-written bounded containers call their bound; the owner is the object that holds the container.
_BOUND_ATTRIBUTES: Final = (
    "maxsize",
    "_maxsize",
    "max_size",
    "_max_size",
    "maxlen",
    "capacity",
    "_capacity",
    "max_entries",
)

# Caches of the standard library whose bound is a constant of their module.
_BOUNDED_BY_MODULE: Final = (("re", "_cache", "_MAXCACHE"), ("re", "_cache2", "_MAXCACHE2"))

# unittest.mock keeps every call, pytest's monkeypatch every replaced attribute until the test ends. What is
# emptied after each call anyway stands here for what escapes: a mock that is made late, a fixture of the session.
_RECORDERS: Final = {
    ("unittest.mock", "_CallList"): "unittest.mock records every call",
    ("_pytest.monkeypatch", "MonkeyPatch"): "monkeypatch keeps what it replaced until the test ends",
    ("coverage.collector", "Collector"): "coverage keeps a tracer of every thread",
    ("pytest_mock.plugin", "MockCache"): "pytest-mock keeps every patch until its fixture ends",
    ("pytest_mock.plugin", "MockerFixture"): "pytest-mock keeps every patch until its fixture ends",
    ("_pytest.logging", "LogCaptureHandler"): "pytest captures the log",
    ("_pytest.recwarn", "WarningsRecorder"): "pytest records warnings",
}


def bound_of(container: Any, length: int) -> str:
    """What bounds a container, in words; empty when nothing that can be seen does."""
    if type(container) is LRU_CACHE:
        maxsize = container.cache_info().maxsize
        return "" if maxsize is None else f"lru_cache(maxsize={maxsize})"
    is_deque = issubclass(type(container), collections.deque)
    maxlen = collections.deque.maxlen.__get__(container) if is_deque else None
    if maxlen is not None:
        return f"deque(maxlen={maxlen})"
    for module, name, limit in _BOUNDED_BY_MODULE:
        namespace = vars(sys.modules[module])
        if namespace.get(name) is container:
            return f"{module}.{limit}={namespace.get(limit)}"
    for owner in (container, *_owners(container)):
        # A constant of a module says nothing of one of its containers.
        bound = None if issubclass(type(owner), types.ModuleType) else _stated_bound(owner)
        if bound is not None and bound[1] >= length:
            return f"{type(owner).__qualname__}.{bound[0]}={bound[1]}"
    return ""


def recorder_of(container: Any) -> str:
    """Which recorder of the test tools a container belongs to, in words; empty for none."""
    for owner in (container, *_owners(container)):
        kind = type(owner)
        reason = _RECORDERS.get((module_name(kind), kind.__qualname__))
        if reason:
            return reason
    return ""


def is_ignored(leak: Leak, ignore: Sequence[str]) -> str:
    """The entry of `ignore=` that covers a leak; empty when none does.

    An entry is a holder's dotted name (or the start of it up to a dot), `file.py:line` (any tail of the
    path), or a type's name as it stands in what grows.
    """
    for entry in ignore:
        holder = leak.holder.name if leak.holder else ""
        if holder == entry or holder.startswith((entry + ".", entry + "[")):
            return entry
        if ":" in entry and any(
            _is_place(str(frame), entry) for site in leak.sites for frame in (site.frame, site.inner) if frame
        ):
            return entry
        # Types are words of the description, with or without their module, never parts of words.
        if re.search(rf"(?<!\w){re.escape(entry)}(?![\w.])", leak.what):
            return entry
    return ""


def _is_place(place: str, entry: str) -> bool:
    return place == entry or place.endswith("/" + entry)


def _owners(container: Any) -> list[Any]:
    """The objects one or two references above a container: its instance, possibly through a `__dict__`."""
    found = []
    for owner in gc.get_referrers(container):
        kind = type(owner)
        if issubclass(kind, dict):
            found += [upper for upper in gc.get_referrers(owner) if labels.instance_dict(upper) is owner]
        elif not issubclass(kind, (list, tuple, set, types.FrameType, types.GeneratorType)):
            found.append(owner)
    return found


def _stated_bound(owner: Any) -> tuple[str, int] | None:
    names = (f"_{base.__name__}__maxsize" for base in type(owner).__mro__)
    for name in (*_BOUND_ATTRIBUTES, *names):
        namespace = labels.instance_dict(owner) or {}
        value = namespace.get(name)
        if type(value) is int and value > 0:
            return name, value
    return None
