"""The stores that are attributes: of a class, and of an object that lives as long as its module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.containers import Store, assigned, kind_of
from pytest_memleak.scan.module import Module

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


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


def class_attributes(module: Module, owner: ast.ClassDef) -> Iterator[Store]:
    for target, value, node in assigned(owner.body):
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


def instance_attributes(module: Module, owner: ast.ClassDef) -> Iterator[Store]:
    makers = [node for node in owner.body if isinstance(node, _FUNCTIONS) and node.name in ("__init__", "__new__")]
    if not makers or not lives_with_module(module, owner):
        return
    for maker in makers:
        for target, value, _ in assigned(maker.body):
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
