"""Dicts that gain an entry per key and never lose one, and `functools` caches without a bound or on methods."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Function, Module, parameters
from pytest_memleak.scan.store_evictions import plain
from pytest_memleak.scan.store_growth import leaks
from pytest_memleak.scan.store_keys import is_enum, is_finite, is_finite_annotation, is_finite_name
from pytest_memleak.scan.stores import lives_with_module
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK001"
PATTERN: Final = "unbounded_cache"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "A dict that anything in the file shrinks: `pop`, `popitem`, `clear`, `del`, a new dict, a look at its length.",
    "A dict that bounds itself or holds weakly: `LRUCache`, `TTLCache`, `WeakValueDictionary`.",
    "Keys of which there are only so many: constants, members of an enum, classes, status codes, locales, offsets.",
    "A registry: filled by a decorator, a metaclass, a function named `register…`, or at import only.",
    "`functools.cache` on a function without parameters, or whose parameters take only so many values.",
    "`functools.lru_cache` with a bound on a function, and on a method that takes nothing but `self`.",
    "A function whose cache the file empties with `cache_clear`.",
)

_OF_DEFINITIONS: Final = re.compile(
    r"blueprint|deprecat|warn|extension|setting|config|import|module|class|type|version|annotation|field"
)
"""Functions about what a program defines, of which there is only so much."""


def find(module: Module) -> Iterator[Suspect]:
    """The caches of a file that only grow."""
    for growth, suspect in leaks(module):
        if growth.way in ("entry", "read"):
            yield suspect
    for function in module.functions:
        for decorator in function.decorator_list:
            bound = _bound(module, decorator)
            if bound is not None:
                yield from _decorated(module, function, decorator, bound)


def _bound(module: Module, decorator: ast.expr) -> str | None:
    """The bound of a caching decorator as written; empty where it has none, None where it is another decorator."""
    called = decorator if isinstance(decorator, ast.Call) else None
    name = module.dotted(called.func if called else decorator)
    if name == "functools.cache":
        return ""
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


def _decorated(module: Module, function: Function, decorator: ast.expr, bound: str) -> Iterator[Suspect]:
    owner = module.scope(function)
    kinds = {module.dotted(each) for each in function.decorator_list}
    if isinstance(owner, ast.ClassDef) and "staticmethod" not in kinds:
        if (
            "classmethod" in kinds
            or function.name in ("__new__", "__init_subclass__")
            or lives_with_module(module, owner)
        ):
            yield from _function(module, function, decorator, bound, skip=1)
        elif not _lives_for_good(module, owner):
            yield from _method(function, decorator, bound, owner)
    elif isinstance(owner, ast.Module | ast.ClassDef):
        yield from _function(module, function, decorator, bound, skip=0)


def _lives_for_good(module: Module, owner: ast.ClassDef) -> bool:
    bases = module.class_bases(owner)
    return is_enum(module, owner) or any(base == "type" or base.endswith("Meta") for base in bases)


def _is_cleared(module: Module, function: Function) -> bool:
    for use in module.attributes.get("cache_clear", ()):
        named = use.value
        if isinstance(named, ast.Name) and named.id == function.name:
            return True
        if isinstance(named, ast.Attribute) and named.attr == function.name:
            return True
    return False


def _method(function: Function, decorator: ast.expr, bound: str, owner: ast.ClassDef) -> Iterator[Suspect]:
    given = parameters(function)
    if not given or (bound and (len(given) == 1 or bound in ("0", "1"))):
        return
    most = f" up to {bound} objects" if bound else " every object it is called on"
    yield Suspect(
        node=decorator,
        message=f"the cache of `{owner.name}.{function.name}` holds `{given[0].arg}`, so it keeps{most} alive",
        driver=Driver.INSTANCE,
        confidence=Confidence.MEDIUM if bound else Confidence.HIGH,
        fix="cache on the object: functools.cached_property, or a dict made in __init__",
        holder=f"{owner.name}.{function.name}",
    )


def _function(module: Module, function: Function, decorator: ast.expr, bound: str, *, skip: int) -> Iterator[Suspect]:
    free = [each for each in parameters(function)[skip:] if not _is_finite(module, each)]
    if (
        bound
        or not free
        or _is_cleared(module, function)
        or _OF_DEFINITIONS.search(function.name)
        or _is_asked_constants(module, function)
    ):
        return
    yield Suspect(
        node=decorator,
        message=f"the cache of `{function.name}` gains an entry per `{free[0].arg}` and has no maxsize",
        driver=Driver.CALL,
        confidence=Confidence.MEDIUM,
        fix="bound it: functools.lru_cache(maxsize=…)",
        holder=f"{module.name}.{function.name}" if module.name else function.name,
        fixable=True,
    )


def _is_finite(module: Module, parameter: ast.arg) -> bool:
    if is_finite_name(parameter.arg):
        return True
    return parameter.annotation is not None and is_finite_annotation(module, parameter.annotation)


def _is_asked_constants(module: Module, function: Function) -> bool:
    """Whether a private function is only ever called with values of which there are so many."""
    if not function.name.startswith("_"):
        return False
    calls = [module.up[use] for use in module.names.get(function.name, ())]
    calls += [module.up[use] for use in module.attributes.get(function.name, ())]
    return bool(calls) and all(
        isinstance(call, ast.Call)
        and (
            module.function(call) is None
            or all(is_finite(module, each) for each in (*call.args, *(word.value for word in call.keywords)))
        )
        for call in calls
    )
