"""Who keeps an object alive: the reference path from a module (or fixture) down to it, with names.

The search walks referrers with objgraph, which never calls the user's `__eq__`, `__repr__` or `__len__` and
is safe beside a live event loop, where walking everything's referents hangs some interpreters. It leaves
out this package's own frames and variables, and is bounded in time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import objgraph

from pytest_memleak.diagnosis import labels, source

_MAX_DEPTH: Final = 12
_MAX_PATH_S: Final = 1.0
"""Of processor time: on a busy machine the same leak has the same holder."""

_OWNERS: Final = (dict, list, tuple, set, type, types.FunctionType, types.CellType, types.ModuleType)
_PASSING: Final = (
    types.FrameType,
    types.CoroutineType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    asyncio.Future,
    asyncio.Handle,
)

_FOREIGN_ROOTS: Final = (
    "pytest_memleak",
    "_pytest",
    "pytest",
    "pluggy",
    "objgraph",
    "pympler",
    "gc",
    "tracemalloc",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A reference path as text: `labels` from the root to the object, `name` the dotted name of its end."""

    labels: tuple[str, ...]
    name: str
    rooted: bool
    """False when no module or fixture leads to the object."""
    is_users: bool
    """Whether the root is the user's own: a module of theirs or a fixture's value."""


class _TimeUp(Exception):
    pass


def path_to(
    obj: object,
    roots: Mapping[int, str],
    ignore: Sequence[object] = (),
    passing: Sequence[int] = (),
) -> Path:
    """The shortest path from a root to `obj`. The heap must be thawed.

    `roots` names objects by identity that end the search beside modules (the test's fixture values);
    `ignore` are the caller's own containers; `passing` are the identities of objects (`passing_objects`)
    that are no owners unless nobody else is found. Without a root in time, the path is `obj` alone.
    """
    ignored = [id(thing) for thing in ignore] + _own_frames()
    # What waits on a loop refers to it by the thousand and is no owner; only if nobody else is found, it is.
    for left_out in (list(passing), []) if passing else ([],):
        deadline = time.thread_time() + _MAX_PATH_S

        def is_root(candidate: object, deadline: float = deadline) -> bool:
            if time.thread_time() > deadline:
                raise _TimeUp
            return id(candidate) in roots or _is_program_class(candidate) or _module_of(candidate) is not None

        try:
            chain = objgraph.find_backref_chain(obj, is_root, max_depth=_MAX_DEPTH, extra_ignore=ignored + left_out)
        except (_TimeUp, RuntimeError):
            continue
        if len(chain) > 1:
            return _described(chain, roots, rooted=True)
    return _described([obj], roots, rooted=id(obj) in roots)


def _module_of(candidate: Any) -> types.ModuleType | None:
    """The imported module that a module or its namespace is, None for anything else and for the test tools.

    The namespace ends the search: beyond it stand all functions of the module, which refer to it too.
    """
    if type(candidate) is dict:
        # Only a namespace has this key; other dicts are asked for one text, never for the user's keys.
        name = _text(candidate.get("__name__")) if "__spec__" in candidate else ""
    elif issubclass(type(candidate), types.ModuleType):
        name = _text(getattr(candidate, "__name__", None))
    else:
        return None
    module = sys.modules.get(name)
    if name.partition(".")[0] in _FOREIGN_ROOTS or module is None:
        return None
    return module if module is candidate or vars(module) is candidate else None


def passing_objects(crowds: frozenset[int]) -> list[int]:
    """Identities of the frames, coroutines, tasks and callbacks, and of what there is by the hundred.

    `crowds` are the identities of the types that the observed calls made many of.
    """
    found = []
    # A heap has few types; asked once for each, since mocks have a type of their own by the thousand.
    # By identity: a metaclass may forbid to hash its classes, or do it in the user's code.
    is_passing = dict.fromkeys(crowds - {id(kind) for kind in _OWNERS}, True)
    for obj in gc.get_objects():
        kind = type(obj)
        try:
            passes = is_passing[id(kind)]
        except KeyError:
            passes = is_passing[id(kind)] = issubclass(kind, _PASSING)
        if passes:
            found.append(id(obj))
    return found


def own_generators() -> list[object]:
    """The generators of this package with their frames, whose variables refer to all that is looked at."""
    generators = [obj for obj in gc.get_objects() if type(obj) is types.GeneratorType]
    own = [obj for obj in generators if source.is_ours(obj.gi_code.co_filename)]
    return [*own, *(generator.gi_frame for generator in own)]


def _is_program_class(candidate: object) -> bool:
    """Whether a class is found in its module under its own name: the search need not go further."""
    if not issubclass(type(candidate), type):
        return False
    candidate = cast(type, candidate)
    module = sys.modules.get(source.module_name(candidate))
    name = source.module_name(candidate).partition(".")[0]
    return module is not None and name not in _FOREIGN_ROOTS and vars(module).get(candidate.__name__) is candidate


def _text(value: object) -> str:
    """A name that is one: metaclasses of extensions answer with descriptors."""
    return value if isinstance(value, str) else ""


def _own_frames() -> list[int]:
    """The frames of this package on the stack now."""
    found = []
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if source.is_ours(frame.f_code.co_filename):
            found.append(id(frame))
        frame = frame.f_back
    return found


def _described(chain: Sequence[Any], roots: Mapping[int, str], *, rooted: bool) -> Path:
    first = _module_of(chain[0]) or chain[0]
    if first is not chain[0]:
        chain = [first, *chain]
    names = [roots.get(id(first)) or labels.own_name(first), *labels.steps(chain)]
    return Path(labels=tuple(names), name="".join(names), rooted=rooted, is_users=_is_users_root(first, roots))


def _is_users_root(root: object, roots: Mapping[int, str]) -> bool:
    is_class = issubclass(type(root), type)
    module = sys.modules.get(source.module_name(cast(type, root))) if is_class else root
    if issubclass(type(module), types.ModuleType):
        return source.is_users(vars(module).get("__file__") or "<built-in>")
    return roots.get(id(root), "").startswith(("fixture ", "app"))
