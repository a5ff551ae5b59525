"""MLK005: a listener that is registered per call or per object, and never taken off again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan import occasions, taken_off
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_growth import leaks
from pytest_memleak.scan.subscriptions import subscriptions
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK005"
PATTERN: Final = "event_listener"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a listener registered at module level, once per process",
    "a registration whose result is returned or kept beyond the call: it may be the way to unsubscribe",
    (
        "a verb whose counterpart (unsubscribe, remove_listener, removeHandler, …) is used in the same file,"
        " on every way out where it is the same function"
    ),
    "a listener on self, on what self made itself, or on an object made in the same call: they end together",
    "a registration behind a guard such as `if not logger.handlers`, or in a class made once",
    "functions that run once by their name: setup…, configure…, install…, create_app, main, startup, lifespan",
    "blinker's and Django's signals without weak=False: they hold their receivers weakly",
    "a callback that is the caller's own argument and is registered with a bus: who gave it takes it off",
)

# Verbs that mean other things too ask for a receiver of such a name.
_BUS: Final = re.compile(
    r"(bus|emitter|events?|dispatcher|hub|broker|signals?|subject|publisher|observable)$", re.IGNORECASE
)
_SOURCE: Final = re.compile(
    r"(bus|emitter|events?|dispatcher|hub|broker|signals?|subject|publisher|observable|logger|log|notifier|registry"
    r"|source|topic|feed|watcher|store|pubsub|manager)$",
    re.IGNORECASE,
)
_CALLBACK: Final = re.compile(
    r"(callback|cb|fn|func|function|handler?|handle|listener|observer|hook|subscriber)s?$", re.IGNORECASE
)
# What is no callback by its noun is a method by its verb: `bus.subscribe(queue.put_nowait)`.
_METHOD: Final = re.compile(r"_*(on|handle|send|put|push|notify|emit|receive|dispatch|broadcast|forward)(_|$)")
_WEAK_SIGNALS: Final = ("blinker", "django.", "celery.", "flask.", "quart.")


def find(module: Module) -> Iterator[Suspect]:
    """Every registration that nothing in its file takes off, one per function and what it registers with, and the
    callbacks that a table keeps under a key of the call's own."""
    for growth, suspect in leaks(module):
        if growth.is_of_callbacks(module):
            yield suspect
    yield from subscriptions(module)
    seen: set[tuple[ast.AST | None, str]] = set()
    for call in module.calls:
        verb = _verb(module, call)
        if not verb or not _is_dropped(module, call, verb):
            continue
        function = module.function(call)
        late = taken_off.leaves_out(module, call, verb)
        if function is None or (late is None and taken_off.is_taken_off(module, verb)):
            continue
        source, given = _parts(call, verb)
        listener = _listener(module, call, verb, given)
        if listener is None or (source is not None and not _outlives(module, call, verb, source)):
            continue
        # Who takes it off expects to be called again, whatever its name.
        if (late is None and occasions.runs_once(module, call)) or occasions.is_guarded(module, call):
            continue
        holder = "atexit" if source is None else module.dotted(source)
        if (function, holder) not in seen:
            seen.add((function, holder))
            suspect = _suspect(module, call, holder, source, listener)
            yield suspect if late is None else taken_off.weakened(suspect, late)


def _is_dropped(module: Module, call: ast.Call, verb: str) -> bool:
    """Whether nobody keeps the result; an awaited `connect` is a network's."""
    above = module.up.get(call)
    if isinstance(above, ast.Await) and verb != "connect":
        above = module.up.get(above)
    return isinstance(above, ast.Expr)


def _verb(module: Module, call: ast.Call) -> str:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in ("register", "listen"):
        dotted = module.dotted(function)
        if dotted == "atexit.register":
            return "atexit.register"
        return "event.listen" if dotted in ("sqlalchemy.event.listen", "event.listen") else ""
    if name not in taken_off.VERBS or not isinstance(function, ast.Attribute):
        return ""
    last = module.dotted(function.value).removesuffix("()").rpartition(".")[2]
    if name in ("on", "on_event") and not _BUS.search(last):
        return ""
    return name


