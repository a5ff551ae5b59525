"""What becomes of a value that must be closed: closed here, handed on, stored on `self`, or lost.

A value is followed from the call that makes it through the expression around that call, into the variable it is
assigned to, and into functions of the same file that it is given to. What cannot be followed counts as handed on: only
what nobody can close any more is lost.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
from collections.abc import Iterable
from typing import Final, TypeAlias

from pytest_memleak.scan.borrowers import ENTERS, borrows, closes, takes, wraps
from pytest_memleak.scan.callees import callee, last_name, parameter, provides
from pytest_memleak.scan.module import Module, Scope, parameters

Seen: TypeAlias = set[tuple[ast.AST, str]]
"""The variables that a value has been followed into, so that each is looked at once."""

_FOLLOWED: Final = 12
"""How many variables one value is followed into; real code hands it on once or twice."""

_FLUENT: Final = frozenset({"execution_options"})
"""Methods that return the very object."""

_BOUND: Final = frozenset(
    {"read", "readline", "readlines", "write", "execute", "submit", "map", "request", "send", "get", "post"}
)
"""Methods that, not called but handed on, keep their object in use."""

_LATER: Final = frozenset({"addCallback", "addCallbacks", "addBoth", "addErrback", "add_done_callback", "then"})
"""Methods of what only promises the value: who is called with it may close it."""

_PLAIN: Final = frozenset({"name", "mode", "encoding", "closed"})
"""Attributes that do not keep their object in use."""

_BUILDERS: Final = frozenset({"dict", "list", "deepcopy", "copy", "merge"})
"""Functions whose result holds what they were given."""

_LOOKED_AT: Final = (
    ast.Expr
    | ast.If
    | ast.While
    | ast.Assert
    | ast.Compare
    | ast.UnaryOp
    | ast.BinOp
    | ast.FormattedValue
    | ast.BoolOp
    | ast.IfExp
    | ast.Match
    | ast.YieldFrom
)
_CONTAINERS: Final = ast.Tuple | ast.List | ast.Set | ast.Dict | ast.Starred


class End(enum.Enum):
    """How a value ends; in the order in which one end outweighs another."""

    CLOSED = 0
    HANDED = 1
    STORED = 2
    LOST = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a value."""

    end: End
    name: str = ""
    """The variable it is lost in, or the attribute of `self` that it is stored in."""

    how: str = ""
    """What is done with what is lost on the spot, such as `is iterated over`."""

    sure: bool = True
    """Whether all that happens to it is known to leave it open."""

    guessed: bool = False
    """Whether it was given to what may close it, which only its form speaks against."""


_CLOSED: Final = Fate(end=End.CLOSED)
_HANDED: Final = Fate(end=End.HANDED)


def fate(module: Module, node: ast.AST, *, inline: bool = True, seen: Seen | None = None) -> Fate:
    """What becomes of the value of an expression: of one that makes it (`inline`), or of one that uses it, where
    LOST only means that this use leaves it open."""
    seen = set() if seen is None else seen
    node = _carrier(module, node)
    parent = module.up[node]
    keyword = ""
    if isinstance(parent, ast.keyword):
        keyword, parent = parent.arg or "**", module.up[parent]
    if isinstance(parent, ast.Attribute):
        return _attribute(module, parent, inline)
    if isinstance(parent, ast.Call):
        return _lost("is called") if parent.func is node else _argument(module, parent, node, keyword, inline, seen)
    if isinstance(parent, ast.withitem):
        return _CLOSED
    if isinstance(parent, ast.NamedExpr):
        kept = into(module, parent.target, seen)
        around = kept if kept.end is not End.LOST else fate(module, parent, inline=inline, seen=seen)
        return _weightier(kept, around)
    if isinstance(parent, ast.Assign | ast.AnnAssign):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        return weightiest(into(module, one, seen) for one in targets)
    if isinstance(parent, ast.Yield):
        return _lost("is yielded") if provides(module, parent) else _HANDED
    if isinstance(parent, _CONTAINERS):
        return _contained(module, node, parent, inline, seen)
    if isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension):
        return _lost("is iterated over")
    if isinstance(parent, ast.Subscript):
        return _lost("is looked into") if inline and parent.value is node else _HANDED
    return _lost("is dropped") if isinstance(parent, _LOOKED_AT) else _HANDED


