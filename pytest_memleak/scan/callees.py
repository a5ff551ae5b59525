"""Which function of the same file a call runs, under what name it gets an argument, and who runs a generator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.module import Function, Module, within

_PROVIDERS: Final = frozenset({"contextmanager", "asynccontextmanager", "fixture"})


def last_name(node: ast.expr) -> str:
    """`load` of `json.load` and of `x[0].load`; empty for what has no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def callee(module: Module, call: ast.Call) -> Function | None:
    """The function or method of this file that is called, where it has a body to look at."""
    func = call.func
    home: ast.AST | None = None
    if isinstance(func, ast.Name):
        home = module.owner(func, func.id)
    elif isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id in {"self", "cls"}:
        home = module.class_of(call)
    if home is None:
        return None
    name = last_name(func)
    found = [one for one in module.functions if one.name == name and module.scope(one) is home]
    return found[0] if len(found) == 1 and not _is_stub(found[0]) else None


def _is_stub(function: Function) -> bool:
    return all(
        isinstance(line, ast.Pass | ast.Raise) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in function.body
    )


def calls_of_maker(module: Module, made: ast.Call) -> Iterator[ast.Call]:
    """The calls in this file of the function that makes and returns a new one each time: `conn = get_conn()`."""
    function = module.function(made)
    if function is None or not _makes(module, function, made):
        return
    for use in [*module.names.get(function.name, ()), *module.attributes.get(function.name, ())]:
        call = module.up[use]
        if isinstance(call, ast.Call) and call.func is use and callee(module, call) is function:
            yield call


def _makes(module: Module, function: Function, made: ast.Call) -> bool:
    if any(last_name(one) not in {"staticmethod", "classmethod"} for one in function.decorator_list):
        return False
    name = ""
    statement = module.statement(made)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        target = statement.targets[0]
        if len(statement.targets) > 1 or target.id not in module.locals_of(function):
            return False
        name = target.id
        if not all(_only_returned(module, use) for use in module.uses(function, name)):
            return False
    value = getattr(statement, "value", None)
    if (value.value if isinstance(value, ast.Await) else value) is not made:
        return False
    ends = [one for one in within(function) if isinstance(one, ast.Return | ast.Yield | ast.YieldFrom)]
    if any(not isinstance(one, ast.Return) for one in ends):
        return False
    return bool(ends) and all(
        one is statement or (bool(name) and isinstance(one.value, ast.Name) and one.value.id == name) for one in ends
    )


def _only_returned(module: Module, use: ast.Name) -> bool:
    """Whether a use keeps it nowhere else: it is assigned or returned, or one of its methods is called."""
    return not isinstance(use.ctx, ast.Load) or isinstance(module.up[use], ast.Return | ast.Attribute)


def parameter(function: Function, call: ast.Call, node: ast.AST, keyword: str) -> str:
    """The parameter that an argument arrives in; empty where `*` or `**` takes it."""
    arguments = function.args
    if keyword:
        named = {argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]}
        return keyword if keyword in named else ""
    if any(isinstance(one, ast.Starred) for one in call.args):
        return ""
    ordered = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    static = any(last_name(one) == "staticmethod" for one in function.decorator_list)
    index = next((at for at, one in enumerate(call.args) if one is node), len(ordered))
    index += isinstance(call.func, ast.Attribute) and not static
    return ordered[index] if index < len(ordered) else ""


def provides(module: Module, node: ast.AST) -> bool:
    """Whether the generator around a `yield` is run by a framework: a context manager, a fixture, a dependency."""
    function = module.function(node)
    if function is None:
        return False
    for decorator in function.decorator_list:
        if last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) in _PROVIDERS:
            return True
    yields = [one for one in within(function) if isinstance(one, ast.Yield | ast.YieldFrom)]
    if len(yields) == 1 and function.name.startswith("get_") and not _in_loop(module, node):
        return True
    for use in module.names.get(function.name, ()):
        above = module.up[use]
        if isinstance(above, ast.Call) and last_name(above.func) in {"Depends", "Security"}:
            return True
    return False


def is_context_manager(function: Function) -> bool:
    """Whether a generator is what `with` enters; a fixture is run to its end whatever its test raises."""
    return any(
        last_name(one.func if isinstance(one, ast.Call) else one) in {"contextmanager", "asynccontextmanager"}
        for one in function.decorator_list
    )


def _in_loop(module: Module, node: ast.AST) -> bool:
    for above in module.above(node):
        if isinstance(above, ast.For | ast.AsyncFor | ast.While):
            return True
        if isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
    return False
