"""Containers that outlive a call, every place that names one, and every place where one gains something.

A store is a module's global, a class attribute, a function's attribute, a mutable default, the closure of a
decorator, or an attribute of an object made at module level. Only the plain containers of Python are looked at: one
that bounds itself (`LRUCache`, `WeakSet`, `deque(maxlen=…)`) is none of them.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final, Literal

from pytest_memleak.scan.module import Function, Module, parameters, within

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
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
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


def stores(module: Module) -> Iterator[Store]:
    """The stores of a file."""
    yield from _globals(module)
    for owner in module.classes.values():
        yield from _class_attributes(module, owner)
        yield from _instance_attributes(module, owner)
    for function in module.functions:
        yield from _defaults(module, function)
        yield from _closures(module, function)
    yield from _function_attributes(module)


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr, ast.stmt]]:
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


def _globals(module: Module) -> Iterator[Store]:
    seen: set[str] = set()
    for target, value, _ in _assigned(module.tree.body):
        if not isinstance(target, ast.Name) or target.id in seen or target.id.startswith("__"):
            continue
        kind = kind_of(module, value)
        if kind is None:
            continue
        seen.add(target.id)
        uses = [use for use in module.uses(module.tree, target.id) if module.function(use) is not None]
        if uses:
            dotted = f"{module.name}.{target.id}" if module.name else target.id
            yield Store(
                name=target.id,
                kind=kind,
                place="global",
                holder=dotted,
                made=value,
                uses=tuple(uses),
                unless=(f"shrinks:{dotted}",),
            )


def _family(module: Module, owner: ast.ClassDef) -> set[str]:
    """A class and those of the file that inherit from it."""
    names = {owner.name}
    grown = True
    while grown:
        grown = False
        for name, other in module.classes.items():
            if name not in names and any(isinstance(base, ast.Name) and base.id in names for base in other.bases):
                names.add(name)
                grown = True
    return names


def _facts(module: Module, owner: ast.ClassDef, attr: str) -> tuple[str, ...]:
    related = [owner.name, *(base.rpartition(".")[2] for base in module.class_bases(owner))]
    return (*(f"shrinks:{name}.{attr}" for name in related if name), f"shrinks:*.{attr}")


def _split(
    module: Module, owner: ast.ClassDef, attr: str, *, of_instances: bool
) -> tuple[list[ast.expr], list[ast.expr]]:
    """The uses of an attribute that surely mean a class's own, and the others."""
    family = _family(module, owner)
    sure: list[ast.expr] = []
    doubtful: list[ast.expr] = []
    for use in module.attributes.get(attr, ()):
        if module.function(use) is None:
            continue
        (sure if _means(module, use, family, of_instances=of_instances) else doubtful).append(use)
    return sure, doubtful


def _means(module: Module, use: ast.Attribute, family: set[str], *, of_instances: bool) -> bool:
    base = use.value
    if isinstance(base, ast.Attribute) and base.attr == "__class__":
        base = base.value
    elif isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "type" and base.args:
        base = base.args[0]
    if not isinstance(base, ast.Name):
        return False
    if base.id in family:
        return True
    around = module.class_of(use)
    method = module.method_of(use)
    if around is None or method is None or around.name not in family or not method.args.args:
        return False
    first = method.args.args[0].arg
    return base.id == first and (of_instances or first in ("cls", "mcs") or base is not use.value or first == "self")


def _class_attributes(module: Module, owner: ast.ClassDef) -> Iterator[Store]:
    for target, value, node in _assigned(owner.body):
        if not isinstance(target, ast.Name) or (target.id.startswith("__") and target.id.endswith("__")):
            continue
        kind = kind_of(module, value)
        if kind is None:
            continue
        sure, doubtful = _split(module, owner, target.id, of_instances=False)
        shadowed = any(
            _is_own(use) and isinstance(use.ctx, ast.Store) for use in sure if isinstance(use, ast.Attribute)
        )
        # A model's field is copied for every object.
        if shadowed or (isinstance(node, ast.AnnAssign) and owner.bases and not _is_of_class(node.annotation)):
            sure = [use for use in sure if not _is_own(use)]
        if sure:
            yield Store(
                name=target.id,
                kind=kind,
                place="class",
                holder=f"{owner.name}.{target.id}",
                made=value,
                uses=tuple(sure),
                doubtful=tuple(doubtful),
                unless=_facts(module, owner, target.id),
            )


def _is_of_class(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant):
        return "ClassVar" in str(annotation.value)
    named = (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in ast.walk(annotation))
    return "ClassVar" in named


def _is_own(use: ast.expr) -> bool:
    return isinstance(use, ast.Attribute) and isinstance(use.value, ast.Name) and use.value.id == "self"


