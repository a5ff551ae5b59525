"""One source file as the rules see it: its tree, who stands above whom, and where each name is used.

The tree is walked once and without recursion: what most rules ask for (calls, names, attributes) is indexed on
the way, everything else is worked out for the few places that a rule looks at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from typing import Final

from pytest_memleak.scan.indexed import Function, Index, Scope, children, parameters

__all__ = ["Function", "Module", "Scope", "parameters", "within"]

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Module)
_KINDS: Final = frozenset(_SCOPES)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module:
    """The semantic model of one file.

    `name` is the dotted name that others import it by (`app.cache`), as far as the folders tell.
    """

    def __init__(self, tree: ast.Module, name: str = "", *, is_package: bool = False) -> None:
        self.tree = tree
        self.name = name
        self.is_package = is_package
        index = Index(tree)
        self.up = index.up
        """Each node's parent."""

        self.calls = index.calls
        self.names = index.names
        """Every use of a name, in any scope, in the order of the file."""

        self.attributes = index.attributes
        """Every `x.attr`, by `attr`."""

        self.functions = index.functions
        self.classes = index.classes
        """By bare name; of two alike, the last."""

        self.deletes = index.deletes
        self.imports: dict[str, str] = {}
        """What an imported name stands for, dotted: `create_task` is `asyncio.create_task`. From any scope."""

        self._bound = index.bound
        self._own: dict[ast.AST, tuple[ast.AST, ...]] = {}
        for node in index.imports:
            self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                self.imports[bound] = alias.name if alias.asname else bound
            return
        origin = node.module or ""
        if node.level:
            parts = self.name.split(".") if self.name else []
            here = parts[: len(parts) - node.level + (1 if self.is_package else 0)]
            origin = ".".join([*here, *([origin] if origin else [])])
        for alias in node.names:
            self.imports[alias.asname or alias.name] = f"{origin}.{alias.name}" if origin else alias.name

    # --- where a node stands

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """All that a node stands in, innermost first."""
        up = self.up
        above = up.get(node)
        while above is not None:
            yield above
            above = up.get(above)

    def scope(self, node: ast.AST) -> Scope:
        """The module, class, function or lambda whose code a node is; a function's decorators and defaults
        belong to the scope around it."""
        up = self.up
        below, above = node, up.get(node)
        while above is not None:
            if above.__class__ in _KINDS:  # asked so often that isinstance would show
                if isinstance(above, ast.Module):
                    return above
                # Of a function or class, only the body has statements.
                if isinstance(above, ast.Lambda):
                    if below is above.body:
                        return above
                elif isinstance(above, _SCOPES) and isinstance(below, ast.stmt):
                    return above
            below, above = above, up.get(above)
        return self.tree

    def own_nodes(self, scope: Scope) -> tuple[ast.AST, ...]:
        """What `within` finds, kept: rules ask the same function for each of the places in it."""
        if scope not in self._own:
            self._own[scope] = tuple(within(scope))
        return self._own[scope]

    def function(self, node: ast.AST) -> Function | None:
        """The nearest function whose code a node is, seen through lambdas; None at module or class level."""
        scope = self.scope(node)
        while isinstance(scope, ast.Lambda):
            scope = self.scope(scope)
        return scope if isinstance(scope, _FUNCTIONS) else None

    def functions_above(self, node: ast.AST) -> Iterator[Function]:
        """The functions around a node, innermost first."""
        while (function := self.function(node)) is not None:
            yield function
            node = function

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The class whose method (or function within a method) a node is in; None outside."""
        scope = self.scope(node)
        while not isinstance(scope, ast.Module):
            if isinstance(scope, ast.ClassDef):
                return scope
            scope = self.scope(scope)
        return None

    def method_of(self, node: ast.AST) -> Function | None:
        """The method that a node is in: the outermost function below its class."""
        for function in self.functions_above(node):
            if isinstance(self.scope(function), ast.ClassDef):
                return function
        return None

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that a node is part of."""
        while not isinstance(node, ast.stmt):
            node = self.up[node]
        return node

    def symbol(self, node: ast.AST) -> str:
        """The dotted name of what a node is in, from the module: `Store.add`; empty at module level."""
        parts: list[str] = []
        scope = self.scope(node)
        while not isinstance(scope, ast.Module):
            if not isinstance(scope, ast.Lambda):
                parts.append(scope.name)
            scope = self.scope(scope)
        return ".".join(reversed(parts))

    # --- what a name means

    def locals_of(self, scope: Scope) -> Set[str]:
        """The names that a scope binds itself: parameters, assignments, imports, definitions."""
        return self._bound[scope]

    def owner(self, node: ast.AST, name: str) -> Scope | None:
        """The scope that `name`, used at `node`, belongs to; None for a builtin or what a star import brings."""
        scope: Scope = self.scope(node)
        first = True
        while True:
            # A class's own names are not seen from its methods.
            if (first or not isinstance(scope, ast.ClassDef)) and name in self.locals_of(scope):
                return scope
            if isinstance(scope, ast.Module):
                return None
            scope, first = self.scope(scope), False

    def is_global(self, node: ast.Name) -> bool:
        """Whether a name is the module's own."""
        return self.owner(node, node.id) is self.tree

    def uses(self, scope: Scope, name: str) -> list[ast.Name]:
        """Every use of a scope's own name, in the scopes within too, in the order of the file."""
        return [node for node in self.names.get(name, ()) if self.owner(node, name) is scope]

    def dotted(self, node: ast.AST) -> str:
        """`asyncio.create_task` for whatever the file calls it; `self.x.y` and `local.x` as written; empty for
        what is no chain of names. A call in the chain is `()`: `asyncio.get_running_loop().create_task`."""
        parts: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Call):
                parts.append("()")
                node = node.func
            else:
                break
        if not isinstance(node, ast.Name):
            return ""
        first = node.id
        if first in self.imports:
            owner = self.owner(node, first)
            # A parameter or a local of the same name is not the import.
            if owner is None or self._imports_it(owner, first):
                first = self.imports[first]
        return ".".join([first, *reversed(parts)]).replace(".()", "()")

    def _imports_it(self, scope: Scope, name: str) -> bool:
        return isinstance(scope, ast.Module | ast.ClassDef) or all(one.arg != name for one in parameters(scope))

    def is_builtin(self, node: ast.Name) -> bool:
        """Whether a name is nobody's here, as `open` is where nothing is called so."""
        return node.id not in self.imports and self.owner(node, node.id) is None

    def class_bases(self, node: ast.ClassDef) -> list[str]:
        """The dotted names of a class's bases, without their type arguments."""
        return [self.dotted(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]

    def value_of(self, name: ast.Name) -> ast.expr | None:
        """What a name is assigned, where that is one plain assignment in its own scope; else None."""
        owner = self.owner(name, name.id)
        if owner is None:
            return None
        found: list[ast.expr | None] = []
        for use in self.uses(owner, name.id):
            if not isinstance(use.ctx, ast.Store):
                continue
            parent = self.up[use]
            if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr):
                found.append(parent.value)
            else:
                found.append(None)
        return found[0] if len(found) == 1 else None


def within(node: ast.AST, *, nested: bool = False) -> Iterator[ast.AST]:
    """All nodes of a scope's body; with `nested`, those of the functions and classes inside too."""
    waiting = _body(node)[::-1]
    while waiting:
        below = waiting.pop()
        yield below
        if not nested and isinstance(below, _SCOPES):
            continue
        waiting.extend(children(below))


def _body(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Lambda):
        return [node.body]
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return list(node.body)
    return children(node)[::-1]
