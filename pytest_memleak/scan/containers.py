"""A container that outlives a call, as a value: what it is, where it stands, and every place that names it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final, Literal

from pytest_memleak.scan.module import Module

Kind = Literal["dict", "defaultdict", "Counter", "list", "set", "deque"]
Place = Literal["global", "class", "function", "default", "closure", "instance"]

_CALLS: Final[dict[str, Kind]] = {
    "dict": "dict",
    "list": "list",
    "set": "set",
    "collections.OrderedDict": "dict",
    "collections.defaultdict": "defaultdict",
    "collections.Counter": "Counter",
    "collections.deque": "deque",
}
MAKERS: Final = frozenset({"__init__", "__new__", "__post_init__", "__setstate__", "__attrs_post_init__", "__copy__"})
"""Methods in which an assignment to an attribute makes it, and does not replace it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One container that outlives the calls that fill it."""

    name: str
    kind: Kind
    place: Place
    holder: str
    """Dotted: `app.cache.SEEN`, `Store._entries`."""

    made: ast.expr
    """The expression that makes it."""

    uses: tuple[ast.expr, ...]
    """Every expression of the file that surely means it."""

    doubtful: tuple[ast.expr, ...] = ()
    """Those that may mean it: the same attribute of another object. They can empty it, not fill it."""

    unless: tuple[str, ...] = ()
    owner: ast.ClassDef | None = None
    """The class whose objects have it; None unless `place` is `instance`."""

    sure: bool = True
    """Whether it surely lives as long as the process, and is not only likely to outlive its entries."""


def kind_made_by(module: Module, factory: ast.expr) -> Kind | None:
    """The kind of container that a factory makes: `dict`, `lambda: {}`."""
    if isinstance(factory, ast.Lambda):
        return kind_of(module, factory.body)
    kind = _CALLS.get(module.dotted(factory))
    return None if kind == "defaultdict" else kind


def kind_of(module: Module, value: ast.expr | None) -> Kind | None:
    """The kind of container that an expression makes; None for anything else, and for what bounds itself."""
    if isinstance(value, ast.Dict):
        return "dict"
    if isinstance(value, ast.List):
        return "list"
    if isinstance(value, ast.Set):
        return "set"
    if not isinstance(value, ast.Call):
        return None
    made = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    kind = _CALLS.get(module.dotted(made))
    if kind == "deque" and (len(value.args) > 1 or any(word.arg in ("maxlen", None) for word in value.keywords)):
        return None
    return kind


def assigned(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr, ast.stmt]]:
    """Target, value and statement of the assignments of a body, those below `if`, `try` and `with` too."""
    waiting = list(reversed(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield target, node.value, node
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value, node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("finalbody", "orelse", "body"):
                waiting.extend(reversed(getattr(node, part, [])))
