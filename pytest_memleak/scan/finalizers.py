"""Finalizers that never run, because what they are to call keeps alive the very object whose end they wait for."""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.scan.module import Function, Module, within

_FINALIZE: Final = "weakref.finalize"
_UNBOUND: Final = frozenset({"staticmethod", "classmethod"})


def pinned_by(module: Module, call: ast.Call) -> str:
    """What of `weakref.finalize(x, …)` refers to `x` strongly, in words; empty where nothing does."""
    if module.dotted(call.func) != _FINALIZE or len(call.args) < 2 or not isinstance(call.args[0], ast.Name):
        return ""
    watched = call.args[0].id
    waiting: list[ast.expr] = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
    while waiting:
        given = waiting.pop(0)
        if isinstance(given, ast.Name):
            if given.id == watched:
                return f"`{watched}` itself"
            if _closes_over(module, given, watched):
                return f"the closure `{given.id}`"
        elif isinstance(given, ast.Lambda):
            if any(isinstance(node, ast.Name) and node.id == watched for node in ast.walk(given)):
                return "the lambda"
        elif isinstance(given, ast.Attribute):
            if isinstance(given.value, ast.Name) and given.value.id == watched and _is_method(module, call, given.attr):
                return f"the bound method `{watched}.{given.attr}`"
        elif isinstance(given, ast.Call) and module.dotted(given.func) == "functools.partial":
            waiting.extend([*given.args, *(keyword.value for keyword in given.keywords)])
    return ""


def never_runs(module: Module, node: ast.AST) -> bool:
    """Whether a node stands in what such a finalizer was to call."""
    if "finalize" not in module.attributes and "finalize" not in module.names:
        return False
    return any(isinstance(above, ast.Call) and bool(pinned_by(module, above)) for above in module.above(node))


def _closes_over(module: Module, name: ast.Name, watched: str) -> bool:
    owner = module.owner(name, name.id)
    if owner is None or isinstance(owner, ast.Module | ast.ClassDef):
        return False
    inner = next((one for one in module.functions if one.name == name.id and module.scope(one) is owner), None)
    return inner is not None and watched not in module.locals_of(inner) and _names(inner, watched)


def _names(function: Function, watched: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == watched for node in within(function, nested=True))


def _is_method(module: Module, call: ast.Call, name: str) -> bool:
    owner = module.class_of(call)
    for item in owner.body if owner is not None else ():
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == name:
            return not any(getattr(each, "id", "") in _UNBOUND for each in item.decorator_list)
    return False
