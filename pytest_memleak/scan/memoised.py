"""What `functools` keeps for a function: the caches of a file without a bound, and those that hold `self`."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.containers import kind_of
from pytest_memleak.scan.module import Function, Module, parameters, within
from pytest_memleak.scan.occasions import is_called
from pytest_memleak.scan.store_data import is_data_parameter, is_of_tests, words
from pytest_memleak.scan.store_evictions import plain
from pytest_memleak.scan.store_keys import is_enum, is_finite_name, is_finite_parameter
from pytest_memleak.scan.store_owners import lives_with_module
from pytest_memleak.scan.suspect import Suspect

_UNBOUNDED: Final = frozenset(
    f"{library}memoize"
    for library in ("toolz.", "toolz.functoolz.", "cytoolz.", "cytoolz.functoolz.", "tlz.", "funcy.")
)
"""Decorators of other libraries that keep every result in a plain dict."""

_ENDING: Final = re.compile(r"close|aclose|dispose|discard|cleanup|disconnect|release|__exit__|__aexit__|__del__")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """One cache of `functools` over a function of the file."""

    node: ast.expr
    function: Function
    bound: str
    """As written; empty where it has none."""


def caches(module: Module) -> Iterator[Suspect]:
    """The caches of `functools` that grow without a bound or hold objects."""
    for memo in _memos(module):
        for suspect in _suspects(module, memo):
            yield dataclasses.replace(suspect, confidence=Confidence.LOW) if is_of_tests(module) else suspect


def _memos(module: Module) -> Iterator[Memo]:
    for function in module.functions:
        for decorator in function.decorator_list:
            bound = _bound(module, decorator)
            if bound is not None:
                yield Memo(node=decorator, function=function, bound=bound)
    for call in module.calls:
        # `cached = functools.lru_cache(None)(load)`, made once.
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Name) or module.function(call) is not None:
            continue
        whole = module.dotted(call.func) in ("functools.cache", "functools.lru_cache")
        bound = _bound(module, call.func) if whole or isinstance(call.func, ast.Call) else None
        given = _defined(module, call.args[0])
        if bound is not None and given is not None:
            yield Memo(node=call, function=given, bound=bound)


def _defined(module: Module, name: ast.Name) -> Function | None:
    scope = module.owner(name, name.id)
    found = [each for each in module.functions if each.name == name.id and module.scope(each) is scope]
    return found[-1] if found else None


def _bound(module: Module, decorator: ast.expr) -> str | None:
    """The bound of a caching decorator as written; empty where it has none, None where it is another decorator."""
    called = decorator if isinstance(decorator, ast.Call) else None
    name = module.dotted(called.func if called else decorator)
    if name == "functools.cache" or name in _UNBOUNDED:
        return _size(called, "cache") if name in _UNBOUNDED and called is not None else ""
    if name == "cachetools.cached" and called is not None and called.args:
        return "" if kind_of(module, called.args[0]) == "dict" else None
    if name not in ("functools.lru_cache", "async_lru.alru_cache"):
        return None
    if called is None:
        return "128"
    sizes = [word.value for word in called.keywords if word.arg == "maxsize"] or called.args[:1]
    if not sizes:
        return "128"
    if isinstance(sizes[0], ast.Constant) and sizes[0].value is None:
        return ""
    return str(sizes[0].value) if isinstance(sizes[0], ast.Constant) else plain(sizes[0]) or "a number of"


def _size(called: ast.Call, keyword: str) -> str | None:
    """None where a decorator is given the container to keep things in, which may bound itself."""
    return None if any(word.arg == keyword for word in called.keywords) else ""


def _suspects(module: Module, memo: Memo) -> Iterator[Suspect]:
    function = memo.function
    owner = module.scope(function)
    kinds = {module.dotted(each) for each in function.decorator_list}
    given = parameters(function)
    if isinstance(owner, ast.ClassDef) and "staticmethod" not in kinds and given:
        of_class = "classmethod" in kinds or given[0].arg in ("cls", "mcs", "metacls")
        if of_class or lives_with_module(module, owner):
            yield from _by_arguments(module, memo, given[1:])
        elif not _lives_for_good(module, owner):
            yield from _by_object(module, memo, owner, given)
    elif isinstance(owner, ast.Module | ast.ClassDef):
        yield from _by_arguments(module, memo, given)


def _lives_for_good(module: Module, owner: ast.ClassDef) -> bool:
    bases = module.class_bases(owner)
    return is_enum(module, owner) or any(base == "type" or base.endswith("Meta") for base in bases)


def _is_cleared(module: Module, memo: Memo) -> bool:
    assigned = module.up[memo.node]
    targets = assigned.targets if isinstance(assigned, ast.Assign) else ()
    names = {memo.function.name, *(target.id for target in targets if isinstance(target, ast.Name))}
    for use in module.attributes.get("cache_clear", ()):
        named = use.value
        if (named.id if isinstance(named, ast.Name) else getattr(named, "attr", "")) in names:
            return True
    return False


def _by_object(module: Module, memo: Memo, owner: ast.ClassDef, given: list[ast.arg]) -> Iterator[Suspect]:
    bound, function = memo.bound, memo.function
    if bound in ("0", "1") or (not bound and _is_cleared(module, memo) and not _can_end(owner)):
        # What is cleared from time to time was meant to be, and keeps what ended no longer. Who gave it a bound has
        # thought of entries, not of the objects: there clearing is for the sake of fresh answers.
        return
    most = f" up to {bound} objects" if bound else " every object it is called on"
    sure = Confidence.HIGH
    if bound:
        # As many objects as that may be all there are, unless the file shows that they come and go.
        # With an entry per object, the cache holds only the latest.
        many = len(given) > 1 and _comes_and_goes(module, owner)
        sure = Confidence.MEDIUM if many else Confidence.LOW
    yield Suspect(
        node=memo.node,
        message=f"the cache of `{owner.name}.{function.name}` holds `{given[0].arg}`, so it keeps{most} alive",
        driver=Driver.INSTANCE,
        confidence=sure,
        fix="cache on the object: functools.cached_property, or a dict made in __init__",
        holder=f"{owner.name}.{function.name}",
    )


def _comes_and_goes(module: Module, owner: ast.ClassDef) -> bool:
    """Whether objects of a class end before the process does: they can be closed, are referred to weakly, or are
    made by other objects."""
    if _can_end(owner):
        return True
    for use in module.names.get(owner.name, ()):
        call = module.up[use]
        if not isinstance(call, ast.Call) or call.func is not use:
            continue
        function = module.function(call)
        if function is not None and function.name == "__init__":
            return True
    return any(_is_weak(module, use, owner) for use in module.names.get("self", ()))


def _can_end(owner: ast.ClassDef) -> bool:
    return any(
        isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and _ENDING.fullmatch(item.name) is not None
        for item in owner.body
    )


def _is_weak(module: Module, use: ast.Name, owner: ast.ClassDef) -> bool:
    """Whether `self` is put into a weak container of the module."""
    call = module.up[use]
    if not isinstance(call, ast.Call) or use not in call.args or module.class_of(use) is not owner:
        return False
    called = call.func
    if module.dotted(called) in ("weakref.ref", "weakref.finalize"):
        return True
    if not isinstance(called, ast.Attribute) or called.attr != "add" or not isinstance(called.value, ast.Name):
        return False
    made = module.value_of(called.value)
    return isinstance(made, ast.Call) and module.dotted(made.func) == "weakref.WeakSet"


def _by_arguments(module: Module, memo: Memo, given: list[ast.arg]) -> Iterator[Suspect]:
    function = memo.function
    free = [
        each for each in given if _is_of_object(module, memo, each) or not is_finite_parameter(module, function, each)
    ]
    if memo.bound or not free or _is_cleared(module, memo):
        return
    free.sort(key=lambda each: not is_data_parameter(each))
    told = any(_is_told(module, memo, each) for each in free) and _gives(function)
    yield Suspect(
        node=memo.node,
        message=f"the cache of `{function.name}` gains an entry per `{free[0].arg}` and has no maxsize",
        driver=Driver.CALL,
        confidence=Confidence.MEDIUM if told else Confidence.LOW,
        fix="bound it: functools.lru_cache(maxsize=…)",
        holder=f"{module.name}.{function.name}" if module.name else function.name,
    )


def _is_of_object(module: Module, memo: Memo, parameter: ast.arg) -> bool:
    """Whether the file calls a function with what an object keeps under a key, as in `handler = self.handlers[name]`:
    methods bound to the object, of which there is a new set per object."""
    function = memo.function
    at = parameters(function).index(parameter)
    for use in module.names.get(function.name, ()):
        call = module.up[use]
        if not is_called(module, use) or not isinstance(call, ast.Call) or len(call.args) <= at:
            continue
        given = call.args[at]
        values = [given]
        if isinstance(given, ast.Name) and (owner := module.owner(given, given.id)) is not None:
            values = [
                value
                for name in module.uses(owner, given.id)
                if isinstance(name.ctx, ast.Store) and (value := getattr(module.up[name], "value", None)) is not None
            ]
        if any(_is_kept_by_self(value) for value in values):
            return True
    return False


def _is_kept_by_self(value: ast.expr) -> bool:
    """`self.x[k]` and `self.x.get(k)`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "get":
        held: ast.expr = value.func.value
    elif isinstance(value, ast.Subscript):
        held = value.value
    else:
        return False
    return isinstance(held, ast.Attribute) and isinstance(held.value, ast.Name) and held.value.id == "self"


