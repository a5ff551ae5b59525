"""How long the objects of a class live, whose attributes are stores: as long as the process, or likely so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.module import Module, parameters, within
from pytest_memleak.scan.occasions import is_called, is_passing

_CACHING: Final = ("functools.cache", "functools.lru_cache")
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_KEY: Final = frozenset({"pop", "remove", "discard"})


def family(module: Module, owner: ast.ClassDef) -> set[str]:
    """A class and those of the file that inherit from it."""
    names = {owner.name}
    grown = True
    while grown:
        grown = False
        for name, other in module.classes.items():
            if name not in names and any(isinstance(base, ast.Name) and base.id in names for base in other.bases):
                names.add(name)
                grown = True
    return names


def lives_with_module(module: Module, owner: ast.ClassDef) -> bool:
    """Whether an object of a class, or of one that inherits from it here, is made at module level or kept in a
    global."""
    for call in _made(module, owner):
        if module.function(call) is None and not _is_short(module, call):
            return True
        kept = module.up[call]
        if isinstance(kept, ast.Assign) and any(
            isinstance(target, ast.Name) and module.is_global(target) for target in kept.targets
        ):
            return True
    return False


def lives_for_good(module: Module, owner: ast.ClassDef) -> bool:
    """Whether an object of a class lives as long as the process: made at module level, kept by its own class, by a
    cached function without parameters, or by an object of the module (`app.state.store = Store()`)."""
    if lives_with_module(module, owner) or keeps_itself(module, owner):
        return True
    return any(_is_kept(module, call) for call in _made(module, owner))


def keeps_itself(module: Module, owner: ast.ClassDef) -> bool:
    """Whether a class keeps the one object of its own: `cls._instance = cls()`."""
    for node in within(owner, nested=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if not any(
            isinstance(target, ast.Attribute) and _is_class(target.value, owner) for target in node.targets
        ) or not module.function(node):
            continue
        made = node.value.func
        while isinstance(made, ast.Attribute | ast.Call):
            made = made.value if isinstance(made, ast.Attribute) else made.func
        if _is_class(made, owner) or (isinstance(made, ast.Name) and made.id == "super"):
            return True
    return False


def comes_from_class(module: Module, base: ast.expr, names: set[str]) -> bool:
    """Whether a local is the object that a class gives: `store = cls.instance()`."""
    value = module.value_of(base) if isinstance(base, ast.Name) else None
    if not isinstance(value, ast.Call):
        return False
    root: ast.expr = value.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and (root.id in names or (root.id == "cls" and module.class_of(base) is not None))


def lives_on(module: Module, owner: ast.ClassDef) -> bool:
    """Whether objects of a class may live long: the file makes none for a call only, and it is no exception."""
    if any(
        base.endswith(("Exception", "Error", "Enum", "NodeVisitor", "Visitor")) for base in module.class_bases(owner)
    ):
        return False
    if any(getattr(item, "name", "") in ("__next__", "__anext__") for item in owner.body):
        return False  # an iterator is used up
    return not is_passing(module, owner)


def forgets(module: Module, owner: ast.ClassDef, attribute: str) -> set[str]:
    """The names of the keys that the class takes out of its other containers one by one; an object that does so
    outlives what the keys stand for."""
    taken: list[tuple[ast.expr, ast.expr]] = []
    for use in (use for name in _BY_KEY for use in module.attributes.get(name, ())):
        call = module.up[use]
        if isinstance(call, ast.Call) and call.func is use and call.args:
            taken.append((call.args[0], use.value))
    for delete in module.deletes:
        target = delete.targets[0]
        if isinstance(target, ast.Subscript):
            taken.append((target.slice, target.value))
    return {
        key_name(key)
        for key, held in taken
        if isinstance(held, ast.Attribute)
        and isinstance(held.value, ast.Name)
        and held.attr != attribute
        and key_name(key)
        and _is_inside(module, held, owner)
    }


def _is_inside(module: Module, node: ast.AST, owner: ast.ClassDef) -> bool:
    scope = module.scope(node)
    while scope is not owner and not isinstance(scope, ast.Module):
        scope = module.scope(scope)
    return scope is owner


def key_name(key: ast.expr | None) -> str:
    """What a key is called, for itself: `token` for `token` and `self.token`."""
    return key.id if isinstance(key, ast.Name) else key.attr if isinstance(key, ast.Attribute) else ""


def _made(module: Module, owner: ast.ClassDef) -> Iterator[ast.Call]:
    for name in family(module, owner):
        for use in module.names.get(name, ()):
            call = module.up[use]
            if isinstance(call, ast.Call) and is_called(module, use):
                yield call


def _is_kept(module: Module, call: ast.Call) -> bool:
    above = module.up[call]
    function = module.function(call)
    if function is not None and not parameters(function) and isinstance(above, ast.Return):
        return any(module.dotted(each).removesuffix("()") in _CACHING for each in function.decorator_list)
    if not isinstance(above, ast.Assign | ast.AnnAssign):
        return False
    for target in above.targets if isinstance(above, ast.Assign) else [above.target]:
        root = target
        while isinstance(root, ast.Attribute):
            if root.attr == "state" and root is not target:
                return True  # an application's
            root = root.value
        if (
            root is not target
            and isinstance(root, ast.Name)
            and (module.is_global(root) and root.id not in module.classes)
        ):
            return True
    return False


def _is_class(node: ast.expr, owner: ast.ClassDef) -> bool:
    return isinstance(node, ast.Name) and node.id in ("cls", owner.name)


def _is_short(module: Module, call: ast.Call) -> bool:
    """Whether nobody keeps an object made at module level: raised, dropped, or part of a script."""
    if isinstance(module.up[call], ast.Expr | ast.Raise):
        return True
    return any(isinstance(above, ast.If) and "__name__" in _compared(above.test) for above in module.above(call))


def _compared(test: ast.expr) -> str:
    return test.left.id if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) else ""
