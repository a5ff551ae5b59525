"""On what occasion code runs: once per process or again and again, and how long what it reaches for lives."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.module import Function, Module, Scope, parameters

_ONCE: Final = re.compile(
    r"_*(setup|set_up|configure|config|init|install|register|enable|bootstrap|daemonize|set_|prepare"
    r"|(create|make|build|get)_app|on_startup|lifespan|startup|instrument|patch|pytest_|connect_signals).*"
    r"|main|_main|run|cli|ready|serve|__main__|includeme|.*_logging|.*_startup|.*pid(file|lock).*|run_forever|run_app|run_server"
)
_COMMANDS: Final = re.compile(r"(^|\.)(command|group|on_event|on_startup|before_serving|fixture|cache|lru_cache)$")
_LOOKS_UP: Final = re.compile(r"_*(get|current|default|instance|shared|global|by_name|find|lookup)(_|[A-Z]|$).*")
_FORWARDED: Final = re.compile(
    r"(callback|cb|fn|func|function|handler|handle|listener|observer|hook|subscriber)s?$", re.IGNORECASE
)


def runs_once(module: Module, call: ast.Call) -> bool:
    """Whether the code runs once per process: by the name of a function around it, by what decorates that, or
    because its class is made once."""
    for function in module.functions_above(call):
        if is_set_up(function):
            return True
        for decorator in function.decorator_list:
            name = module.dotted(decorator).removesuffix("()")
            if _COMMANDS.search(name):
                return True
    of = module.class_of(call)
    return of is not None and is_made_once(module, of)


def is_made_once(module: Module, of: ast.ClassDef) -> bool:
    """Whether a class is a singleton: it says so, or the file makes one at module level and none elsewhere."""
    for item in of.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__new__":
            return True
        targets = (
            item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id in ("_instance", "__instance") for target in targets):
            return True
    made = [use for use in module.names.get(of.name, ()) if is_called(module, use)]
    return bool(made) and all(module.function(use) is None for use in made)


def is_called(module: Module, use: ast.AST) -> bool:
    """Whether a name is what a call calls."""
    above = module.up.get(use)
    return isinstance(above, ast.Call) and above.func is use


def is_guarded(module: Module, call: ast.Call) -> bool:
    """Whether a test lets the registration happen once only: an `if` around it, or a return before it."""
    function = module.function(call)
    below: ast.AST = call
    for above in module.above(call):
        if isinstance(above, ast.ExceptHandler) and above.type is not None and _is_missing(module, above.type):
            return True
        if isinstance(above, ast.If) and below is not above.test and _is_flag(module, above.test, function):
            return True
        for statement in _before(above, below):
            if (
                isinstance(statement, ast.If)
                and isinstance(statement.body[-1], ast.Return | ast.Continue)
                and _is_flag(module, statement.test, function)
            ):
                return True
        if above is function:
            return False
        below = above
    return False


def _is_missing(module: Module, caught: ast.expr) -> bool:
    """Whether an `except` is about what is not there yet: it is made when first asked for."""
    return module.dotted(caught) in ("LookupError", "KeyError", "AttributeError", "NameError")


def _before(above: ast.AST, below: ast.AST) -> Iterator[ast.stmt]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(above, field, None)
        if isinstance(block, list) and below in block:
            yield from block[: block.index(below)]


def _is_flag(module: Module, test: ast.expr, function: Function | None) -> bool:
    given = {argument.arg for argument in parameters(function)} if function else set()
    given -= {"self", "cls"}
    flags = False
    for node in (test, *ast.walk(test)):
        if isinstance(node, ast.Attribute):
            if node.attr in ("handlers", "hasHandlers"):
                return True
            flags = flags or not (isinstance(node.value, ast.Name) and node.value.id in given)
        elif isinstance(node, ast.Name):
            if "handler" in node.id.lower() and is_called(module, node):
                return True
            flags = flags or (node.id not in given and node.id not in module.imports and not hasattr(builtins, node.id))
            flags = flags or node.id == "hasattr"
    if not flags:
        return False
    return any(
        isinstance(node, ast.Not)
        or (isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn))
        for node in ast.walk(test)
    ) or isinstance(test, ast.Attribute | ast.Name)


def is_self(module: Module, node: ast.AST) -> bool:
    """Whether it is the method's own object, also seen from a function within; `super()` too."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    if not isinstance(node, ast.Name):
        return False
    method = module.method_of(node)
    return method is not None and bool(method.args.args) and method.args.args[0].arg == node.id and node.id != "cls"


def is_parameter(owner: Scope, name: str) -> bool:
    """Whether a scope has a parameter of that name."""
    return not isinstance(owner, ast.Module | ast.ClassDef) and any(a.arg == name for a in parameters(owner))


