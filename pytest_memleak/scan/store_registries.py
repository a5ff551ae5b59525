"""Stores that are filled while a program starts: registries, what a decorator keeps, what is done once."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Final

from pytest_memleak.scan.module import Function, Module, parameters, within
from pytest_memleak.scan.store_evictions import plain
from pytest_memleak.scan.stores import Store

_REGISTERING: Final = re.compile(
    r"^_*(register|unregister|registry|subscribe_class|install|setup|set_up|configure|define|declare|discover|bootstrap"
    r"|enable|init|initialize|import|autodiscover|populate|override|monkey|patch|instrument|mount|include|on_startup)"
    r"(_|$)|_?register(_|$)|^_*warn|_once$|from_(config|settings)$"
)
_STORING: Final = re.compile(r"^_*(add|set|load|with|use|provide|insert)_")
_DATA: Final = re.compile(
    r"cache|memo|seen|session|histor|result|message|event|visit|log|request|response|queue|pending|buffer|record|lock"
    r"|entries|item|job|task|user|client|conn|data|metric|stat"
)
_REGISTRIES: Final = re.compile(
    r"(^|_)(registry|registries|registrations?|registered|factor(y|ies)|handlers?|converters?|convertors?|serializers?"
    r"|deserializers?|encoders?|decoders?|adapters?|plugins?|extensions?|backends?|hooks?|middlewares?|validators?"
    r"|parsers?|loaders?|dialects?|commands?|routes?|blueprints?|namespaces?|modules?|classes|subclasses|types?|schemas?"
    r"|providers?|alias(es)?|mappers?|overrides|patche[sd]|patched|warned|warnings?|deprecated|deprecations|listeners"
    r"|callbacks|settings|options|config|configs|environ|env|fixtures|formatters|filters|processors|components"
    r"|integrations|tools|templates_dirs|globals|functions|funcs|codecs|strategies|resolvers|builders|drivers"
    r"|implementations|impls|engines|transports|exporters|instrumentors|instrumented|symbols|tags|loggers|installed|imported|loaded)$"
)
_CLASS_HOOKS: Final = frozenset({"__init_subclass__", "__set_name__", "__class_getitem__", "__prepare__"})
_DECORATED: Final = re.compile(
    r"(^|_)(func|function|fn|f|cls|klass|class_?|kls|callable|callable_|wrapped|handler|callback|method|coro|coroutine|"
    r"decorated|factory|hook|view|endpoint|middleware|type_?|target|wrapper|decorator|processor)$"
)


def is_registry(
    module: Module, store: Store, function: Function, value: ast.expr | None, keys: Sequence[ast.expr]
) -> bool:
    """Whether what a function puts into a store is there for good, and put there once."""
    if re.search("^_*config_|deprecat", store.name.lower()) or store.holder.startswith(
        ("Environ", "Config", "Settings")
    ):
        return True
    cache = bool(_DATA.search(store.name.lower()))
    if _REGISTRIES.search(store.name.lower()) and not re.search("cache|memo|seen", store.name.lower()):
        return True
    if function.name in _CLASS_HOOKS or _is_of_a_metaclass(module, function):
        return True
    around = [function, *module.functions_above(function)]
    if any(_REGISTERING.search(each.name) for each in around):
        return True
    given = {parameter.arg for parameter in parameters(function)}
    named = {
        node.id for each in (value, *keys) if each is not None for node in ast.walk(each) if isinstance(node, ast.Name)
    }
    if _STORING.search(function.name) and not cache and named & given:
        return True
    return _keeps_what_it_decorates(module, function, value) or _runs_at_import(module, function)


def _is_of_a_metaclass(module: Module, function: Function) -> bool:
    owner = module.scope(function)
    if not isinstance(owner, ast.ClassDef):
        return False
    return owner.name.endswith(("Meta", "MetaClass", "Metaclass")) or any(
        base in ("type", "abc.ABCMeta", "enum.EnumMeta") or base.endswith(("Meta", "MetaClass", "Metaclass"))
        for base in module.class_bases(owner)
    )


def _keeps_what_it_decorates(module: Module, function: Function, value: ast.expr | None) -> bool:
    if value is None:
        return False
    kept = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    returned = {
        node.value.id for node in within(function) if isinstance(node, ast.Return) and isinstance(node.value, ast.Name)
    }
    both = kept & returned
    if not both:
        return False
    given = {parameter.arg: parameter for parameter in parameters(function)}
    nested = module.function(function) is not None
    for name in both:
        if name in given:
            if nested or _DECORATED.search(name):
                return True
        elif any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in function.body
        ):
            return True
    return False


def _runs_at_import(module: Module, function: Function) -> bool:
    """Whether the file calls a function at module level, and nowhere else."""
    if module.function(function) is not None or isinstance(module.scope(function), ast.ClassDef):
        return False
    uses = module.uses(module.tree, function.name) if function.name in module.names else []
    return bool(uses) and all(module.function(use) is None for use in uses)


def fills_once(module: Module, store: Store, function: Function) -> bool:
    """Whether a function returns early once it has run: `if _done: return`, `if not S: fill`."""
    for use in store.uses:
        if module.function(use) is function:
            tested: ast.AST = use
            parent = module.up[use]
            if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
                parent, tested = module.up[parent], parent
            if isinstance(parent, ast.If) and parent.test is tested:
                return True
    raised: set[str] = set()
    for node in within(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is True:
            raised.update(plain(target) for target in node.targets if _outlives(module, function, target))
    if not raised:
        return False
    return any(
        isinstance(node, ast.If) and any(plain(test) in raised for test in ast.walk(node.test))
        for node in within(function)
    )


def _outlives(module: Module, function: Function, target: ast.expr) -> bool:
    if isinstance(target, ast.Name):
        return module.owner(target, target.id) is not function
    return isinstance(target, ast.Attribute)
