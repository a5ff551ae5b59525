"""What takes something out of a store again, or bounds it: `pop`, `del`, a new container, a look at its length."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final

from pytest_memleak.scan.containers import MAKERS, Store
from pytest_memleak.scan.module import Module, parameters

SHRINKING: Final = frozenset(
    [
        "pop",
        "popitem",
        "clear",
        "remove",
        "discard",
        "popleft",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
        "__delitem__",
        "_clear",
    ]
)
_EVICTS: Final = re.compile(
    r"evict|prune|trim|clean|expire|purge|clear|reset|remove|discard|delete|drop|shrink|sweep|heappop|heapreplace"
    r"|heappushpop|limit|bound|flush|pop(?!ul)"
)
_MOST_MEANINGS: Final = 400
"""Uses and aliases that are followed; real stores have a few dozen."""


def meanings(module: Module, uses: Sequence[ast.expr]) -> Iterator[ast.expr]:
    """The uses of a store and what they are called on the way: a local alias, a parameter, what a getter returns."""
    waiting = list(uses)
    seen: set[ast.expr] = set()
    while waiting and len(seen) < _MOST_MEANINGS:
        use = waiting.pop(0)
        if use in seen:
            continue
        seen.add(use)
        yield use
        waiting.extend(_further(module, use))


def _further(module: Module, use: ast.expr) -> Iterator[ast.expr]:
    parent = module.up.get(use)
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr) and parent.value is use:
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        for target in targets:
            if isinstance(target, ast.Name):
                scope = module.scope(target)
                yield from (n for n in module.uses(scope, target.id) if isinstance(n.ctx, ast.Load))
            elif isinstance(target, ast.Attribute):
                yield from (n for n in module.attributes[target.attr] if isinstance(n.ctx, ast.Load))
    elif isinstance(parent, ast.Return):
        function = module.function(parent)
        for name in module.names.get(function.name, ()) if function else ():
            call = module.up[name]
            if isinstance(call, ast.Call) and call.func is name:
                yield call
    elif isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and use in parent.args:
        index = parent.args.index(use)
        for function in module.functions:
            if function.name == parent.func.id and index < len(parameters(function)):
                yield from module.uses(function, parameters(function)[index].arg)


def evictions(module: Module, store: Store) -> list[ast.expr]:
    """The uses of a store that empty or bound it."""
    found = [use for use in meanings(module, store.uses) if shrinks(module, use)]
    return found + [use for use in meanings(module, store.doubtful) if shrinks(module, use)]


def shrinks(module: Module, use: ast.expr) -> bool:
    """Whether one use of a container takes something out of it, replaces it or bounds it."""
    parent = module.up.get(use)
    if isinstance(parent, ast.Attribute):
        return parent.attr in SHRINKING
    if isinstance(parent, ast.Subscript) and parent.value is use:
        return isinstance(parent.ctx, ast.Del) or (
            isinstance(parent.ctx, ast.Store) and isinstance(parent.slice, ast.Slice)
        )
    if isinstance(parent, ast.AugAssign) and parent.target is use:
        return isinstance(parent.op, ast.Sub | ast.BitAnd)
    if isinstance(getattr(use, "ctx", None), ast.Store | ast.Del):
        return _replaces(module, use)
    if isinstance(parent, ast.keyword):
        parent = module.up.get(parent)
    if isinstance(parent, ast.Call):
        return _bounds(module, parent, use)
    # One of several that are emptied in a loop.
    return isinstance(parent, ast.Tuple | ast.List | ast.Set) and not isinstance(
        module.up.get(parent), ast.Compare | ast.Subscript
    )


def _replaces(module: Module, use: ast.expr) -> bool:
    function = module.function(use)
    if function is None or (isinstance(use, ast.Attribute) and function.name in MAKERS):
        return False
    dumped = plain(use)
    for above in module.above(use):
        if above is function:
            return True
        # Made when first asked for.
        if isinstance(above, ast.If):
            for test in ast.walk(above.test):
                if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is) and plain(test.left) == dumped:
                    return False
                if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                    asked = test.operand
                    if plain(asked) == dumped or (isinstance(asked, ast.Call) and _named(asked) == "hasattr"):
                        return False
    return True


def plain(node: ast.AST) -> str:
    """`self.x` as written; empty for what is no chain of names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _named(call: ast.Call) -> str:
    func = call.func
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


