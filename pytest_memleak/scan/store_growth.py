"""Where a store gains something, call after call, and nothing in its file takes it out again."""

from __future__ import annotations

import ast
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Final, Literal

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.containers import MAKERS, Store, kind_of
from pytest_memleak.scan.module import Function, Module, parameters
from pytest_memleak.scan.store_data import is_callback, is_of_tests
from pytest_memleak.scan.store_evictions import evictions, inner_evictions, only_on_success
from pytest_memleak.scan.store_keys import is_finite
from pytest_memleak.scan.store_likely import SURENESS, outlives_entries, seldom, weakened
from pytest_memleak.scan.store_registries import fills_once, is_registry, one_of_each_class
from pytest_memleak.scan.stores import stores
from pytest_memleak.scan.suspect import Suspect

Way = Literal["entry", "read", "item", "nested"]
"""`S[k] = v`, `S[k]` of a defaultdict, `S.append(x)`, `S[k].append(x)`."""

_ADDS: Final = frozenset({"append", "appendleft", "add", "insert", "extend", "extendleft", "update"})
_TABLES: Final = ("dict", "defaultdict", "Counter")
_CACHES: Final = ("cache", "memo", "seen", "session", "histor", "result", "lock", "message", "event", "visit", "log")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One place where a store gains something."""

    store: Store
    node: ast.expr | ast.stmt
    way: Way
    function: Function
    keys: tuple[ast.expr, ...]
    """What tells one entry from the next; empty where every call adds one."""

    inner: tuple[ast.expr, ...] = ()
    """The same for the container within; only for `nested`."""

    value: ast.expr | None = None

    def is_of_callbacks(self, module: Module) -> bool:
        """Whether it keeps callers' callbacks, one per key."""
        return self.way == "entry" and is_callback(module, self.value)


_KNOWN: Final[weakref.WeakKeyDictionary[Module, tuple[tuple[Growth, Suspect], ...]]] = weakref.WeakKeyDictionary()


def leaks(module: Module) -> tuple[tuple[Growth, Suspect], ...]:
    """The growths of a file that nothing in it bounds; worked out once for both rules."""
    if module not in _KNOWN:
        _KNOWN[module] = tuple(_leaks(module))
    return _KNOWN[module]


def _leaks(module: Module) -> Iterator[tuple[Growth, Suspect]]:
    for store in stores(module):
        grown = [growth for growth in growths(module, store) if not _is_harmless(module, growth)]
        if not grown:
            continue
        emptied = evictions(module, store)
        late = bool(emptied) and all(only_on_success(module, growth.node, emptied) for growth in grown)
        rare = seldom(module, emptied) if emptied and not late else None
        if emptied and not late and rare is None:
            continue
        grown = [growth for growth in grown if _unbounded(module, growth)]
        for growth in _one_per_function(grown):
            suspect = _suspect(module, growth, late=late)
            if not store.sure:
                counted = isinstance(growth.node, ast.AugAssign)  # a number per name, of which there are often few
                sure = outlives_entries(module, store, growth.function, growth.keys, growth.value)
                if sure is None or counted:
                    continue
                suspect = dataclasses.replace(suspect, confidence=min(sure, suspect.confidence, key=SURENESS.index))
            yield growth, suspect if rare is None else weakened(suspect, *rare)


def growths(module: Module, store: Store) -> Iterator[Growth]:
    """Every place where a store gains something, those that cannot go on for ever too."""
    for use in _sure(module, store):
        function = module.function(use)
        found = _growth(module, store, use)
        if function is not None and found is not None:
            yield dataclasses.replace(found, function=function)


def _sure(module: Module, store: Store) -> Iterator[ast.expr]:
    """The uses of a store, and of a local name for it."""
    for use in store.uses:
        yield use
        parent = module.up[use]
        if isinstance(parent, ast.Assign) and parent.value is use and isinstance(parent.targets[0], ast.Name):
            local = parent.targets[0]
            if module.function(local) is not None and module.value_of(local) is use:
                yield from (name for name in module.uses(module.scope(local), local.id) if name is not local)


