"""Walks over the heap: the tracked objects by type, and what holds some of them.

The search for the holder is that of an inspection from outside, which runs none of the program's code and shows nothing
of any object but its type.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_memleak import inspection
from pytest_memleak.model_monitor import Walk
from pytest_memleak.monitor import census
from pytest_memleak.monitor.census import Census

# Two blocks an object, on average over services of all kinds: an estimate that costs nothing.
_OBJECTS_PER_BLOCK: Final = 0.5

# Each step up is one look at all objects, 10 to 30 ms for a million: a holder is three to six steps away.
LOOK_S: Final = 2.0
FORKED_LOOK_S: Final = 10.0
"""A child stalls nobody."""

_LOOK_NODES: Final = 50_000
_SAMPLES: Final = 3

_OURS: Final = __name__.partition(".")[0] + "."

_FORKED_S: Final = 60.0
"""A child that does not answer for so long is killed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What leads to the newest instances of a type: types and names only."""

    site: str
    path: tuple[str, ...]


def estimated_objects(last: Walk | None, blocks_then: int) -> int:
    """How many tracked objects there are, about: from the allocator's blocks, by their ratio at the last walk."""
    ratio = last.objects / blocks_then if last is not None and blocks_then else _OBJECTS_PER_BLOCK
    return round(sys.getallocatedblocks() * ratio)


def count() -> Census:
    """The objects by the identity of their type."""
    _payload()  # before the first count: its functions are no growth of the program's
    return census.take()


def walk_of(found: Census) -> Walk:
    """The objects by type, without those of our own classes. Classes of one name are counted together."""
    counts = {name: sum(found.counts[number] for number in numbers) for name, numbers in _by_name(found).items()}
    return Walk(t=time.time(), objects=found.objects, counts=counts)


def _by_name(found: Census) -> dict[str, list[int]]:
    names: dict[str, list[int]] = {}
    for number, kind in found.types.items():
        name = _payload()["_name"](kind)
        if not name.startswith(_OURS):
            names.setdefault(name, []).append(number)
    return names


def look(found: Census, types: Sequence[str], limit_s: float = LOOK_S) -> dict[str, Held]:
    """What holds the newest instances of each type, as far as the time reaches."""
    if not types:
        return {}
    numbers = _by_name(found)
    samples = {name: census.newest(found, numbers[name], _SAMPLES) for name in types}
    order = {"types": list(types), "nodes": _LOOK_NODES}
    held = _payload()["_held"](samples, order, time.perf_counter() + limit_s)
    return {name: Held(site=one["site"], path=tuple(one["path"])) for name, one in held.items()}


@functools.cache
def _payload() -> dict[str, Any]:
    """The inspection's functions, in frames that they know for their own and leave out."""
    source = Path(next(iter(inspection.__path__)), "payload.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "memleak"}
    exec(compile(source, "<memleak>", "exec"), names)
    return names


def in_child(work: Callable[[], Any]) -> Any:
    """What a function finds, as plain values, in a forked copy of this process that ends at once.

    The program waits only for the copy of its page tables, some 10 ms for a gigabyte; the pages that the walk
    touches are copied meanwhile, so memory may rise. Raises OSError where the child does not answer.
    """
    inward, outward = os.pipe()
    with warnings.catch_warnings():
        # That other threads run is known: the child touches none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _answer(work, outward)
    os.close(outward)
    try:
        data = _read_all(inward, time.monotonic() + _FORKED_S)
    finally:
        os.close(inward)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        return json.loads(data)
    except ValueError:
        raise OSError("the forked child ended without an answer") from None


def _answer(work: Callable[[], Any], outward: int) -> None:
    try:
        gc.disable()
        data = json.dumps(work()).encode()
        while data:
            data = data[os.write(outward, data) :]
    finally:
        # Nothing of the program's may run here: no atexit, no finalizer, no flush of its files.
        os._exit(0)


def _read_all(inward: int, until_s: float) -> bytes:
    parts = []
    while select.select([inward], [], [], max(0.0, until_s - time.monotonic()))[0]:
        part = os.read(inward, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
