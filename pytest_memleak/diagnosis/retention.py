"""Who keeps an object alive: the reference path from a module (or fixture) down to it, with names.

The search walks referrers with objgraph, which never calls the user's `__eq__`, `__repr__` or `__len__` and
is safe beside a live event loop, where walking everything's referents hangs some interpreters. It leaves
out this package's own frames and variables, and is bounded in time.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import itertools
import re
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import objgraph

from pytest_memleak.diagnosis import source

_MAX_DEPTH: Final = 12
_MAX_PATH_S: Final = 1.0

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
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """The shortest path from a root to `obj`. The heap must be thawed.

    `roots` names objects by identity that end the search beside modules (the test's fixture values);
    `ignore` are the caller's own containers; `passing` are the identities of objects (`passing_objects`)
    that are no owners unless nobody else is found. Without a root in time, the path is `obj` alone.
    """
    ignored = [id(thing) for thing in ignore] + _own_frames()
    # What waits on a loop refers to it by the thousand and is no owner; only if nobody else is found, it is.
    for left_out in (list(passing), []) if passing else ([],):
        deadline = clock() + _MAX_PATH_S

        def is_root(candidate: object, deadline: float = deadline) -> bool:
            if clock() > deadline:
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
    name = roots.get(id(first)) or _own_name(first)
    labels = [name]
    passed_state = in_state = False
    for owner, owned in itertools.pairwise(chain):
        step = _step(owner, owned)
        passed_state = passed_state or _is_state(owner)
        if in_state:
            step = _ITEM.sub(r".\1", step)
        # `app.state.name` stands in a dict inside of the state.
        in_state = passed_state and step == "._state"
        if step and not in_state:
            name = _joined(name, step)
            labels.append(step)
    return Path(labels=tuple(labels), name=name, rooted=rooted, is_users=_is_users_root(first, roots))


_ITEM: Final = re.compile(r"\['(\w+)'\]")


def _is_state(obj: object) -> bool:
    """Whether an object is Starlette's `State`, as in `app.state`."""
    kind = type(obj)
    return kind.__qualname__ == "State" and source.module_name(kind) == "starlette.datastructures"


def _is_users_root(root: object, roots: Mapping[int, str]) -> bool:
    is_class = issubclass(type(root), type)
    module = sys.modules.get(source.module_name(cast(type, root))) if is_class else root
    if issubclass(type(module), types.ModuleType):
        return source.is_users(vars(module).get("__file__") or "<built-in>")
    return roots.get(id(root), "").startswith(("fixture ", "app"))


def _joined(name: str, step: str) -> str:
    return name + step


def _own_name(obj: object) -> str:
    kind = type(obj)
    if issubclass(kind, types.ModuleType):
        return str(vars(obj).get("__name__", "a module"))
    if issubclass(kind, (type, types.FunctionType)):
        named = cast(type, obj)
        return f"{source.module_name(named)}.{named.__qualname__}"
    return f"a {kind.__qualname__}"


def _step(owner: Any, owned: Any) -> str:
    """How `owner` refers to `owned`: `.attribute`, `['key']`, `[3]`, `(closure variable)`; empty for a namespace."""
    kind = type(owner)
    for base, describe in _STEPS:
        if issubclass(kind, base):
            return describe(owner, owned)
    return _attribute(owner, owned)


def _in_dict(owner: dict[Any, Any], owned: Any) -> str:
    for key, value in list(dict.items(owner)):
        if value is owned:
            # Only text and numbers are shown: any other key's repr would be the user's code.
            if type(key) is str and key.isidentifier() and _is_namespace(owner):
                return f".{key}"
            return f"[{key!r}]" if type(key) in (str, int) else f"[a {type(key).__qualname__}]"
        if key is owned:
            return "[key]"
    return "[…]"


def _is_namespace(owner: dict[Any, Any]) -> bool:
    """Whether a dict is the `__dict__` of a module, class or instance."""
    if "__builtins__" in owner or "__module__" in owner or "__spec__" in owner:
        return True
    return any(instance_dict(holder) is owner for holder in gc.get_referrers(owner))


def _in_sequence(owner: Any, owned: Any) -> str:
    base = list if issubclass(type(owner), list) else tuple
    index = next((i for i in range(base.__len__(owner)) if base.__getitem__(owner, i) is owned), None)
    return "[…]" if index is None else f"[{index}]"


def _in_function(owner: types.FunctionType, owned: Any) -> str:
    if owned is owner.__closure__:
        return ""
    if owned is owner.__dict__ or owned is owner.__globals__:
        return ""
    return (
        " (default of a parameter)" if owned is owner.__defaults__ or owned is owner.__kwdefaults__ else " (function)"
    )


def _in_namespace(owner: Any, owned: Any) -> str:
    return "" if issubclass(type(owned), (dict, types.MappingProxyType)) else _attribute(owner, owned)


def _attribute(owner: Any, owned: Any) -> str:
    namespace = instance_dict(owner)
    if namespace is owned:
        return ""
    for key, value in list((namespace or {}).items()):
        if value is owned:
            return f".{key}"
    for name, slot in _slots(type(owner)):
        try:
            if slot.__get__(owner) is owned:
                return f".{name}"
        except AttributeError:
            continue
    return f" → {_kind_name(owned)}"


def instance_dict(owner: Any) -> dict[str, Any] | None:
    """The `__dict__` of an instance without asking the user's `__getattr__`; None where there is none."""
    try:
        namespace = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None
    return namespace if type(namespace) is dict else None


def _slots(kind: type) -> list[tuple[str, Any]]:
    return [
        (name, member)
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _kind_name(obj: object) -> str:
    return type(obj).__qualname__


def _described_as(text: str) -> Callable[[Any, Any], str]:
    return lambda _owner, _owned: text


def _in_tuple(owner: Any, owned: Any) -> str:
    # A closure: its cells speak for it.
    return "" if type(owned) is types.CellType else _in_sequence(owner, owned)


_STEPS: Final[tuple[tuple[type, Callable[[Any, Any], str]], ...]] = (
    (types.ModuleType, _described_as("")),
    (type, _in_namespace),
    (dict, _in_dict),
    (list, _in_sequence),
    (tuple, _in_tuple),
    (set, _described_as("{…}")),
    (frozenset, _described_as("{…}")),
    (collections.deque, _described_as("[…]")),
    (types.CellType, _described_as(" (closure variable)")),
    (types.FunctionType, _in_function),
    (types.MethodType, _described_as(".__self__")),
)
