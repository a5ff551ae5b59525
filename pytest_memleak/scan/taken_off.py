"""What takes a listener off again, by the verb that registered it: anywhere in the file, or on one way out only."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.module import Module, within
from pytest_memleak.scan.store_evictions import is_caught, is_safe
from pytest_memleak.scan.suspect import Suspect

_LISTENER: Final = ("remove_listener", "removeListener", "remove_event_listener", "unregister_listener", "off")
_OBSERVER: Final = ("remove_observer", "removeObserver", "unregister_observer", "unobserve", "detach")

# What registers a listener, and what takes it off again.
VERBS: Final[dict[str, tuple[str, ...]]] = {
    "subscribe": ("unsubscribe", "remove_subscriber", "unregister_subscriber", "dispose"),
    "add_subscriber": ("unsubscribe", "remove_subscriber"),
    "register_subscriber": ("unsubscribe", "unregister_subscriber"),
    "add_listener": _LISTENER,
    "addListener": _LISTENER,
    "add_event_listener": _LISTENER,
    "addEventListener": (*_LISTENER, "removeEventListener"),
    "register_listener": (*_LISTENER, "unregister_listeners", "deregister_listener"),
    "register_listeners": (*_LISTENER, "unregister_listeners", "remove_listeners"),
    "add_observer": _OBSERVER,
    "addObserver": _OBSERVER,
    "register_observer": _OBSERVER,
    "add_event_handler": ("remove_event_handler", "removeEventHandler", "off"),
    "on_event": ("off", "off_event", "remove_listener", "remove_event_handler"),
    "on": ("off", "remove_listener", "removeListener"),
    "addHandler": ("removeHandler",),
    "connect": ("disconnect", "disconnect_all"),
    "atexit.register": ("atexit.unregister",),
    "event.listen": ("event.remove",),
}


def is_taken_off(module: Module, verb: str) -> bool:
    """Whether anything in the file uses a counterpart of a verb."""
    if any(True for _ in _counterparts(module, verb)):
        return True
    if "finalize" not in module.attributes and "finalize" not in module.names:
        return False
    return any("unregister" in name or "unsubscribe" in name for name in module.names)


def _counterparts(module: Module, verb: str) -> Iterator[ast.AST]:
    for name in VERBS[verb]:
        owner, _, attribute = name.rpartition(".")
        for use in module.attributes.get(attribute, ()):
            if not owner or module.dotted(use).endswith(name):
                yield use
        if not owner:
            yield from module.names.get(name, ())


def leaves_out(module: Module, call: ast.Call, verb: str) -> tuple[str, Confidence] | None:
    """On which way out of the function that registers a listener it stays, where that function takes it off itself
    and does so outside of `finally`; None where it never does, or always."""
    function = module.function(call)
    if function is None:
        return None
    own = [use for use in _counterparts(module, verb) if function in module.functions_above(use)]
    if not own or any(module.function(use) is not function or is_safe(module, use, function) for use in own):
        return None  # taken off in a function within, which others call, or on every way
    end = module.statement(call).end_lineno or 0
    first = min(getattr(use, "lineno", 0) for use in own)
    block = module.up[module.statement(call)]
    waits = False
    for node in within(function):
        line = getattr(node, "lineno", 0)
        if not end < line < first:
            continue
        if isinstance(node, ast.Return) and block in module.above(node):
            return f"the `return` in line {line} leaves it there", Confidence.MEDIUM
        waits = waits or (isinstance(node, ast.Await | ast.Yield) and not is_caught(module, node, function))
    return ("what raises before that leaves it there", Confidence.LOW) if waits else None


def weakened(suspect: Suspect, late: tuple[str, Confidence]) -> Suspect:
    """A suspect of a listener that is taken off on one way out only, as `leaves_out` says."""
    said = suspect.message.partition(", and nothing here takes it off")[0]
    return dataclasses.replace(
        suspect,
        message=f"{said}, and taken off on one way out only: {late[0]}",
        confidence=late[1],
        fix="take it off in a finally",
        unless=(),
    )
