"""What `connect()` opens, told by what is done with it: a connection that is queried, a client made for one call."""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.borrowers import closes
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.halfway import is_expected_to_fail
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.unclosed import Made

_QUERIES: Final = frozenset({"cursor", "execute", "exec_driver_sql", "executemany", "fetch", "fetchrow", "scalar"})
_READS_SQL: Final = "pandas.read_sql"
_ENDS: Final = frozenset({"__aenter__", "aexit", "end"})


def is_queried(module: Module, call: ast.Call) -> bool:
    """Whether what `x.connect()` gives is asked in SQL, or given to what reads with it."""
    value: ast.AST = call
    above = module.up[value]
    if isinstance(above, ast.Await):
        value, above = above, module.up[above]
    if _asks(module, value):
        return True
    target = above.targets[0] if isinstance(above, ast.Assign) and len(above.targets) == 1 else None
    if not isinstance(target, ast.Name) or module.owner(target, target.id) is not module.scope(target):
        return False
    if module.value_of(target) is not value:
        return False
    return any(_asks(module, use) for use in module.uses(module.scope(target), target.id) if use is not target)


def _asks(module: Module, use: ast.AST) -> bool:
    above = module.up[use]
    if isinstance(above, ast.Attribute):
        return above.attr in _QUERIES and isinstance(module.up[above], ast.Call)
    if isinstance(above, ast.keyword):
        above = module.up[above]
    return isinstance(above, ast.Call) and above.func is not use and module.dotted(above.func).startswith(_READS_SQL)


def connected_client(module: Module, call: ast.Call) -> Made | None:
    """The client that is made in a function, connected there by `await client.connect()` and never disconnected."""
    awaited = module.up[call]
    if not isinstance(awaited, ast.Await) or not isinstance(module.up[awaited], ast.Expr):
        return None
    if is_expected_to_fail(module, call):
        return None
    root: ast.expr = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    function = module.function(call)
    if not isinstance(root, ast.Name) or function is None or module.owner(root, root.id) is not function:
        return None
    made = module.value_of(root)
    if not isinstance(made, ast.Call) or not last_name(made.func).lstrip("_")[:1].isupper():
        return None
    uses = [use for use in module.uses(function, root.id) if isinstance(use.ctx, ast.Load)]
    if not all(_leaves_open(module, use) for use in uses):
        return None
    return Made(call=made, noun="a client", closing="disconnects it", confidence=Confidence.MEDIUM, on_self=False)


def _leaves_open(module: Module, use: ast.Name) -> bool:
    """Whether a use calls a method of the client, or of a part of it, that does not end it."""
    node: ast.AST = use
    while isinstance(above := module.up[node], ast.Attribute):
        if closes(above.attr) or above.attr in _ENDS:
            return False
        node = above
    return node is not use and isinstance(above, ast.Call) and above.func is node
