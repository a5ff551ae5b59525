"""Walks over the heap: the tracked objects by type, and what holds some of them.

The walk itself is that of an inspection from outside, which runs none of the program's code and shows nothing of any
object but its type. While it holds references to all objects no other thread gets the interpreter, so that none of
them dies in our hands; of a large heap each n-th object is counted, which keeps that time short.
"""

from __future__ import annotations

import collections
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

# To list a million objects takes 20 ms, to ask all of 200,000 for their types 15 ms, each tenth of a million as long:
# a stall of 60 ms is the bound.
_ALL_COUNTED: Final = 200_000
_COUNTED: Final = 100_000

_PIECE: Final = 20_000

# Two blocks an object, on average over services of all kinds: an estimate that costs nothing.
_OBJECTS_PER_BLOCK: Final = 0.5

LOOK_S: Final = 0.5
FORKED_LOOK_S: Final = 10.0
"""A child stalls nobody."""

_LOOK_NODES: Final = 50_000
_SAMPLES: Final = 3

# Longer than any count takes, so that no other thread gets the interpreter in between.
_UNDISTURBED_S: Final = 0.5

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


def count() -> Walk:
    """The objects by type."""
    found, every, types = _undisturbed(_types)
    by_id: collections.Counter[int] = collections.Counter()
    kinds: dict[int, type] = {}
    # By identity: a metaclass may have an __eq__ and a __hash__ of the user's. In pieces that are loops in C of
    # a few milliseconds, between which other threads get the interpreter.
    for start in range(0, len(types), _PIECE):
        piece = types[start : start + _PIECE]
        by_id.update(map(id, piece))
        kinds.update(zip(map(id, piece), piece, strict=True))
    counts: collections.Counter[str] = collections.Counter()
    for number, number_of in by_id.items():
        counts[_payload()["_name"](kinds[number])] += number_of * every
    return Walk(t=time.time(), objects=found, every=every, counts=dict(counts))


def _types() -> tuple[int, int, list[type]]:
    """How many objects there are, each n-th of which is looked at, and the types of those."""
    objects = gc.get_objects()
    found = len(objects)
    every = 1 if found <= _ALL_COUNTED else -(-found // _COUNTED)
    return found, every, list(map(type, objects[::every] if every > 1 else objects))


def look(types: Sequence[str], limit_s: float = LOOK_S) -> dict[str, Held]:
    """What holds the newest instances of each type, as far as the time reaches."""
    if not types:
        return {}
    order = {"types": list(types), "samples": _SAMPLES, "nodes": _LOOK_NODES, "fresh": {}}
    found = _payload()["_look"](order, time.perf_counter() + limit_s)["held"]
    return {name: Held(site=held["site"], path=tuple(held["path"])) for name, held in found.items()}


def _undisturbed(walk: Callable[[], Any]) -> Any:
    switch_s, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.disable()  # a collection would be part of our stall
    sys.setswitchinterval(_UNDISTURBED_S)
    try:
        return walk()
    finally:
        sys.setswitchinterval(switch_s)
        if collecting:
            gc.enable()
        # Who waits for the interpreter waits as long as was said when he began: now he gets it.
        time.sleep(0)


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
