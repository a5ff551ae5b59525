"""What is likely only: that an object outlives the entries of its container, that what empties one hardly ever runs."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.containers import MAKERS, Store
from pytest_memleak.scan.module import Function, Module, parameters
from pytest_memleak.scan.store_data import is_data, is_data_name
from pytest_memleak.scan.store_keys import is_finite
from pytest_memleak.scan.store_owners import forgets, key_name
from pytest_memleak.scan.suspect import Suspect

SURENESS: Final = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)
EMPTIES: Final = re.compile(r"(?i)(^|_)(clear|clean|evict|expire|gc|prune|purge|reset|shrink|sweep|trim)")
"""Names of functions that empty something."""

_LOCKS: Final = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "CapacityLimiter")
_EXPIRES: Final = re.compile(r"(?i)expir|ttl|deadline|max_?age|stale|timeout|valid_until")
_FRESH: Final = re.compile(r"uuid\.uuid[1-8]$|secrets\.token_|os\.urandom$|ulid\.")
_LASTING: Final = re.compile(
    r"(Storage|Store|Cache|Backend|Broker|Limiter|Launcher|Manager|Middleware|Repository|Server|Service|Auth|Addon)$"
)
_PASSING: Final = re.compile(r"(Builder|Collector|Compiler|Context|Encoder|Formatter|Generator|Parser|Visitor|Writer)$")
_FOR_TESTS: Final = re.compile(r"(?i)\btest(s|ing)?\b")


def outlives_entries(
    module: Module, store: Store, function: Function, keys: Sequence[ast.expr], value: ast.expr | None
) -> Confidence | None:
    """How likely an object, of which the file does not tell how long it lives, outlives the entries of its container.

    Its class takes the same keys out of a container beside it; or it looks up by data what it has put there, which is
    of use only to calls that come later.
    """
    owner = store.owner
    if owner is None or not keys or function.name in MAKERS or all(is_finite(module, key) for key in keys):
        return None
    named = {key_name(key) for key in keys} - {""}
    attribute = store.holder.rpartition(".")[2]
    if named and named & forgets(module, owner, attribute):
        return Confidence.MEDIUM
    if is_data_name(owner.name):
        return None  # an object per request, session, message …
    if isinstance(value, ast.Call) and module.dotted(value.func).rpartition(".")[2] in _LOCKS:
        return Confidence.LOW
    told = any(is_data(module, key) for key in keys)
    if named and told and _is_looked_up(module, store):
        return Confidence.LOW
    return Confidence.LOW if _is_of_calls(module, store, function, keys, told=told) else None


def _is_of_calls(module: Module, store: Store, function: Function, keys: Sequence[ast.expr], *, told: bool) -> bool:
    """Whether a method that others call puts in what is another with each call: a name made up there, data, or what
    it asks for to do nothing twice, in a set or in an object that by its name lives as long as a service."""
    owner = module.scope(function)
    if function.name.startswith("_") or not isinstance(owner, ast.ClassDef):
        return False
    if any(_is_fresh(module, key) for key in keys):
        return True
    if _PASSING.search(owner.name):
        return False
    asked = store.kind == "set" or _LASTING.search(owner.name) is not None
    return told or (asked and _is_looked_up(module, store))


def _is_fresh(module: Module, key: ast.expr) -> bool:
    """Whether a key is made up for the call: `uuid.uuid4().hex`, `secrets.token_hex(16)`, and a local for it."""
    value = module.value_of(key) if isinstance(key, ast.Name) else key
    return value is not None and any(
        isinstance(node, ast.Call) and _FRESH.match(module.dotted(node.func)) for node in ast.walk(value)
    )


def _is_looked_up(module: Module, store: Store) -> bool:
    """Whether a container is asked for single entries: `k in s`, `s.get(k)`, `s[k]`."""
    for use in store.uses:
        above = module.up[use]
        if isinstance(above, ast.Compare) and use in above.comparators and isinstance(above.ops[0], ast.In | ast.NotIn):
            return True
        if isinstance(above, ast.Attribute) and above.attr == "get":
            return True
        if isinstance(above, ast.Subscript) and above.value is use and isinstance(above.ctx, ast.Load):
            return True
    return False


def seldom(module: Module, evicting: Sequence[ast.expr]) -> tuple[str, Confidence, tuple[str, ...]] | None:
    """Why what empties a container hardly ever runs, in words, and the facts of other files that would show that it
    does; None where it may run."""
    functions = {module.function(use) for use in evicting}
    if all(function is not None and _is_uncalled(module, function) for function in functions):
        named = sorted(function.name for function in functions if function is not None)
        told = all(_FOR_TESTS.search(ast.get_docstring(each) or "") for each in functions if each is not None)
        facts = tuple(f"calls:{name}" for name in named)
        sure = Confidence.MEDIUM if told else Confidence.LOW
        return f"only `{'` and `'.join(named)}` empties it, which nothing calls", sure, facts
    given = [_given_key(module, use) for use in evicting]
    if all(given) and any(_expires(module, use) for use in evicting):
        return "what has expired goes only when the same key is asked for again", Confidence.LOW, ()
    return None


def _is_uncalled(module: Module, function: Function) -> bool:
    """Whether a function of the module that is there to empty something is named nowhere else in its file."""
    if not isinstance(module.scope(function), ast.Module) or function.decorator_list:
        return False
    if not EMPTIES.search(function.name) or function.name in module.attributes or _is_public(module, function.name):
        return False
    return not module.names.get(function.name)


def _is_public(module: Module, name: str) -> bool:
    """Whether a module offers a name in its `__all__`, to who knows whom."""
    for use in module.names.get("__all__", ()):
        value = getattr(module.up[use], "value", None)
        if value is not None and any(isinstance(each, ast.Constant) and each.value == name for each in ast.walk(value)):
            return True
    return False


def _given_key(module: Module, use: ast.expr) -> bool:
    """Whether the one entry that a function is asked for by a parameter is all that it takes out."""
    above = module.up[use]
    key: ast.expr | None = None
    if isinstance(above, ast.Subscript) and isinstance(above.ctx, ast.Del):
        key = above.slice
    elif isinstance(above, ast.Attribute) and above.attr == "pop":
        call = module.up[above]
        key = call.args[0] if isinstance(call, ast.Call) and call.args else None
    while isinstance(key, ast.Attribute):
        key = key.value
    function = module.function(use)
    return (
        function is not None
        and isinstance(key, ast.Name)
        and key.id != "self"
        and key.id in {parameter.arg for parameter in parameters(function)}
    )


def _expires(module: Module, use: ast.expr) -> bool:
    """Whether an entry is taken out because its time is over."""
    function = module.function(use)
    for over in module.above(use):
        if over is function:
            return False
        if isinstance(over, ast.If) and _is_of_time(module, over.test):
            return True
    return False


def _is_of_time(module: Module, test: ast.expr) -> bool:
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and module.dotted(node.func) in ("time.time", "time.monotonic"):
            return True
        if isinstance(node, ast.Name | ast.Attribute) and _EXPIRES.search(key_name(node)):
            return True
    return False


def weakened(suspect: Suspect, why: str, sure: Confidence, facts: tuple[str, ...]) -> Suspect:
    """A suspect of a container that is emptied, though hardly ever, as `seldom` says."""
    said = suspect.message.removesuffix(" and nothing removes one")
    return dataclasses.replace(
        suspect,
        message=f"{said}, and {why}",
        confidence=min(sure, suspect.confidence, key=SURENESS.index),
        unless=(*suspect.unless, *facts),
    )
