"""Containers that outlive a call, and every place that names one.

A store is a module's global, a class attribute, a function's attribute, a mutable default, the closure of a
decorator, an attribute of an object made at module level, or one of an application's state. Only the plain containers
of Python are looked at: one that bounds itself (`LRUCache`, `WeakSet`, `deque(maxlen=…)`) is none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.containers import Store, assigned, kind_of
from pytest_memleak.scan.module import Function, Module, parameters, within
from pytest_memleak.scan.store_attributes import class_attributes, instance_attributes
from pytest_memleak.scan.store_state import state_attributes

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def stores(module: Module) -> Iterator[Store]:
    """The stores of a file."""
    yield from _globals(module)
    for owner in module.classes.values():
        yield from class_attributes(module, owner)
        yield from instance_attributes(module, owner)
    for function in module.functions:
        yield from _defaults(module, function)
        yield from _closures(module, function)
    yield from _function_attributes(module)
    yield from state_attributes(module)


def _globals(module: Module) -> Iterator[Store]:
    seen: set[str] = set()
    for target, value, _ in assigned(module.tree.body):
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
    for target, value, _ in assigned(function.body):
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