def _growth(module: Module, store: Store, use: ast.expr) -> Growth | None:
    parent = module.up[use]
    table = store.kind in _TABLES
    function = module.function(use)
    if function is None:
        return None
    if isinstance(parent, ast.AugAssign) and parent.target is use and isinstance(parent.op, ast.Add | ast.BitOr):
        return Growth(store=store, node=parent, way="item", function=function, keys=(), value=parent.value)
    if isinstance(parent, ast.Subscript) and parent.value is use and table:
        return _subscripted(module, store, parent, function)
    if not isinstance(parent, ast.Attribute):
        return None
    call = module.up[parent]
    if not isinstance(call, ast.Call) or call.func is not parent or not (call.args or call.keywords):
        return None
    if parent.attr == "setdefault" and table and call.args:
        key = call.args[0]
        inner = _within(module, call)
        if inner is not None:
            node, keys, value = inner
            return Growth(store=store, node=node, way="nested", function=function, keys=(key,), inner=keys, value=value)
        given = call.args[1] if len(call.args) > 1 else None
        return Growth(store=store, node=call, way="entry", function=function, keys=(key,), value=given)
    if parent.attr not in _ADDS or not call.args:
        return None
    value = call.args[-1]
    if store.kind == "set":
        return Growth(store=store, node=call, way="item", function=function, keys=(value,), value=value)
    if table:
        # What is handed over as it is may always be the same.
        told = isinstance(value, ast.Dict | ast.DictComp) or any(word in store.name.lower() for word in _CACHES)
        if parent.attr != "update" or not told:
            return None
        keys = _dict_keys(value)
        return Growth(store=store, node=call, way="entry", function=function, keys=keys, value=value)
    if parent.attr in ("update", "add"):
        return None
    return Growth(store=store, node=call, way="item", function=function, keys=(), value=value)


def _dict_keys(value: ast.expr) -> tuple[ast.expr, ...]:
    if isinstance(value, ast.Dict):
        return tuple(key if key is not None else each for key, each in zip(value.keys, value.values, strict=True))
    if isinstance(value, ast.DictComp):
        return (value.key,)
    return (value,)


def _subscripted(module: Module, store: Store, node: ast.Subscript, function: Function) -> Growth | None:
    parent = module.up[node]
    key = (node.slice,)
    if isinstance(node.ctx, ast.Store):
        if isinstance(parent, ast.AugAssign) and store.kind == "dict":
            return None  # asks for an entry that is there
        value = parent.value if isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign) else None
        statement = module.statement(node)
        return Growth(store=store, node=statement, way="entry", function=function, keys=key, value=value)
    if not isinstance(node.ctx, ast.Load):
        return None
    inner = _within(module, node)
    if inner is not None:
        place, keys, value = inner
        return Growth(store=store, node=place, way="nested", function=function, keys=key, inner=keys, value=value)
    if store.kind == "defaultdict":
        return Growth(store=store, node=node, way="read", function=function, keys=key)
    return None


def _within(module: Module, node: ast.expr) -> tuple[ast.expr | ast.stmt, tuple[ast.expr, ...], ast.expr | None] | None:
    """The place, keys and value of what is put into the container at `S[k]`."""
    parent = module.up[node]
    if isinstance(parent, ast.Attribute):
        call = module.up[parent]
        if isinstance(call, ast.Call) and call.func is parent and call.args and parent.attr in _ADDS:
            value = call.args[-1]
            keys = (value,) if parent.attr == "add" else _dict_keys(value) if parent.attr == "update" else ()
            return call, keys, value
    if isinstance(parent, ast.Subscript) and parent.value is node and isinstance(parent.ctx, ast.Store):
        statement = module.statement(parent)
        return statement, (parent.slice,), getattr(statement, "value", None)
    return None


def _unbounded(module: Module, growth: Growth) -> bool:
    """Whether the keys of a growth can go on for ever."""
    if growth.keys and not all(is_finite(module, key) for key in growth.keys):
        return not (growth.way == "read" and _is_known_entry(module, growth))
    if growth.way == "nested":
        if growth.inner and all(is_finite(module, key) for key in growth.inner):
            return False
        return not inner_evictions(module, growth.store)
    if growth.way == "item" and not growth.keys:
        asked = _asked_for(module, growth)
        return asked is None or not is_finite(module, asked)
    return False