def weightiest(fates: Iterable[Fate]) -> Fate:
    """Of several things that happen to one value, what decides; LOST where nothing happens."""
    found = Fate(end=End.LOST)
    for one in fates:
        found = _weightier(found, one)
        if found.end is End.CLOSED:
            break
    return found


def _weightier(one: Fate, other: Fate) -> Fate:
    if one.end is End.LOST and other.end is End.LOST:
        guessed = one.guessed or other.guessed
        return dataclasses.replace(one, name=one.name or other.name, sure=one.sure and other.sure, guessed=guessed)
    return other if other.end.value < one.end.value else one


def _lost(how: str, *, sure: bool = True, guessed: bool = False) -> Fate:
    return Fate(end=End.LOST, how=how, sure=sure, guessed=guessed)


def _carrier(module: Module, node: ast.AST) -> ast.AST:
    """The outermost expression with the very same value: awaited, cast, one arm of a condition."""
    while True:
        parent = module.up[node]
        if isinstance(parent, ast.BoolOp):
            if isinstance(parent.op, ast.And) and node is not parent.values[-1]:
                return node
        elif isinstance(parent, ast.IfExp):
            if node is parent.test:
                return node
        elif isinstance(parent, ast.Call):
            if parent.func is node or module.dotted(parent.func) not in {"typing.cast", "asyncio.shield"}:
                return node
        elif isinstance(parent, ast.Attribute) and parent.attr in _FLUENT:
            parent = module.up[parent]
            if not isinstance(parent, ast.Call) or parent.func is not module.up[node]:
                return node
        elif not isinstance(parent, ast.Await):
            return node
        node = parent


def _attribute(module: Module, node: ast.Attribute, inline: bool) -> Fate:
    """What `value.attr` does to the value."""
    name, above = node.attr, module.up[node]
    if closes(name):
        return _CLOSED
    if not isinstance(node.ctx, ast.Load):
        return _lost("is written to")
    if not (isinstance(above, ast.Call) and above.func is node):
        if name in _BOUND:
            iterated = isinstance(above, ast.Call) and module.dotted(above.func) == "iter"
            return _lost("is iterated over") if iterated else _HANDED
        derived = isinstance(above, ast.Assign | ast.AnnAssign | ast.Return)  # `client.orders` keeps its client
        kept = (inline or derived) and name not in _PLAIN
        return _HANDED if kept else _lost(f"is only asked for its `.{name}`")
    if name in {"__enter__", "__aenter__", "detach"} or name in _LATER:
        return _HANDED
    if inline and isinstance(module.up[above], ast.withitem):
        return _CLOSED
    if name == "cursor" and isinstance(module.up[above], ast.Return):
        return _HANDED  # it holds its connection, and may close it
    return _lost(f"is used on the spot by `.{name}()`")


def _argument(module: Module, call: ast.Call, node: ast.AST, keyword: str, inline: bool, seen: Seen) -> Fate:
    """What a call does to its argument."""
    dotted, name = module.dotted(call.func), last_name(call.func)
    if borrows(dotted or f".{name}", keyword):
        return _lost(f"is given to `{dotted or name}()`")
    if wraps(dotted):
        around = fate(module, call, inline=inline, seen=seen)
        # Who keeps the wrapper, or hands it on, has the file by it.
        return _lost(f"is given to `{dotted}()`") if around.end in (End.CLOSED, End.LOST) else _HANDED
    if name in ENTERS or closes(name) or isinstance(module.up[_carrier(module, call)], ast.withitem):
        return _CLOSED
    if name == "getattr":
        asked = call.args[1] if len(call.args) > 1 else None
        known = isinstance(asked, ast.Constant) and isinstance(asked.value, str) and not closes(asked.value)
        return _lost("is looked at") if known else _HANDED
    function = callee(module, call)
    if function is not None:
        arrives = parameter(function, call, node, keyword)
        found = local(module, function, arrives, seen) if arrives else _HANDED
        if found.end is End.LOST:
            return _lost(f"is given to `{name}()`", sure=found.sure, guessed=found.guessed)
        return _HANDED if found.end is End.STORED else found
    dropped = isinstance(module.up[_carrier(module, call)], ast.Expr)
    if not dropped or takes(name):
        return _wrapped(module, call, name, seen) if inline and name.lstrip("_")[:1].isupper() else _HANDED
    return _lost(f"is given to `{name}()`", sure=False, guessed=inline)


