"""Subscriptions and watchers that a function asks a server for, and ends on success only or never."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Function, Module
from pytest_memleak.scan.store_data import is_of_tests
from pytest_memleak.scan.suspect import Suspect

_OPENS: Final = frozenset({"subscribe", "watch", "watchall", "watch_all", "psubscribe", "pull_subscribe"})
_ENDS: Final = frozenset(
    {"aclose", "cancel", "close", "destroy", "disconnect", "drain", "stop", "unsubscribe", "unwatch", "delete"}
)


def subscriptions(module: Module) -> Iterator[Suspect]:
    """The subscriptions that only a local names."""
    if is_of_tests(module):
        return
    for verb in _OPENS:
        for use in module.attributes.get(verb, ()):
            opened = _opened(module, use)
            if opened is None:
                continue
            call, target, function = opened
            found = _left(module, call, target, function)
            if found is not None:
                why, confidence = found
                yield Suspect(
                    node=call,
                    message=f"a subscription from `{module.dotted(use) or verb}(…)` is kept in `{target.id}` and {why}",
                    driver=Driver.CALL,
                    confidence=confidence,
                    fix="end it in a finally",
                )


def _opened(module: Module, use: ast.Attribute) -> tuple[ast.Call, ast.Name, Function] | None:
    """The call, the local and the function of `sub = await x.subscribe(…)`."""
    call = module.up[use]
    awaited = module.up[call]
    if not isinstance(call, ast.Call) or call.func is not use or not isinstance(awaited, ast.Await):
        return None
    kept = module.up[awaited]
    target = kept.targets[0] if isinstance(kept, ast.Assign) else getattr(kept, "target", None)
    function = module.function(call)
    if not isinstance(target, ast.Name) or function is None or module.value_of(target) is not awaited:
        return None
    return (call, target, function) if module.owner(target, target.id) is function else None


def _left(module: Module, call: ast.Call, target: ast.Name, function: Function) -> tuple[str, Confidence] | None:
    """What is wrong with how a subscription ends; None where somebody else may end it, or all ways out do."""
    ended: list[int] = []
    read = False
    for use in module.uses(function, target.id):
        if not isinstance(use.ctx, ast.Load):
            continue
        above = module.up[use]
        if module.function(use) is not function:
            return None
        if isinstance(above, ast.AsyncFor) and above.iter is use:
            read = True
        elif not isinstance(above, ast.Attribute):
            return None
        elif above.attr in _ENDS:
            if _is_on_every_way(module, use, function):
                return None
            ended.append(use.lineno)
        elif isinstance(above.ctx, ast.Load):
            read = True
        else:
            return None
    if not read:
        return None
    if not ended:
        return "nothing ends it: every call leaves one", Confidence.MEDIUM
    end = call.end_lineno or call.lineno
    awaits = any(
        isinstance(node, ast.Await | ast.AsyncFor) and end < node.lineno < min(ended)
        for node in module.own_nodes(function)
    )
    return ("only a call that does not raise ends it", Confidence.LOW) if awaits else None


def _is_on_every_way(module: Module, use: ast.AST, function: Function) -> bool:
    """Whether a place stands in a `finally` or an `except`."""
    below: ast.AST = use
    for above in module.above(use):
        if above is function:
            return False
        if isinstance(above, ast.ExceptHandler) or (isinstance(above, ast.Try) and below in above.finalbody):
            return True
        below = above
    return False
