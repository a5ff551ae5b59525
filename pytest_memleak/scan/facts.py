"""What one file knows of others: what it empties, closes and stops, its endpoints, and who calls whom.

Small and plain, so that thousands of files fit into memory and into the cache. A name is dotted as the file's
imports have it; whether it means anything is for the join to say.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan import routes
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.routes import Route
from pytest_memleak.scan.store_data import is_of_tests
from pytest_memleak.scan.store_state import state_emptied

_SHRINKS: Final = frozenset({"clear", "discard", "pop", "popitem", "popleft", "remove", "difference_update"})
_CLOSES: Final = frozenset(
    {"__aexit__", "__exit__", "aclose", "close", "close_all", "disconnect", "dispose", "kill", "shutdown", "terminate"}
)
_STOPS: Final = frozenset(
    {"cancel", "deregister", "detach", "disconnect", "off", "removeHandler", "remove_handler", "remove_listener"}
    | {"remove_observer", "shutdown", "stop", "unbind", "unlisten", "unregister", "unsubscribe", "remove", "discard"}
    | {"remove_callback", "remove_done_callback", "remove_reader", "remove_signal_handler", "clear", "pop", "close"}
)
_ENDS: Final = {
    name: tuple(
        kind for kind, names in (("shrinks", _SHRINKS), ("closes", _CLOSES), ("stops", _STOPS)) if name in names
    )
    for name in _SHRINKS | _CLOSES | _STOPS
}
_WEAK: Final = frozenset({"weakref", "pydispatch", "blinker", "psygnal"})
_REGISTERS: Final = frozenset(
    {"add_listener", "add_observer", "add_subscriber", "connect", "on", "register_listener", "subscribe"}
)
_ENTERS: Final = frozenset({"aclosing", "closing", "enter_async_context", "enter_context", "push", "push_async_exit"})
_EMPTIES: Final = re.compile(r"(?i)(^|_)(clear|clean|evict|expire|gc|prune|purge|reset|shrink|sweep|trim)")
"""A function of such a name, given a container, removes from it."""

_MAKERS: Final = frozenset({"__init__", "__new__", "__post_init__", "__setstate__"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one file tells the others. All names are dotted; `symbol` means from the module: `Store.add`."""

    name: str = ""
    clears: tuple[str, ...] = ()
    """`shrinks:app.cache.SEEN`, `closes:Store._file`, `stops:*.bus`."""

    routes: tuple[Route, ...] = ()
    prefixes: tuple[tuple[str, str, str], ...] = ()
    """Router, prefix and what it is included in; its own prefix is that of a router included in itself."""

    calls: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """What each function calls or passes on, by symbol; `self.x` for a method of its own class."""

    classes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """The bases of each class, by symbol."""

    instances: dict[str, str] = dataclasses.field(default_factory=dict)
    """What is called to make each global."""

    imports: dict[str, str] = dataclasses.field(default_factory=dict)


def facts(module: Module) -> Facts:
    """The facts of one file."""
    calls = routes.calls_by_function(module)
    found, prefixes = routes.find(module)
    return Facts(
        name=module.name,
        clears=tuple(sorted(set(_clears(module)))),
        routes=found,
        prefixes=prefixes,
        calls=calls,
        classes={
            ".".join(filter(None, (module.symbol(node), node.name))): tuple(
                base if "." in base or not module.name else f"{module.name}.{base}"
                for base in module.class_bases(node)
                if base
            )
            for node in module.classes.values()
        },
        instances=dict(_instances(module)),
        imports=module.imports,
    )


def _instances(module: Module) -> Iterator[tuple[str, str]]:
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call):
            made = routes.name_of(module, statement.value.func)
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if made and isinstance(target, ast.Name):
                yield target.id, made


def _clears(module: Module) -> Iterator[str]:
    up = module.up
    for method, kinds in _ENDS.items():
        for node in module.attributes.get(method, ()):
            yield from _named(module, node.value, kinds)
    for nodes in module.attributes.values():
        for node in nodes:
            above = up[node]
            if isinstance(above, ast.withitem):
                yield from _named(module, node, ("closes",))
            elif isinstance(node.ctx, ast.Store) and _replaces(module, node):
                yield from _named(module, node, ("shrinks",))
    for name in module.imports:
        for use in module.names.get(name, ()):
            if isinstance(up[use], ast.withitem):
                yield from _named(module, use, ("closes",))
    for call in module.calls:
        yield from _handed(module, call)
    yield from _weakly_held(module)
    yield from _called(module)
    yield from state_emptied(module)
    for delete in module.deletes:
        for target in delete.targets:
            if isinstance(target, ast.Subscript):
                yield from _named(module, target.value, ("shrinks", "stops"))


def _called(module: Module) -> Iterator[str]:
    """`calls:clear_cache` for each function of another file that empties something and is named here, not by tests."""
    if not is_of_tests(module):
        for name in {*module.attributes, *(origin.rpartition(".")[2] for origin in module.imports.values())}:
            if _EMPTIES.search(name):
                yield f"calls:{name}"


def _weakly_held(module: Module) -> Iterator[str]:
    """`stops:weak.connect`, where a method or class of this file that registers listeners holds them weakly."""
    for name, origin in module.imports.items():
        if origin.partition(".")[0] in _WEAK:
            for use in module.names.get(name, ()):
                if "finalize" in module.dotted(module.up[use]) or "finalize" in origin:
                    continue  # it is told of an object's end, and holds no listener
                of = module.class_of(use)
                for function in [*module.functions_above(use), *(of.body if of is not None else ())]:
                    if getattr(function, "name", "") in _REGISTERS:
                        yield f"stops:weak.{getattr(function, 'name', '')}"


def _replaces(module: Module, node: ast.Attribute) -> bool:
    """Whether an assignment to an attribute drops what was there, and does not make it."""
    function = module.function(node)
    return function is not None and function.name not in _MAKERS and not isinstance(module.up[node], ast.AugAssign)


def _handed(module: Module, call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _ENTERS:
        kind = "closes"
    elif _EMPTIES.search(name):
        kind = "shrinks"
    else:
        return
    for argument in call.args:
        yield from _named(module, argument, (kind,))


def _named(module: Module, node: ast.AST, kinds: tuple[str, ...]) -> Iterator[str]:
    """The facts about whatever an expression names; none for a local."""
    for name in _names(module, node):
        for kind in kinds:
            yield f"{kind}:{name}"


def _names(module: Module, node: ast.AST) -> Iterator[str]:
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        if node.id in module.imports:
            yield module.dotted(node)
        return
    if not isinstance(node, ast.Attribute):
        return
    receiver = node.value
    if isinstance(receiver, ast.Name) and receiver.id in ("self", "cls"):
        owner = module.class_of(node)
        if owner is not None:
            yield ".".join(filter(None, (module.name, owner.name, node.attr)))
            for base in module.class_bases(owner):
                last = base.rpartition(".")[2]
                # Two classes of one name are told apart by their modules.
                yield f"{base if last == owner.name else last}.{node.attr}"
        return
    dotted = module.dotted(node)
    if dotted:
        yield dotted
    yield f"*.{node.attr}"
