"""One walk over a tree, without recursion: who stands above whom, where each name is used, which scope binds it.

Every file passes through here, node by node, so that it is a third of a scan: a kind of node is asked for by identity,
the most frequent first, and fields that hold no nodes are not looked at.
"""

from __future__ import annotations

import ast
import functools
from typing import Any, Final, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Scope: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_NO_NODES: Final = frozenset(
    {"arg", "attr", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs", "level", "module", "name", "names"}
    | {"op", "ops", "rest", "simple", "tag", "type_comment", "type_ignores"}
)
"""Fields with texts and numbers, and with operators, which are the same few objects in every tree."""

_FIELDS: Final[dict[type, tuple[str, ...]]] = {}
"""The fields of each kind that hold nodes, last first; filled with what is met."""

_SCOPES: Final = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda})
_BINDERS: Final = frozenset(
    {ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Delete, ast.ExceptHandler, ast.MatchAs, ast.MatchStar}
)


class Index:
    """What is asked for most, by name and in the order of the file."""

    def __init__(self, tree: ast.Module) -> None:
        self.up: dict[ast.AST, ast.AST] = {}
        self.calls: list[ast.Call] = []
        self.names: dict[str, list[ast.Name]] = {}
        self.attributes: dict[str, list[ast.Attribute]] = {}
        self.functions: list[Function] = []
        self.classes: dict[str, ast.ClassDef] = {}
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.deletes: list[ast.Delete] = []
        self.bound: dict[ast.AST, set[str]] = {}
        """The names that each scope binds itself: parameters, assignments, imports, definitions."""

        self._elsewhere: list[tuple[set[str], list[str]]] = []
        self._walk(tree)
        for bound, names in self._elsewhere:
            bound.difference_update(names)

    def _walk(self, tree: ast.Module) -> None:
        up, names, attributes, known, base = self.up, self.names, self.attributes, _FIELDS.get, ast.AST
        # Loaded once: looking them up would be a tenth of the walk.
        name_kind, constant, attribute, call, load = ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.Load
        bound = self.bound[tree] = set()
        waiting: list[Any] = [tree]
        pop, push = waiting.pop, waiting.append
        while waiting:
            node = pop()
            kind = node.__class__
            if kind is name_kind:
                uses = names.get(node.id)
                if uses is None:
                    names[node.id] = [node]
                else:
                    uses.append(node)
                if node.ctx.__class__ is not load:
                    bound.add(node.id)
                continue
            if kind is constant:
                continue
            if kind is attribute:
                attributes.setdefault(node.attr, []).append(node)
            elif kind is call:
                self.calls.append(node)
            elif kind is set:
                bound = node
                continue
            fields = known(kind)
            if fields is None:
                fields = self._special(node, kind, bound, waiting)
            # Backwards, so that what is popped next comes first in the file.
            for field in fields:
                value = getattr(node, field)
                if value.__class__ is list:
                    for child in reversed(value):
                        if child is not None:
                            up[child] = node
                            push(child)
                elif isinstance(value, base):
                    up[value] = node
                    push(value)

    def _special(self, node: Any, kind: type, bound: set[str], waiting: list[Any]) -> tuple[str, ...]:
        """Note what a node binds; the fields that are left to walk."""
        if kind in _SCOPES:
            return self._scope(node, kind, bound, waiting)
        if kind not in _BINDERS:
            fields = _FIELDS[kind] = _fields(kind)
            return fields
        if kind is ast.Import or kind is ast.ImportFrom:
            self.imports.append(node)
            bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
            return ()
        if kind is ast.Global or kind is ast.Nonlocal:
            self._elsewhere.append((bound, node.names))
            return ()
        if kind is ast.Delete:
            self.deletes.append(node)
        elif node.name:
            bound.add(node.name)
        return _fields(kind)

    def _scope(self, node: Any, kind: type, bound: set[str], waiting: list[Any]) -> tuple[str, ...]:
        """A set of names among the nodes that wait says whose code those after it are."""
        own = self.bound[node] = set()
        body = [node.body] if kind is ast.Lambda else node.body
        after = [] if kind is ast.Lambda else [*node.decorator_list]
        if kind is ast.ClassDef:
            self.classes[node.name] = node
        else:
            own.update(argument.arg for argument in parameters(node))
        if kind is ast.FunctionDef or kind is ast.AsyncFunctionDef:
            self.functions.append(node)
            after += [node.returns] if node.returns else []
        if kind is not ast.Lambda:
            bound.add(node.name)
            after += getattr(node, "type_params", ())
        for child in (*body, *after):
            self.up[child] = node
        waiting += (*reversed(after), bound, *reversed(body), own)
        return ("keywords", "bases") if kind is ast.ClassDef else ("args",)


def children(node: ast.AST) -> list[ast.AST]:
    """What a node consists of, last first, without operators and contexts."""
    found: list[ast.AST] = []
    kind: Any = node.__class__
    for field in _fields(kind):
        value = getattr(node, field)
        if value.__class__ is list:
            found += [child for child in reversed(value) if child is not None]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    if kind.__name__ == "TypeAlias":  # its name is a node
        return tuple(reversed(kind._fields))
    return tuple(field for field in reversed(kind._fields) if field not in _NO_NODES)


def parameters(function: Function | ast.Lambda) -> list[ast.arg]:
    """All parameters of a function in their order, `*args` and `**kwargs` too."""
    arguments = function.args
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *([arguments.vararg] if arguments.vararg else []),
        *arguments.kwonlyargs,
        *([arguments.kwarg] if arguments.kwarg else []),
    ]
