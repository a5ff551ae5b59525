"""What becomes of a value that must be closed and is stored on `self`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.borrowers import closes
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.finalizers import never_runs
from pytest_memleak.scan.lifetimes import End, Fate, fate, weightiest
from pytest_memleak.scan.module import Module, parameters

_CLOSING_BASES: Final = frozenset({"codecs", "io", "http", "logging", "socketserver", "tarfile", "zipfile"})
"""Modules whose classes close the files and sockets in attributes that their children may store."""

_PROPERTIES: Final = frozenset({"property", "cached_property"})


def stored(module: Module, owner: ast.ClassDef, attribute: str) -> Fate:
    """What becomes of the value in `self.<attribute>`: LOST where nothing in the file could close it."""
    lineage = _lineage(module, owner)
    single = _is_single(module, owner)
    if lineage is None or (single and not _is_offered(owner)) or _closes_by_name(module, lineage):
        return Fate(end=End.HANDED)
    shown = shown_as(owner, attribute)
    uses = [
        use
        for name in (attribute, *shown)
        for use in module.attributes.get(name, ())
        if isinstance(use.ctx, ast.Load) and not never_runs(module, use)
    ]
    found = weightiest(_used(module, use, lineage) for use in uses if not _is_shown(module, use, shown))
    return dataclasses.replace(found, guessed=True) if single else found


def shown_as(owner: ast.ClassDef, attribute: str) -> list[str]:
    """The properties of a class that return its attribute: who closes what a property returns closes it."""
    found = []
    for method in owner.body:
        if isinstance(method, ast.FunctionDef) and any(last_name(one) in _PROPERTIES for one in method.decorator_list):
            last = method.body[-1]
            value = last.value if isinstance(last, ast.Return) else None
            if isinstance(value, ast.Attribute) and value.attr == attribute and last_name(value.value) == "self":
                found.append(method.name)
    return found


def _is_shown(module: Module, use: ast.Attribute, shown: list[str]) -> bool:
    method = module.function(use)
    return method is not None and method.name in shown and isinstance(module.up[use], ast.Return)


def _is_offered(owner: ast.ClassDef) -> bool:
    """Whether others make objects of a class too: it is public, and each object may be made with other arguments."""
    return not owner.name.startswith("_") and any(
        isinstance(method, ast.FunctionDef) and method.name == "__init__" and len(parameters(method)) > 1
        for method in owner.body
    )


def _used(module: Module, use: ast.Attribute, lineage: dict[str, ast.ClassDef]) -> Fate:
    found = fate(module, use, inline=False)
    if found.end is End.HANDED and isinstance(use.value, ast.Name) and use.value.id == "self":
        owner = module.class_of(use)
        if owner is not None and not _related(module, owner, lineage):
            return Fate(end=End.LOST)  # another class's attribute of the same name
    return found


def _related(module: Module, owner: ast.ClassDef, lineage: dict[str, ast.ClassDef]) -> bool:
    return owner.name in lineage or not lineage.keys().isdisjoint(
        base.rpartition(".")[2] for base in module.class_bases(owner)
    )


def _lineage(module: Module, owner: ast.ClassDef) -> dict[str, ast.ClassDef] | None:
    """A class and those of its bases that are in this file, by name; None where a base from elsewhere may close
    what its children store. Other bases know nothing of it, or the facts of their files tell."""
    found = {owner.name: owner}
    waiting = [owner]
    while waiting:
        for base in module.class_bases(waiting.pop()):
            if not base or base.partition(".")[0] in _CLOSING_BASES:
                return None
            known = module.classes.get(base)
            if known is not None and base not in found:
                found[base] = known
                waiting.append(known)
    return found


def _closes_by_name(module: Module, lineage: dict[str, ast.ClassDef]) -> bool:
    """Whether a class closes attributes that it asks for by name: `getattr(self, name).close()` in a loop."""
    for use in module.names.get("getattr", ()):
        call = module.up[use]
        if not isinstance(call, ast.Call) or len(call.args) < 2 or isinstance(call.args[1], ast.Constant):
            continue
        owner = module.class_of(call)
        if last_name(call.args[0]) == "self" and owner is not None and owner.name in lineage:
            found = fate(module, call, inline=False)
            if found.end is not End.LOST:
                return True
    return False


def _is_single(module: Module, owner: ast.ClassDef) -> bool:
    """Whether the file makes objects of a class, and only while it is imported: they live as long as the process."""
    made = [use for use in module.names.get(owner.name, ()) if _is_called(module, use)]
    return bool(made) and all(isinstance(module.scope(use), ast.Module) for use in made)


def _is_called(module: Module, use: ast.Name) -> bool:
    above = module.up[use]
    return isinstance(above, ast.Call) and above.func is use


def unless(module: Module, owner: ast.ClassDef, attribute: str) -> tuple[str, ...]:
    """The facts of other files that clear a value in an attribute."""
    bases = [base.rpartition(".")[2] for base in module.class_bases(owner)]
    named = [owner.name, *(base for base in bases if base)]
    return tuple(f"closes:{of}.{name}" for name in (attribute, *shown_as(owner, attribute)) for of in (*named, "*"))


def half_closed(module: Module, owner: ast.ClassDef, attribute: str) -> tuple[str, str] | None:
    """A method of the class that closes another attribute but not this one, and that attribute."""
    for method in owner.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and (
            closes(method.name) or method.name == "__del__"
        ):
            for other in _closed_in(module, method):
                if other != attribute:
                    return method.name, other
    return None


def _closed_in(module: Module, method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for call in module.calls:
        func = call.func
        if (
            isinstance(func, ast.Attribute)
            and closes(func.attr)
            and isinstance(func.value, ast.Attribute)
            and last_name(func.value.value) == "self"
            and module.method_of(call) is method
        ):
            yield func.value.attr
