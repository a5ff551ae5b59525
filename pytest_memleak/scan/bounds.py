"""Caches and deques without a bound, and what they become with one: read off the tree of one file."""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rewrites import Bound, Span, span_of

CACHE_ENTRIES: Final = 1024
"""What a bounded `lru_cache` keeps: eight times the standard library's default, which suits a service."""

DEQUE_ENTRIES: Final = 1000


def plan_cache(module: Module, lines: list[str], finding: Finding) -> Bound | None:
    """The cache that stands above the function of a finding, with a bound."""
    for function in module.functions:
        for decorator in function.decorator_list:
            if finding.line not in (decorator.lineno, function.lineno):
                continue
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = module.dotted(called)
            span = span_of(decorator, lines)
            if name == "functools.cache" and called is decorator:
                return _cache_bound(module, decorator, span)
            if name == "functools.lru_cache" and isinstance(decorator, ast.Call):
                return _lru_bound(decorator, span)
    return None


def _cache_bound(module: Module, decorator: ast.expr, span: Span) -> Bound | None:
    if isinstance(decorator, ast.Attribute):
        written = ast.unparse(decorator.value)
        return Bound(expression=span, to=f"{written}.lru_cache(maxsize={CACHE_ENTRIES})")
    known = module.imports.get("lru_cache", "functools.lru_cache")
    others = module.names.get("lru_cache", [])
    is_free = "lru_cache" in module.imports or not others
    if not isinstance(decorator, ast.Name) or decorator.id != "cache" or known != "functools.lru_cache" or not is_free:
        return None
    needed = "lru_cache" not in module.imports
    return Bound(expression=span, to=f"lru_cache(maxsize={CACHE_ENTRIES})", imports=needed)


def _lru_bound(decorator: ast.Call, span: Span) -> Bound | None:
    written = ast.unparse(decorator.func)
    rest = [f"{each.arg}={ast.unparse(each.value)}" for each in decorator.keywords if each.arg not in ("maxsize", None)]
    sizes = [each.value for each in decorator.keywords if each.arg == "maxsize"]
    sizes += decorator.args[:1]
    if len(sizes) != 1 or len(decorator.args) > 1 or not _is_none(sizes[0]):
        return None
    return Bound(expression=span, to=f"{written}({', '.join([f'maxsize={CACHE_ENTRIES}', *rest])})")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def plan_deque(module: Module, lines: list[str], finding: Finding) -> Bound | None:
    """The one `deque()` that the finding's holder is assigned."""
    name = finding.holder.rpartition(".")[2]
    if not {"collections", "collections.deque"} & set(module.imports.values()):
        return None
    found = []
    for call in module.calls:
        statement = module.up[call]
        if module.dotted(call.func) != "collections.deque" or call.keywords or len(call.args) > 1:
            continue
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        if name and _named(module, target, finding) == name:
            found.append(call)
    if len(found) != 1:
        return None
    (call,) = found
    start = [ast.unparse(argument) for argument in call.args]
    code = f"{ast.unparse(call.func)}({', '.join([*start, f'maxlen={DEQUE_ENTRIES}'])})"
    return Bound(expression=span_of(call, lines), to=code)


def _named(module: Module, target: ast.expr, finding: Finding) -> str:
    """The name of a module's global, or of an attribute of the class that the holder names."""
    if isinstance(target, ast.Name):
        return target.id if module.scope(target) is module.tree else ""
    if isinstance(target, ast.Attribute) and module.dotted(target.value) == "self":
        owner = module.class_of(target)
        parts = finding.holder.split(".")
        return target.attr if owner is not None and (len(parts) < 2 or parts[-2] in (owner.name, "self")) else ""
    return ""
