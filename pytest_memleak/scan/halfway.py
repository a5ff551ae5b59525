"""What is closed on one way out of a function and left open on another."""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.scan.borrowers import closes, takes
from pytest_memleak.scan.callees import callee, is_context_manager, last_name
from pytest_memleak.scan.lifetimes import End, Fate, fate, weightiest
from pytest_memleak.scan.module import Function, Module, within

_EXPECTS: Final = frozenset({"raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp"})
_WAYS: Final = ast.Call | ast.Await | ast.Raise


def returns_before(module: Module, call: ast.Call) -> int | None:
    """The line of a `return` between a call that makes something and the first place that closes it."""
    around = _closed_by_name(module, call)
    if around is None:
        return None
    function, name, first = around
    made = module.statement(call)
    block = module.up[made]
    for node in within(function):
        if not isinstance(node, ast.Return) or not _end(made) < node.lineno < first:
            continue
        if block in module.above(node) and not _is_excused(module, node, made, name):
            return node.lineno
    return None


def closes_on_success_only(module: Module, call: ast.Call) -> bool:
    """Whether what raises between a call that makes something and the first place that closes it leaves it open."""
    around = _closed_by_name(module, call, lent=True)
    if around is None:
        return False
    function, _, first = around
    end = _end(module.statement(call))
    return any(isinstance(node, _WAYS) and end < node.lineno < first for node in within(function))


def closes_after_yield(module: Module, call: ast.Call) -> bool:
    """Whether a context manager made of a generator closes what it yields after the `yield` and outside of `finally`:
    what raises in the `with` block is raised at the `yield`."""
    around = _closed_by_name(module, call)
    if around is None or not is_context_manager(around[0]):
        return False
    function, _, first = around
    end = _end(module.statement(call))
    return any(isinstance(node, ast.Yield) and end < node.lineno < first for node in within(function))


def commits_only(module: Module, call: ast.Call) -> bool:
    """Whether `with` is all that is done to end a connection whose `with` ends its transaction only."""
    above = module.up[call]
    if isinstance(above, ast.withitem):
        target = above.optional_vars
        return target is None or (isinstance(target, ast.Name) and _is_left(module, target))
    if isinstance(above, ast.Assign) and len(above.targets) == 1 and isinstance(above.targets[0], ast.Name):
        name = above.targets[0]
        return module.value_of(name) is call and fate(module, call).end is End.CLOSED and _is_left(module, name)
    return False


def is_expected_to_fail(module: Module, call: ast.Call) -> bool:
    """Whether a test says that the call raises: it is all that stands in `with pytest.raises(…)`."""
    statement = module.statement(call)
    above = module.up.get(statement)
    return (
        isinstance(above, ast.With | ast.AsyncWith)
        and len(above.body) == 1
        and any(
            isinstance(item.context_expr, ast.Call) and last_name(item.context_expr.func) in _EXPECTS
            for item in above.items
        )
    )


def _is_left(module: Module, target: ast.Name) -> bool:
    """Whether a function's own variable is closed by nothing but `with`, and handed to nobody."""
    function = module.function(target)
    if function is None or module.owner(target, target.id) is not function:
        return False
    uses = [use for use in module.uses(function, target.id) if isinstance(use.ctx, ast.Load)]
    others = [use for use in uses if not isinstance(module.up[use], ast.withitem)]
    return weightiest(fate(module, use, inline=False) for use in others).end is End.LOST


def _closed_by_name(module: Module, call: ast.Call, *, lent: bool = False) -> tuple[Function, str, int] | None:
    """The function, the variable that is assigned once there and nobody else has, and the line that first closes it;
    None where `with`, `finally`, an `except` or a function within closes it. With `lent`, a function that it is given
    to may have a result: that it is closed here afterwards says that it was only lent."""
    made = module.statement(call)
    value = getattr(made, "value", None)
    if (value.value if isinstance(value, ast.Await) else value) is not call:
        return None
    target = made.targets[0] if isinstance(made, ast.Assign) else getattr(made, "target", None)
    function = module.function(call)
    if not isinstance(target, ast.Name) or function is None or module.value_of(target) is not value:
        return None
    lines: list[int] = []
    for use in module.uses(function, target.id):
        if not isinstance(use.ctx, ast.Load):
            continue
        end = _plain_end(module, use, function)
        if end is End.HANDED and not (lent and _is_lent(module, use)):
            return None
        if end is End.CLOSED:
            lines.append(use.lineno)
    return (function, target.id, min(lines)) if lines else None


def _is_lent(module: Module, use: ast.Name) -> bool:
    above = module.up[use]
    if not isinstance(above, ast.Call) or above.func is use:
        return False
    name = last_name(above.func)
    return bool(name) and not closes(name) and not takes(name) and callee(module, above) is None


def _plain_end(module: Module, use: ast.Name, function: Function) -> End:
    """What a use does; HANDED for all that closes otherwise than by a statement of its own on the way."""
    found: Fate = fate(module, use, inline=False)
    if found.end is not End.CLOSED:
        return End.LOST if found.end is End.LOST else End.HANDED
    above = module.up[use]
    by_method = isinstance(above, ast.Attribute) and isinstance(module.up[above], ast.Call)
    by_pool = isinstance(above, ast.Call) and above.func is not use and closes(last_name(above.func))
    if not (by_method or by_pool) or module.function(use) is not function:
        return End.HANDED
    below: ast.AST = use
    for around in module.above(use):
        if isinstance(around, ast.ExceptHandler) or (isinstance(around, ast.Try) and below in around.finalbody):
            return End.HANDED
        if around is function:
            break
        below = around
    return End.CLOSED


def _is_excused(module: Module, node: ast.Return, made: ast.stmt, name: str) -> bool:
    """Whether there is nothing to close at a `return`: a test asks so, or making it failed."""
    for above in module.above(node):
        if isinstance(above, ast.If) and any(
            isinstance(one, ast.Name) and one.id == name for one in ast.walk(above.test)
        ):
            return True
        if isinstance(above, ast.ExceptHandler) and module.up[above] in module.above(made):
            return True
        if isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
    return False


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno
