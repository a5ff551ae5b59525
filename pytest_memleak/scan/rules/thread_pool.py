"""MLK006: a pool of threads or processes that nobody shuts down."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.lifetimes import End, Fate, fate
from pytest_memleak.scan.module import Module, parameters
from pytest_memleak.scan.suspect import Suspect
from pytest_memleak.scan.unclosed import Made, suspects

CODE: Final = "MLK006"
PATTERN: Final = "thread_pool"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a pool shut down, terminated or closed anywhere in the function, or used by `with`",
    "a pool returned, or given to something that may shut it down",
    "a pool in an attribute that anything in the program shuts down, or of a class with a base that closes such",
    "a pool in a module's global or of an object of a private class made at import, which lives as long as the process",
)

_EXECUTORS: Final = frozenset({"ThreadPoolExecutor", "ProcessPoolExecutor", "InterpreterPoolExecutor"})
_POOLS: Final = frozenset(
    {
        "multiprocessing.Pool",
        "multiprocessing.ThreadPool",
        "multiprocessing.pool.Pool",
        "multiprocessing.pool.ThreadPool",
        "multiprocess.Pool",
        "torch.multiprocessing.Pool",
    }
)


def find(module: Module) -> Iterator[Suspect]:
    """The pools that nobody shuts down."""
    return suspects(module, _made(module))


def _made(module: Module) -> Iterator[Made]:
    for call in module.calls:
        name = last_name(call.func)
        if name in _EXECUTORS:
            if name not in module.classes and not module.dotted(call.func).startswith("self."):
                made = Made(call=call, noun=_NOUNS[name], closing="shuts it down")
                yield _default(module, made) or made
        elif name in {"Pool", "ThreadPool"}:
            # A context has pools too: `multiprocessing.get_context("spawn").Pool()`.
            callee = module.dotted(call.func).replace(".get_context()", "")
            if callee in _POOLS:
                noun = "a thread pool" if name == "ThreadPool" else "a process pool"
                yield Made(call=call, noun=noun, closing="shuts it down")


def _default(module: Module, made: Made) -> Made | None:
    """A pool that an `__init__` makes where it was given none, and shares out to the objects that it makes: each of
    those leaves it to who gave it."""
    function, target = module.function(made.call), _parameter(module, made.call)
    if function is None or function.name != "__init__" or target is None:
        return None
    uses = [use for use in module.uses(function, target.id) if isinstance(use.ctx, ast.Load)]
    handed = [use for use in uses if fate(module, use, inline=False).end is not End.LOST]
    given = [_given(module, use) for use in handed]
    if not given or None in given:
        return None
    names = {name for pair in given if pair for name in (pair[1], f"_{pair[1]}")}
    owners = {pair[0] for pair in given if pair}
    if any(last_name(use.value) in names for use in module.attributes.get("shutdown", ())):
        return None
    return dataclasses.replace(
        made,
        fate=Fate(end=End.LOST, how="is shared out", guessed=True),
        unless=tuple(sorted(f"closes:{owner}.{name}" for owner in (*owners, "*") for name in names)),
    )


def _parameter(module: Module, call: ast.Call) -> ast.Name | None:
    """The parameter that a call replaces where it was left out."""
    above: ast.AST = module.up[call]
    while isinstance(above, ast.BoolOp | ast.IfExp):
        above = module.up[above]
    target = above.targets[0] if isinstance(above, ast.Assign) and len(above.targets) == 1 else None
    function = module.function(call)
    if not isinstance(target, ast.Name) or function is None:
        return None
    return target if any(one.arg == target.id for one in parameters(function)) else None


def _given(module: Module, use: ast.Name) -> tuple[str, str] | None:
    """The class whose object a use is given to, and under what name."""
    above = module.up[use]
    name = use.id
    if isinstance(above, ast.keyword):
        name, above = above.arg or name, module.up[above]
    if not isinstance(above, ast.Call) or above.func is use:
        return None
    owner = last_name(above.func)
    return (owner, name) if owner.lstrip("_")[:1].isupper() else None


_NOUNS: Final = {
    "ThreadPoolExecutor": "a thread pool",
    "ProcessPoolExecutor": "a process pool",
    "InterpreterPoolExecutor": "a pool of interpreters",
}