def is_injected(module: Module, owner: Scope, name: str) -> bool:
    """Whether a parameter is FastAPI's dependency, which comes from elsewhere."""
    if isinstance(owner, ast.Module | ast.ClassDef | ast.Lambda):
        return False
    positional = [*owner.args.posonlyargs, *owner.args.args]
    defaults = dict(zip(reversed(positional), reversed(owner.args.defaults), strict=False))
    return any(
        argument.arg == name and isinstance(default, ast.Call) and module.dotted(default.func).endswith("Depends")
        for argument, default in defaults.items()
    )


def is_looked_up(module: Module, call: ast.Call) -> bool:
    """Whether a call gives what others have too, as `get_bus()` and `logging.getLogger()` do."""
    return bool(_LOOKS_UP.fullmatch(module.dotted(call.func).rpartition(".")[2]))


def is_given_to_self(module: Module, call: ast.Call, attribute: str) -> bool:
    """Whether `self.attribute` is always what the object was given or found, never what it made."""
    of = module.class_of(call)
    if of is None:
        return False
    stores = [
        use
        for use in module.attributes.get(attribute, ())
        if isinstance(use.ctx, ast.Store) and module.class_of(use) is of and is_self(module, use.value)
    ]
    return bool(stores) and all(_is_foreign(module, getattr(module.up[use], "value", None)) for use in stores)


def _is_foreign(module: Module, value: ast.AST | None) -> bool:
    if isinstance(value, ast.Call):
        return is_looked_up(module, value)
    root = value
    while isinstance(root, ast.Attribute):
        root = root.value
    if not isinstance(root, ast.Name) or is_self(module, root):
        return False
    owner = module.owner(root, root.id)
    return owner is None or isinstance(owner, ast.Module) or is_parameter(owner, root.id)


def passes_on(module: Module, call: ast.Call) -> bool:
    """Whether a listener is made of the caller's own callback."""
    for argument in call.args:
        if isinstance(argument, ast.Name) and _FORWARDED.search(argument.id):
            owner = module.owner(argument, argument.id)
            if owner is not None and is_parameter(owner, argument.id):
                return True
    return False


def stops(module: Module, call: ast.Call, source: ast.expr | None) -> tuple[str, ...]:
    """The facts of other files that would clear it: that what it registers with is unsubscribed from there, or
    that the program has a method of that name of its own, which holds listeners weakly."""
    weak = (f"stops:weak.{call.func.attr}",) if isinstance(call.func, ast.Attribute) else ()
    return (*weak, *_unsubscribed(module, call, source))


def _unsubscribed(module: Module, call: ast.Call, source: ast.expr | None) -> tuple[str, ...]:
    of = module.class_of(call)
    if isinstance(source, ast.Attribute) and is_self(module, source.value) and of is not None:
        names = [of.name, *(base.rpartition(".")[2] for base in module.class_bases(of) if base), "*"]
        return tuple(f"stops:{name}.{source.attr}" for name in names)
    if isinstance(source, ast.Name):
        if source.id in module.imports:
            return (f"stops:{module.dotted(source)}",)
        if module.is_global(source):
            return (f"stops:{module.name}.{source.id}",)
    return ()


def is_set_up(function: Function) -> bool:
    """Whether a function sets up what lives as long as the process, by its name."""
    return function.name != "__init__" and _ONCE.fullmatch(function.name) is not None


def made_in_functions(module: Module, of: ast.ClassDef) -> bool:
    """Whether the file makes the class within a function that is no `__init__`, so per call."""
    for use in module.names.get(of.name, ()):
        function = module.function(use) if is_called(module, use) else None
        if function is not None and function.name != "__init__" and not is_set_up(function):
            return True
    return False


def is_passing(module: Module, of: ast.ClassDef) -> bool:
    """Whether the file makes an object of a class for a call only: it neither gives it back nor keeps it, so that it
    may live as long as the process."""
    for use in module.names.get(of.name, ()):
        function = module.function(use) if is_called(module, use) else None
        if function is None or function.name == "__init__" or is_set_up(function):
            continue
        call = module.up[use]
        above = module.up[call]
        if isinstance(above, ast.Attribute | ast.Expr | ast.withitem):
            return True
        target = above.targets[0] if isinstance(above, ast.Assign) else None
        if isinstance(target, ast.Name) and module.owner(target, target.id) is function:
            kept = (ast.Return, ast.Assign, ast.Call, ast.Yield, ast.Tuple, ast.List, ast.Dict, ast.keyword)
            uses = module.uses(function, target.id)
            if not any(isinstance(module.up[each], kept) for each in uses if each is not target):
                return True
    return False


def attribute_stores(module: Module) -> Iterator[tuple[ast.Attribute, ast.expr]]:
    """Every `name.attribute = value` of the file, where the value is a name or a call of one."""
    for uses in module.attributes.values():
        for use in uses:
            if not isinstance(use.ctx, ast.Store) or not isinstance(use.value, ast.Name):
                continue
            above = module.up[use]
            if not isinstance(above, ast.Assign | ast.AnnAssign) or above.value is None:
                continue
            value = above.value
            if isinstance(value, ast.Name) or (isinstance(value, ast.Call) and isinstance(value.func, ast.Name)):
                yield use, value
