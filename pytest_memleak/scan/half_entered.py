"""Connections that `__aenter__` takes from a pool and loses if what it awaits then raises: `__aexit__` is not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.module import Function, Module
from pytest_memleak.scan.suspect import Suspect


def half_entered(module: Module) -> Iterator[Suspect]:
    """The connections that are acquired in `__aenter__` or `__enter__` before something else is awaited there."""
    for use in module.attributes.get("acquire", ()):
        call = module.up[use]
        if not isinstance(call, ast.Call) or call.func is not use or not _is_pool(use.value):
            continue
        function = module.function(call)
        if function is None or function.name != "__aenter__" or _is_guarded(module, call, function):
            continue
        statement = module.statement(call)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Attribute) or not isinstance(module.up[call], ast.Await):
            continue
        end = statement.end_lineno or statement.lineno
        later = [
            node
            for node in module.own_nodes(function)
            if isinstance(node, ast.Await) and node.lineno > end and not _is_guarded(module, node, function)
        ]
        if later:
            line = min(node.lineno for node in later)
            yield Suspect(
                node=call,
                message=f"a connection from `{module.dotted(use)}(…)` is lost if the `await` in line {line} raises: "
                "`__aexit__` runs only where `__aenter__` has returned",
                driver=Driver.CALL,
                confidence=Confidence.LOW,
                fix="give it back in an except around what follows, and raise again",
            )


def _is_pool(node: ast.expr) -> bool:
    return last_name(node).strip("_").endswith("pool")


def _is_guarded(module: Module, node: ast.AST, function: Function) -> bool:
    """Whether a place stands in a `try`, which handles what it raises, or gives back what was taken."""
    for above in module.above(node):
        if above is function:
            return False
        if isinstance(above, ast.Try):
            return True
    return False
