"""The stores that are attributes: of a class, and of an object that lives as long as its module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.containers import Kind, Store, assigned, kind_made_by, kind_of
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_owners import comes_from_class, family, lives_for_good, lives_on

_MODELS: Final = re.compile(r"(Model|Schema|Settings|Config|Struct|Document|Table|TypedDict|NamedTuple|Protocol)$|^$")
_OF_MODELS: Final = frozenset({"pydantic", "pydantic_settings", "msgspec", "sqlmodel", "attr", "attrs", "dataclasses"})
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def _facts(module: Module, owner: ast.ClassDef, attr: str) -> tuple[str, ...]:
    own = f"{module.name}.{owner.name}" if module.name else owner.name
    bases = (base.rpartition(".")[2] for base in module.class_bases(owner))
    related = [own, *(base for base in bases if base != owner.name)]
    return (*(f"shrinks:{name}.{attr}" for name in related if name), f"shrinks:*.{attr}")


def _split(
    module: Module, owner: ast.ClassDef, attr: str, *, of_instances: bool
) -> tuple[list[ast.expr], list[ast.expr]]:
    """The uses of an attribute that surely mean a class's own, and the others."""
    names = family(module, owner)
    sure: list[ast.expr] = []
    doubtful: list[ast.expr] = []
    for use in module.attributes.get(attr, ()):
        if module.function(use) is None:
            continue
        (sure if _means(module, use, names, of_instances=of_instances) else doubtful).append(use)
    return sure, doubtful


def _means(module: Module, use: ast.Attribute, names: set[str], *, of_instances: bool) -> bool:
    base = use.value
    if isinstance(base, ast.Attribute) and base.attr == "__class__":
        base = base.value
    elif isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "type" and base.args:
        base = base.args[0]
    if not isinstance(base, ast.Name):
        return False
    if base.id in names:
        return True
    around = module.class_of(use)
    method = module.method_of(use)
    if around is None or method is None or around.name not in names or not method.args.args:
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
        field = isinstance(node, ast.AnnAssign) and not _is_of_class(node.annotation) and _may_be_model(module, owner)
        if shadowed or field:
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


def _may_be_model(module: Module, owner: ast.ClassDef) -> bool:
    """Whether a class may make fields of its annotated attributes, as those of pydantic do: a base of another file
    says so by its name, or the class by further fields, or the file by what it imports."""
    if not owner.bases:
        return False
    if owner.decorator_list or owner.keywords or any(map(_MODELS.search, module.class_bases(owner))):
        return True
    if any(isinstance(item, ast.AnnAssign) and kind_of(module, item.value) is None for item in owner.body):
        return True
    if any(isinstance(item, _FUNCTIONS) and item.name == "__init__" for item in owner.body):
        return False
    return any(origin.partition(".")[0] in _OF_MODELS for origin in module.imports.values())


def _is_of_class(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant):
        return "ClassVar" in str(annotation.value)
    named = (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in ast.walk(annotation))
    return "ClassVar" in named


def _is_own(use: ast.expr) -> bool:
    return isinstance(use, ast.Attribute) and isinstance(use.value, ast.Name) and use.value.id == "self"


def instance_attributes(module: Module, owner: ast.ClassDef) -> Iterator[Store]:
    """The containers of a class's objects, if those live long; `sure` where one surely lives as long as the process."""
    made = list(_made(module, owner))
    if not made:
        return
    sure = lives_for_good(module, owner)
    if not sure and not lives_on(module, owner):
        return
    for attr, kind, value in made:
        certain, doubtful = _split(module, owner, attr, of_instances=True)
        if sure:
            names = family(module, owner)
            given = [use for use in doubtful if comes_from_class(module, getattr(use, "value", use), names)]
            certain += given
            doubtful = [use for use in doubtful if use not in given]
        yield Store(
            name=attr,
            kind=kind,
            place="instance",
            holder=f"{owner.name}.{attr}",
            made=value,
            uses=tuple(certain),
            doubtful=tuple(doubtful),
            unless=_facts(module, owner, attr),
            owner=owner,
            sure=sure,
        )


def _made(module: Module, owner: ast.ClassDef) -> Iterator[tuple[str, Kind, ast.expr]]:
    """The attributes that each object gets a container in: in its maker, or by a dataclass's factory."""
    for node in owner.body:
        if isinstance(node, _FUNCTIONS) and node.name in ("__init__", "__new__"):
            for target, value, _ in assigned(node.body):
                kind = kind_of(module, value) if _is_own(target) else None
                if kind is not None and isinstance(target, ast.Attribute):
                    yield target.attr, kind, value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            for word in node.value.keywords:
                kind = kind_made_by(module, word.value) if word.arg in ("default_factory", "factory") else None
                if kind is not None:
                    yield node.target.id, kind, node.value
