"""How a reference path is written: `.attribute`, `['key']`, `[3]`, `(closure variable)`, never by the user's code."""

from __future__ import annotations

import collections
import gc
import itertools
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from pytest_memleak.diagnosis import source


def steps(chain: Sequence[Any]) -> Iterator[str]:
    """How each object of a chain of references refers to the next; nothing for a namespace."""
    passed_state = in_state = False
    for owner, owned in itertools.pairwise(chain):
        written = _step(owner, owned)
        passed_state = passed_state or _is_state(owner)
        if in_state:
            written = _ITEM.sub(r".\1", written)
        # `app.state.name` stands in a dict inside of the state.
        in_state = passed_state and written == "._state"
        if written and not in_state:
            yield written


_ITEM: Final = re.compile(r"\['(\w+)'\]")


def _is_state(obj: object) -> bool:
    """Whether an object is Starlette's `State`, as in `app.state`."""
    kind = type(obj)
    return kind.__qualname__ == "State" and source.module_name(kind) == "starlette.datastructures"


def own_name(obj: object) -> str:
    """What the first object of a path is called."""
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
    return f" → {type(owned).__qualname__}"


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