def _gives(function: Function) -> bool:
    """Whether a function gives back anything; one that does not says something once."""
    return any(isinstance(node, ast.Return) and node.value is not None for node in within(function)) or not isinstance(
        function.returns, ast.Constant
    )


def _is_told(module: Module, memo: Memo, parameter: ast.arg) -> bool:
    """Whether a parameter is data as far as the file tells."""
    if is_data_parameter(parameter):
        return True
    # The name of what? The function says so: `_get_setting(name)`, `_split_blueprint_path(name)`.
    if parameter.arg in ("name", "key") and _is_of_program(memo.function):
        return False
    return parameter.annotation is not None or _is_data(module, memo, parameter)


def _is_of_program(function: Function) -> bool:
    return any(word in ("setting", "settings", "config") or is_finite_name(word) for word in words(function.name))


def _is_data(module: Module, memo: Memo, parameter: ast.arg) -> bool:
    """Whether a function reckons with a parameter or hands it to an object's method, as one does with data."""
    for use in module.uses(memo.function, parameter.arg):
        above = module.up[use]
        if isinstance(above, ast.BinOp | ast.FormattedValue | ast.Subscript | ast.Await | ast.For):
            return True
        if isinstance(above, ast.Attribute) and is_called(module, above):
            return True
        if isinstance(above, ast.Compare) and isinstance(above.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            return True
        if isinstance(above, ast.Call) and above.func is not use and isinstance(above.func, ast.Attribute):
            root = above.func.value
            if not isinstance(root, ast.Name) or root.id not in module.imports or root.id == "self":
                return True
    return False