def _asked_for(module: Module, growth: Growth) -> ast.expr | None:
    """`x` where an append stands below `if x not in S`."""
    for above in module.above(growth.node):
        if above is growth.function:
            return None
        asked = above.test if isinstance(above, ast.If) else None
        if isinstance(asked, ast.Compare) and isinstance(asked.ops[0], ast.NotIn) and _is_of(asked, growth.store):
            return asked.left
    return None


def _is_of(test: ast.Compare, store: Store) -> bool:
    return test.comparators[0] in store.uses


def _is_known_entry(module: Module, growth: Growth) -> bool:
    """Whether a place only changes an entry that is there: below `if k in S`, or in a loop over `S`."""
    below: ast.AST = growth.node
    for above in module.above(growth.node):
        if above is growth.function:
            return False
        if isinstance(above, ast.If) and below in above.body:
            asked = [test for test in ast.walk(above.test) if isinstance(test, ast.Compare)]
            if any(isinstance(test.ops[0], ast.In) and _is_of(test, growth.store) for test in asked):
                return True
        loops = isinstance(above, ast.For) and any(node in growth.store.uses for node in ast.walk(above.iter))
        if loops:
            return True
        below = above
    return False


def _is_harmless(module: Module, growth: Growth) -> bool:
    if growth.way in ("entry", "read") and _is_known_entry(module, growth):
        return True
    store, function = growth.store, growth.function
    if is_registry(module, store, function, growth.value, growth.keys) or fills_once(module, store, function):
        return True
    return growth.way == "item" and one_of_each_class(module, store, function)


def _one_per_function(grown: list[Growth]) -> Iterator[Growth]:
    """The most telling growth of each function: what fills an entry before what makes it."""
    nested = any(growth.way == "nested" for growth in grown)
    order = ("nested", "item", "entry", "read")
    best: dict[Function, Growth] = {}
    for growth in grown:
        if nested and growth.way in ("entry", "read") and _is_empty(growth.value):
            continue
        known = best.get(growth.function)
        if known is None or order.index(growth.way) < order.index(known.way):
            best[growth.function] = growth
    yield from best.values()


def _is_empty(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return not value.args
    return value is None or (isinstance(value, ast.List | ast.Dict) and not any(ast.iter_child_nodes(value)))


def _suspect(module: Module, growth: Growth, *, late: bool) -> Suspect:
    store = growth.store
    inside = "an entry" if growth.way in ("entry", "read", "nested") else "an element"
    per_object = growth.function.name in MAKERS
    per = "object" if per_object else "call"
    if late:
        message = f"`{store.name}` gains {inside} per {per}, and only a call that does not raise removes it"
        confidence = Confidence.MEDIUM
    else:
        nested = growth.way == "nested" and all(is_finite(module, key) for key in growth.keys)
        subject = f"a container in `{store.name}`" if nested else f"`{store.name}`"
        message = f"{subject} gains {'an element' if nested else inside} per {per} and nothing removes one"
        confidence = _confidence(module, growth)
    if is_of_tests(module):
        confidence = Confidence.LOW  # the process ends with the tests
    return Suspect(
        node=growth.node,
        message=message,
        driver=Driver.INSTANCE if per_object else Driver.CALL,
        confidence=confidence,
        fix="take it out in a finally" if late else "",
        holder=store.holder,
        unless=store.unless,
    )


def _confidence(module: Module, growth: Growth) -> Confidence:
    if growth.store.place not in ("global", "class"):
        return Confidence.MEDIUM
    given = {parameter.arg for parameter in parameters(growth.function)}
    asked = growth.keys or ((growth.value,) if growth.value is not None else ())
    for key in asked:
        for node in ast.walk(key):
            if isinstance(node, ast.Name):
                value = module.value_of(node)
                if node.id in given or (value is not None and kind_of(module, value) is None):
                    return Confidence.HIGH
    return Confidence.MEDIUM
