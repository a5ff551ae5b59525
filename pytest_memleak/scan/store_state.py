"""Containers on an application's state, `app.state.connections`: they live as long as the process, as globals do.

One file makes them, another fills them, a third may empty them, so that most is told by facts:
`empties:state.connections` says that a file takes something out while the program runs. What starts and ends the
program says nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.containers import Kind, Store, kind_of
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.occasions import is_set_up
from pytest_memleak.scan.store_evictions import meanings, shrinks

_APPLICATIONS: Final = ("fastapi.FastAPI", "starlette.applications.Starlette", "starlette.Starlette")
_FILLS: Final[dict[str, Kind]] = {"append": "list", "extend": "list", "insert": "list", "add": "set"}
_ENDING: Final = ("shutdown", "on_shutdown", "teardown", "cleanup_app")
_LOOKS: Final = frozenset({"len", "list", "tuple", "set", "dict", "sorted", "iter", "enumerate", "bool", "str"})


def state_attributes(module: Module) -> Iterator[Store]:
    """The containers on an application's state that this file fills."""
    for attr, uses in _by_name(module).items():
        running = [use for use in uses if not _starts_or_ends(module, use)]
        kind = _kind(module, uses, running)
        if running and kind is not None:
            holder = f"app.state.{attr}"
            yield Store(
                name=holder,
                kind=kind,
                place="global",
                holder=holder,
                made=running[0],
                uses=tuple(running),
                unless=(f"empties:state.{attr}",),
            )


def state_emptied(module: Module) -> Iterator[str]:
    """A fact for each attribute of an application's state that this file empties while the program runs, hands to who
    may, or makes something else than a plain container."""
    for attr, uses in _by_name(module).items():
        if any(_may_empty(module, use) for use in uses):
            yield f"empties:state.{attr}"


def _by_name(module: Module) -> dict[str, list[ast.Attribute]]:
    found: dict[str, list[ast.Attribute]] = {}
    for state in module.attributes.get("state", ()):
        use = module.up[state]
        if isinstance(use, ast.Attribute) and _is_application(module, state.value):
            found.setdefault(use.attr, []).append(use)
    return found


def _is_application(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "app"  # a request's, a websocket's, a middleware's
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "app"
    if not isinstance(node, ast.Name):
        return False
    made = module.value_of(node)
    if isinstance(made, ast.Call):
        return module.dotted(made.func) in _APPLICATIONS
    return node.id in ("app", "application")


def _starts_or_ends(module: Module, use: ast.AST) -> bool:
    """Whether a use stands at module level, or in what runs once when the program starts or ends."""
    function = module.function(use)
    return function is None or any(
        is_set_up(each) or "lifespan" in each.name or each.name in _ENDING for each in module.functions_above(use)
    )


def _made(module: Module, use: ast.Attribute) -> ast.expr | None:
    above = module.up[use]
    return above.value if isinstance(above, ast.Assign | ast.AnnAssign) and above.value is not use else None


def _kind(module: Module, uses: list[ast.Attribute], running: list[ast.Attribute]) -> Kind | None:
    """The kind of container, as it is made here, or else as it is filled here."""
    for use in uses:
        made = _made(module, use) if isinstance(use.ctx, ast.Store) else None
        if made is not None:
            return kind_of(module, made)
    for each in meanings(module, running):
        above = module.up[each]
        if isinstance(above, ast.Attribute) and above.attr in _FILLS:
            return _FILLS[above.attr]
        if isinstance(above, ast.Subscript) and above.value is each and isinstance(above.ctx, ast.Store):
            return "dict"
    return None


def _may_empty(module: Module, use: ast.Attribute) -> bool:
    made = _made(module, use) if isinstance(use.ctx, ast.Store) else None
    if made is not None and kind_of(module, made) is None:
        return True
    if _starts_or_ends(module, use):
        return False
    return any(shrinks(module, each) or _is_handed(module, each) for each in meanings(module, (use,)))


def _is_handed(module: Module, use: ast.expr) -> bool:
    """Whether a function of elsewhere is given the container."""
    above = module.up[use]
    if isinstance(above, ast.keyword):
        above = module.up[above]
    if not isinstance(above, ast.Call) or above.func is use:
        return isinstance(above, ast.Return | ast.Yield)
    return not (isinstance(above.func, ast.Name) and above.func.id in _LOOKS)
