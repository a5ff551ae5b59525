"""Stores that are filled while a program starts: registries, what a decorator keeps, what is done once."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Final

from pytest_memleak.scan.containers import MAKERS, Store
from pytest_memleak.scan.module import Function, Module, parameters
from pytest_memleak.scan.occasions import is_made_once
from pytest_memleak.scan.store_data import is_data, words
from pytest_memleak.scan.store_evictions import plain, shrinks

_REGISTERING: Final = re.compile(
    r"^(register|unregister|registry|subscribe|install|setup|configure|define|declare|discover|bootstrap|enable|init"
    r"|initialize|import|autodiscover|populate|override|monkey|patch|instrument|mount|include|watch|warn)(_|$)"
    r"|^(set_up|on_startup)(_|$)|_register$|_once$|from_(config|settings)$"
)
_STORING: Final = re.compile(r"^(add|set|load|with|use|provide|insert)_")
_GROWING: Final = re.compile(
    r"cache|memo|seen|histor|result|buffer|record|lock|pending|queue|log(s|ged)?$|data$|entries"
)
"""Stores whose name says that they go with what happens, not with what the program is made of."""

_REGISTRIES: Final = re.compile(
    r"(^|_)(registry|registries|registrations?|registered|factor(y|ies)|handlers?|converters?|convertors?|serializers?"
    r"|deserializers?|encoders?|decoders?|adapters?|plugins?|extensions?|backends?|hooks?|middlewares?|validators?"
    r"|parsers?|loaders?|dialects?|commands?|routes?|blueprints?|namespaces?|modules?|classes|subclasses|types?|schemas?"
    r"|providers?|alias(es)?|mappers?|overrides|patche[sd]|warned|warnings?|deprecated|deprecations|listeners"
    r"|callbacks|settings|options|configs?|environ|env|fixtures|formatters|filters|processors|components"
    r"|integrations|tools|globals|functions|funcs|codecs|strategies|resolvers|builders|drivers|implementations|impls"
    r"|engines|transports|exporters|instrumentors|instrumented|symbols|tags|loggers|installed|imported|loaded)$"
)
_CLASS_HOOKS: Final = frozenset({"__init_subclass__", "__set_name__", "__class_getitem__", "__prepare__"})
_MISTAKES: Final = frozenset({"AssertionError", "ValueError", "TypeError", "RuntimeError", "KeyError", "NameError"})
_DEPRECATING: Final = frozenset({"DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"})
_DECORATED: Final = re.compile(
    r"(^|_)(func|function|fn|f|cls|klass|class_?|kls|callable|callable_|wrapped|handler|callback|method|coro|coroutine|"
    r"decorated|factory|hook|view|endpoint|middleware|type_?|target|wrapper|decorator|processor)$"
)


def is_registry(
    module: Module, store: Store, function: Function, value: ast.expr | None, keys: Sequence[ast.expr]
) -> bool:
    """Whether what a function puts into a store is there for good, and put there once."""
    if function.name in _CLASS_HOOKS or _is_of_a_metaclass(module, function):
        return True
    if _keeps_what_it_decorates(module, function, value) or _is_decorator(module, function):
        return True
    if _runs_at_import(module, function) or _tells_of_code(module, function):
        return True
    # What a thing is called says nothing where its keys are data: `user_settings[user_id]`.
    if any(is_data(module, key) for key in keys or (() if value is None else (value,))):
        return False
    return _is_named_so(module, store, function, value, keys) or _must_be_new(module, store, function, keys)


def _is_named_so(
    module: Module, store: Store, function: Function, value: ast.expr | None, keys: Sequence[ast.expr]
) -> bool:
    name = "_".join(words(store.name))
    grows = bool(_GROWING.search(name))
    if _REGISTRIES.search(name) and not grows:
        return True
    given = {parameter.arg for parameter in parameters(function)}
    named = {
        node.id for each in (value, *keys) if each is not None for node in ast.walk(each) if isinstance(node, ast.Name)
    }
    if function.name in MAKERS and "self" in named:
        # Every object made, whatever comes of it; but those of a module alone are as many as it has lines.
        of = module.class_of(function)
        return of is not None and is_made_once(module, of)
    around = [function, *module.functions_above(function)]
    if any(_REGISTERING.search("_".join(words(each.name))) for each in around):
        return True
    if not _STORING.search("_".join(words(function.name))) or grows or not named & given:
        return False
    return not any(shrinks(module, use) for use in store.uses)  # what a program is made of is not emptied


def _must_be_new(module: Module, store: Store, function: Function, keys: Sequence[ast.expr]) -> bool:
    """Whether a key that is there already is the programmer's mistake: `assert key not in S`."""
    for use in store.uses:
        test = module.up[use]
        if not isinstance(test, ast.Compare) or use not in test.comparators or module.function(use) is not function:
            continue
        if not any(ast.dump(test.left) == ast.dump(key) for key in keys):
            continue
        above = module.up[test]
        if isinstance(above, ast.Assert) and isinstance(test.ops[0], ast.NotIn):
            return True
        if isinstance(above, ast.If) and isinstance(test.ops[0], ast.In) and _refuses(above.body[-1]):
            return True
    return False


def _refuses(statement: ast.stmt) -> bool:
    raised = statement.exc if isinstance(statement, ast.Raise) else None
    called = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(called, ast.Name) and called.id in _MISTAKES


def _tells_of_code(module: Module, function: Function) -> bool:
    """Whether a function warns of what is deprecated, which has a name in the source."""
    uses = [use for name in _DEPRECATING for use in module.names.get(name, ())]
    return any(function in module.functions_above(use) for use in uses)


def _is_decorator(module: Module, function: Function) -> bool:
    """Whether a function gives back what wraps the function that it is given."""
    given = {parameter.arg for parameter in parameters(function)}
    returned = {
        node.value.id
        for node in module.own_nodes(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Name)
    }
    for inner in module.own_nodes(function) if returned else ():
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) or inner.name not in returned:
            continue
        for decorator in inner.decorator_list:
            if not isinstance(decorator, ast.Call) or not module.dotted(decorator.func).endswith("wraps"):
                continue
            if any(isinstance(each, ast.Name) and each.id in given for each in decorator.args):
                return True
    return False


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
        node.value.id
        for node in module.own_nodes(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Name)
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


def one_of_each_class(module: Module, store: Store, function: Function) -> bool:
    """Whether a function looks for an object of a class first: `for x in S: if isinstance(x, C): return x`."""
    for use in store.uses:
        if module.function(use) is not function:
            continue
        loop = module.up[use]
        if not isinstance(loop, ast.For) or loop.iter is not use:
            continue
        for node in ast.walk(loop):
            if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return | ast.Break):
                test = node.test
                if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "isinstance":
                    return True
    return False


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
    for node in module.own_nodes(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is True:
            raised.update(plain(target) for target in node.targets if _outlives(module, function, target))
    if not raised:
        return False
    return any(
        isinstance(node, ast.If) and any(plain(test) in raised for test in ast.walk(node.test))
        for node in module.own_nodes(function)
    )


def _outlives(module: Module, function: Function, target: ast.expr) -> bool:
    if isinstance(target, ast.Name):
        return module.owner(target, target.id) is not function
    return isinstance(target, ast.Attribute)