def lives_with_module(module: Module, owner: ast.ClassDef) -> bool:
    """Whether an object of a class, or of one that inherits from it here, is made at module level or kept in a
    global."""
    for name in _family(module, owner):
        for use in module.names.get(name, ()):
            call = module.up[use]
            if not isinstance(call, ast.Call) or call.func is not use:
                continue
            if module.function(call) is None and not _is_short(module, call):
                return True
            kept = module.up[call]
            if isinstance(kept, ast.Assign) and any(
                isinstance(target, ast.Name) and module.is_global(target) for target in kept.targets
            ):
                return True
    return False


def _is_short(module: Module, call: ast.Call) -> bool:
    """Whether nobody keeps an object made at module level: raised, dropped, or part of a script."""
    if isinstance(module.up[call], ast.Expr | ast.Raise):
        return True
    return any(isinstance(above, ast.If) and "__name__" in _compared(above.test) for above in module.above(call))


def _compared(test: ast.expr) -> str:
    return test.left.id if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) else ""


def _instance_attributes(module: Module, owner: ast.ClassDef) -> Iterator[Store]:
    makers = [node for node in owner.body if isinstance(node, _FUNCTIONS) and node.name in ("__init__", "__new__")]
    if not makers or not lives_with_module(module, owner):
        return
    for maker in makers:
        for target, value, _ in _assigned(maker.body):
            kind = kind_of(module, value) if _is_own(target) else None
            if kind is None or not isinstance(target, ast.Attribute):
                continue
            sure, doubtful = _split(module, owner, target.attr, of_instances=True)
            yield Store(
                name=target.attr,
                kind=kind,
                place="instance",
                holder=f"{owner.name}.{target.attr}",
                made=value,
                uses=tuple(sure),
                doubtful=tuple(doubtful),
                unless=_facts(module, owner, target.attr),
            )


def _defaults(module: Module, function: Function) -> Iterator[Store]:
    if module.function(function) is not None:
        return  # made anew with the function
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    given: list[tuple[ast.arg, ast.expr | None]] = []
    if arguments.defaults:
        given += zip(positional[-len(arguments.defaults) :], arguments.defaults, strict=True)
    given += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    for parameter, value in given:
        if value is None or (kind := kind_of(module, value)) is None:
            continue
        uses = module.uses(function, parameter.arg)
        # Rebound, it is another container from there on.
        if uses and all(isinstance(use.ctx, ast.Load) for use in uses):
            holder = f"{function.name}.{parameter.arg}"
            yield Store(name=parameter.arg, kind=kind, place="default", holder=holder, made=value, uses=tuple(uses))


def _closures(module: Module, function: Function) -> Iterator[Store]:
    """What a decorator keeps for the function that it returns."""
    inner = {node.name: node for node in function.body if isinstance(node, _FUNCTIONS)}
    if not inner:
        return
    returned = {
        name.id
        for node in within(function)
        if isinstance(node, ast.Return) and node.value is not None
        for name in ast.walk(node.value)
        if isinstance(name, ast.Name) and name.id in inner
    }
    given = {
        parameter.arg for around in (function, *module.functions_above(function)) for parameter in parameters(around)
    }
    wraps = [
        name
        for name in returned
        if any(
            isinstance(c, ast.Call) and isinstance(c.func, ast.Name) and c.func.id in given for c in within(inner[name])
        )
    ]
    if not wraps:
        return
    for target, value, _ in _assigned(function.body):
        kind = kind_of(module, value) if isinstance(target, ast.Name) else None
        if kind is None or not isinstance(target, ast.Name):
            continue
        uses = [use for use in module.uses(function, target.id) if use is not target]
        if any(module.function(use) is not function for use in uses):
            holder = f"{function.name}.{target.id}"
            yield Store(name=target.id, kind=kind, place="closure", holder=holder, made=value, uses=tuple(uses))


def _function_attributes(module: Module) -> Iterator[Store]:
    names = {function.name for function in module.functions if module.function(function) is None}
    for attr, found in module.attributes.items():
        for use in found:
            parent = module.up[use]
            if not isinstance(use.ctx, ast.Store) or not isinstance(parent, ast.Assign | ast.AnnAssign):
                continue
            base = use.value
            if not isinstance(base, ast.Name) or base.id not in names or not module.is_global(base):
                continue
            kind = kind_of(module, parent.value)
            if kind is not None and parent.value is not None:
                uses = tuple(
                    other
                    for other in found
                    if other is not use and isinstance(other.value, ast.Name) and other.value.id == base.id
                )
                holder = f"{base.id}.{attr}"
                yield Store(name=attr, kind=kind, place="function", holder=holder, made=parent.value, uses=uses)
                break