def _bounds(module: Module, call: ast.Call, use: ast.expr) -> bool:
    name = _named(call)
    if use is call.func:
        return False
    if name != "len":
        return bool(_EVICTS.search(name.lower()))
    if _compared(module, call):
        return True
    parent = module.up.get(call)
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name):
        target = parent.targets[0]
        return any(_compared(module, name) for name in module.uses(module.scope(target), target.id))
    return False


def _compared(module: Module, node: ast.expr) -> bool:
    """Whether a length is held against more than nothing."""
    for above in module.above(node):
        if isinstance(above, ast.Compare):
            return not any(
                isinstance(side, ast.Constant) and side.value in (0, 1) for side in (above.left, *above.comparators)
            )
        if not isinstance(above, ast.BinOp):
            return False
    return False


def inner_evictions(module: Module, store: Store) -> list[ast.expr]:
    """The places that shorten one of the containers within a store: `S[k].clear()`, `S[k] = []`."""
    found: list[ast.expr] = []
    for use in meanings(module, (*store.uses, *store.doubtful)):
        parent = module.up.get(use)
        if isinstance(parent, ast.Attribute) and parent.attr in ("get", "setdefault", "values", "items"):
            inner: ast.AST | None = module.up.get(parent)
            if parent.attr in ("values", "items") and isinstance(inner, ast.Call):
                found += [inner] if isinstance(module.up.get(inner), ast.For) else []
                continue
        else:
            inner = parent
        if not isinstance(inner, ast.Subscript | ast.Call) or inner is use:
            continue
        if isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store):
            if isinstance(module.up.get(inner), ast.Assign):
                found.append(inner)
        elif any(shrinks(module, meaning) for meaning in meanings(module, (inner,))):
            found.append(inner)
    return found


def only_on_success(module: Module, growth: ast.AST, evicting: Sequence[ast.expr]) -> bool:
    """Whether all that takes an entry out again stands behind an `await` or `yield` that may raise, in the function
    that put it in, and not in a `finally` or `except`."""
    function = module.function(growth)
    start = getattr(growth, "lineno", 0)
    if function is None or not evicting:
        return False
    for use in evicting:
        parent = module.up.get(use)
        by_key = isinstance(parent, ast.Subscript) or (
            isinstance(parent, ast.Attribute)
            and parent.attr in ("pop", "remove", "discard")
            and isinstance(module.up.get(parent), ast.Call)
        )
        if not by_key or module.function(use) is not function or use.lineno <= start:
            return False
        if is_safe(module, use, function):
            return False
    end = min(use.lineno for use in evicting)
    return any(
        isinstance(node, ast.Await | ast.Yield)
        and start < node.lineno < end
        and module.function(node) is function
        and not is_caught(module, node, function)
        for node in ast.walk(function)
    )


def is_safe(module: Module, use: ast.AST, function: ast.AST) -> bool:
    """Whether a use stands where it is reached whatever raises: in a `finally`, an `except`, a callback."""
    below = use
    for above in module.above(use):
        if above is function:
            return False
        if isinstance(above, ast.ExceptHandler | ast.Lambda):
            return True
        if isinstance(above, ast.Try) and below in above.finalbody:
            return True
        below = above
    return False


def is_caught(module: Module, node: ast.AST, function: ast.AST) -> bool:
    """Whether what raises at a node is caught in its own function."""
    below = node
    for above in module.above(node):
        if above is function:
            return False
        if isinstance(above, ast.Try) and below in above.body and above.handlers:
            return True
        below = above
    return False