def _parts(call: ast.Call, verb: str) -> tuple[ast.expr | None, list[ast.expr]]:
    """What is registered with (None for the process), and what may be the listener."""
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg is not None)]
    if verb == "atexit.register":
        return None, given[:1]
    if verb == "event.listen":
        return (call.args[0] if call.args else call.func), given[2:]
    assert isinstance(call.func, ast.Attribute)
    return call.func.value, given


def _listener(module: Module, call: ast.Call, verb: str, given: list[ast.expr]) -> tuple[str, Confidence] | None:
    """What is registered, in words; None where it is no listener, or not this code's to take off."""
    if verb == "atexit.register" and _pinned(module, call):
        return _pinned(module, call)
    waiting = list(reversed(given))
    while waiting:
        argument = waiting.pop()
        if isinstance(argument, ast.List | ast.Tuple):
            waiting.extend(reversed(argument.elts))
        elif isinstance(argument, ast.Dict):
            waiting.extend(reversed(argument.values))
        else:
            found = _listener_of(module, call, verb, argument)
            if found is not None:
                return _weighed(module, call, verb, found)
    return None


def _pinned(module: Module, call: ast.Call) -> tuple[str, Confidence] | None:
    """What `atexit.register(f, data)` keeps besides its function: an argument that each call has one of its own."""
    for argument in [*call.args[1:], *(keyword.value for keyword in call.keywords)]:
        for node in ast.walk(argument):
            if not isinstance(node, ast.Name):
                continue
            owner = module.owner(node, node.id)
            if owner is None or isinstance(owner, ast.Module | ast.ClassDef) or node.id == "cls":
                continue
            # What is given differs from call to call; what is made here may be what a process starts once.
            told = occasions.is_parameter(owner, node.id) and not occasions.is_self(module, node)
            what = "self" if occasions.is_self(module, node) else f"`{node.id}`"
            return f"a function with {what}", Confidence.MEDIUM if told else Confidence.LOW
    return None


def _weighed(module: Module, call: ast.Call, verb: str, kind: str) -> tuple[str, Confidence] | None:
    if kind == "a function" and verb in ("atexit.register", "addHandler", "connect", "event.listen"):
        return None  # once more changes nothing, or little
    if verb == "atexit.register" and kind.startswith("the bound method") and "self." not in kind:
        return kind, Confidence.LOW  # what a process starts once is stopped so too
    if verb != "connect":
        return kind, Confidence.MEDIUM
    if any(
        keyword.arg == "weak" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in call.keywords
    ):
        return kind, Confidence.HIGH
    signal = module.dotted(call.func)
    known = signal.startswith(_WEAK_SIGNALS) or any(
        origin.startswith(_WEAK_SIGNALS) and origin.endswith(("ignal", "dispatch"))
        for origin in module.imports.values()
    )
    return None if known or "ignal" not in signal else (kind, Confidence.LOW)


def _listener_of(module: Module, call: ast.Call, verb: str, argument: ast.expr) -> str | None:
    if isinstance(argument, ast.Lambda):
        return "a lambda"
    if isinstance(argument, ast.Name):
        return _listener_by_name(module, verb, argument)
    if isinstance(argument, ast.Attribute):
        return _bound(module, call, verb, argument)
    if not isinstance(argument, ast.Call):
        return None
    made = module.dotted(argument.func)
    if made.startswith("weakref.") or occasions.passes_on(module, argument):
        return None
    if made.rpartition(".")[2] == "partial":
        return "a partial"
    is_new = made.rpartition(".")[2].lstrip("_")[:1].isupper()
    return "a new listener" if is_new and verb not in ("atexit.register", "subscribe", "connect") else None