def _wrapped(module: Module, call: ast.Call, name: str, seen: Seen) -> Fate:
    """What becomes of a value that is made in the call of a class: nobody else has it, so that it goes the way of the
    object."""
    found = fate(module, call, seen=seen)
    if found.end is End.LOST and found.name:
        return _lost(f"is given to `{name}()`", sure=False, guessed=True)
    return _CLOSED if found.end is End.CLOSED else _HANDED


def local(module: Module, scope: Scope, name: str, seen: Seen) -> Fate:
    """What becomes of a value in a variable of a scope, by all that is done with the variable."""
    if len(seen) >= _FOLLOWED:
        return _HANDED
    if (scope, name) in seen:
        return Fate(end=End.LOST, name=name)  # what is done with it has been seen
    seen.add((scope, name))
    uses = [use for use in module.uses(scope, name) if isinstance(use.ctx, ast.Load)]
    found = weightiest(fate(module, use, inline=False, seen=seen) for use in uses)
    return dataclasses.replace(found, name=name, how="") if found.end is End.LOST else found


def into(module: Module, target: ast.expr, seen: Seen) -> Fate:
    """What becomes of a value that is assigned to a target."""
    if isinstance(target, ast.Name):
        scope = module.scope(target)
        if isinstance(scope, ast.Module | ast.ClassDef) or module.owner(target, target.id) is not scope:
            return _HANDED  # lives as long as the process, or is another function's
        return local(module, scope, target.id, seen)
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        method = module.method_of(target)
        first = parameters(method)[:1] if method is not None else []
        if first and first[0].arg == target.value.id == "self":
            return Fate(end=End.STORED, name=target.attr)
    return _HANDED


def _contained(module: Module, node: ast.AST, parent: ast.AST, inline: bool, seen: Seen) -> Fate:
    """What becomes of a value in a display: `a, b = open(x), open(y)`, or `post(files={"f": open(p)})`."""
    above = module.up[parent]
    if isinstance(parent, ast.Tuple) and isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Tuple):
        targets = above.targets[0].elts
        if len(targets) == len(parent.elts) and not any(
            isinstance(one, ast.Starred) for one in [*targets, *parent.elts]
        ):
            return into(module, targets[next(at for at, one in enumerate(parent.elts) if one is node)], seen)
    in_dict = False
    while isinstance(parent, ast.Dict | ast.List | ast.Tuple):
        in_dict, parent = in_dict or isinstance(parent, ast.Dict), module.up[parent]
    if inline and isinstance(parent, ast.Assign | ast.AnnAssign) and _only_sent(module, parent):
        return _lost("is sent in `files=`", sure=False)
    if isinstance(parent, ast.keyword):
        in_dict, parent = in_dict or parent.arg == "files", module.up[parent]
    if inline and in_dict and isinstance(parent, ast.Call):
        name = last_name(parent.func)
        if name and name not in _BUILDERS and not takes(name) and callee(module, parent) is None:
            return _lost(f"is given to `{name}()`", sure=False)
    return _HANDED


def _only_sent(module: Module, assigned: ast.Assign | ast.AnnAssign) -> bool:
    """Whether a display in a variable is but sent by a request, `post(files=files)`, which closes nothing of it."""
    target = assigned.targets[0] if isinstance(assigned, ast.Assign) else assigned.target
    if not isinstance(target, ast.Name) or isinstance(module.scope(target), ast.Module | ast.ClassDef):
        return False
    uses = [use for use in module.uses(module.scope(target), target.id) if isinstance(use.ctx, ast.Load)]
    above = [module.up[use] for use in uses]
    return bool(above) and all(
        isinstance(one, ast.keyword)
        and one.arg == "files"
        and isinstance(module.up[one], ast.Call)
        and callee(module, module.up[one]) is None  # type: ignore[arg-type]
        for one in above
    )