def _listener_by_name(module: Module, verb: str, name: ast.Name) -> str | None:
    owner = module.owner(name, name.id)
    if owner is None:
        return None
    if not isinstance(owner, ast.Module):
        if occasions.is_self(module, name):
            return "self" if verb not in ("atexit.register", "connect", "subscribe") else None
        if isinstance(owner, ast.ClassDef) or occasions.is_parameter(owner, name.id):
            return None
    for function in module.functions:
        if function.name == name.id and module.scope(function) is owner:
            return "a function" if isinstance(owner, ast.Module) else "a closure"
    if isinstance(owner, ast.Module):
        return "a function" if name.id in module.imports and _CALLBACK.search(name.id) else None
    value = module.value_of(name)
    if isinstance(value, ast.Lambda):
        return "a lambda"
    if isinstance(value, ast.Call) and verb != "atexit.register":
        return _listener_of(module, value, verb, value)
    return None


def _bound(module: Module, call: ast.Call, verb: str, argument: ast.Attribute) -> str | None:
    if occasions.is_self(module, argument.value):
        of = module.class_of(call)
        if of is not None and any(getattr(item, "name", None) == argument.attr for item in of.body):
            return f"the bound method self.{argument.attr}"
        return f"self.{argument.attr}" if _CALLBACK.search(argument.attr) and verb != "atexit.register" else None
    root: ast.expr = argument
    while isinstance(root, ast.Attribute):
        root = root.value
    if not isinstance(root, ast.Name) or root.id in module.imports or root.id in module.classes:
        return None
    owner = module.owner(root, root.id)
    if owner is None or isinstance(owner, ast.Module | ast.ClassDef):
        return None
    if verb == "atexit.register":
        taken = not occasions.is_parameter(owner, root.id) or _CALLBACK.search(argument.attr) is not None
    else:
        taken = _CALLBACK.search(argument.attr) is not None or _METHOD.match(argument.attr) is not None
    if taken:
        return f"the bound method {module.dotted(argument)}"
    return None


def _outlives(module: Module, call: ast.Call, verb: str, source: ast.expr) -> bool:
    """Whether what is registered with lives longer than what registers, as far as the file tells."""
    if isinstance(source, ast.Call):
        return occasions.is_looked_up(module, source)
    if isinstance(source, ast.Attribute):
        if occasions.is_self(module, source.value):
            return occasions.is_given_to_self(module, call, source.attr)
        return not isinstance(source.value, ast.Call) and _outlives(module, call, verb, source.value)
    if not isinstance(source, ast.Name) or occasions.is_self(module, source):
        return False
    owner = module.owner(source, source.id)
    if owner is None or isinstance(owner, ast.Module | ast.ClassDef):
        return not (verb == "event.listen" and source.id[:1].isupper())  # a class's mapping is configured once
    if source.id in module.imports and not occasions.is_parameter(owner, source.id):
        return not (verb == "event.listen" and source.id[:1].isupper())
    if occasions.is_parameter(owner, source.id):
        if isinstance(owner, ast.FunctionDef) and owner.name == "__init__":
            return True
        if verb == "addHandler":
            return False  # who gives the logger decides how often
        return bool(_SOURCE.search(source.id)) or occasions.is_injected(module, owner, source.id)
    value = module.value_of(source)
    if isinstance(value, ast.Call):
        return occasions.is_looked_up(module, value)
    return isinstance(value, ast.Attribute) and _outlives(module, call, verb, value)


def _suspect(
    module: Module, call: ast.Call, holder: str, source: ast.expr | None, listener: tuple[str, Confidence]
) -> Suspect:
    kind, confidence = listener
    function = module.function(call)
    assert function is not None
    per_object = function.name == "__init__" or "self" in kind
    every = "object" if per_object else "call"
    where = holder or "it"
    facts = occasions.stops(module, call, source)  # `weak=False` is said where nothing is held weakly
    return Suspect(
        node=call,
        message=f"{kind} is registered with {where} once per {every}, and nothing here takes it off: "
        f"{where} keeps it and all that it refers to",
        driver=Driver.INSTANCE if per_object else Driver.CALL,
        confidence=confidence,
        holder=holder,
        unless=tuple(fact for fact in facts if confidence is not Confidence.HIGH or "weak." not in fact),
    )
