"""Keys of which there are only so many: constants, members of an enum, classes, status codes, locales."""

from __future__ import annotations

import ast
import re
from typing import Final

from pytest_memleak.scan.module import Module, parameters

_FINITE_WORDS: Final = frozenset(
    [
        "cls",
        "klass",
        "class",
        "clazz",
        "type",
        "types",
        "typ",
        "kls",
        "mro",
        "ancestor",
        "status",
        "version",
        "level",
        "lang",
        "language",
        "locale",
        "encoding",
        "charset",
        "codec",
        "method",
        "verb",
        "scheme",
        "offset",
        "timezone",
        "tz",
        "tzinfo",
        "protocol",
        "dialect",
        "mode",
        "kind",
        "enum",
        "flag",
        "flags",
        "backend",
        "driver",
        "platform",
        "signum",
        "signal",
        "signame",
        "sig",
        "loop",
        "dtype",
        "operator",
        "opcode",
        "pid",
        "weekday",
        "month",
        "hour",
        "minute",
        "severity",
        "fmt",
        "format",
        "arch",
        "extension",
        "suffix",
        "category",
        "feature",
        "option",
        "setting",
        "env",
        "environment",
        "module",
        "mod",
        "attr",
        "attribute",
        "field",
        "column",
        "param",
        "parameter",
        "plugin",
        "model_class",
        "package",
        "codepoint",
        "stage",
        "phase",
        "direction",
        "unit",
        "metric",
        "axis",
        "precision",
        "provider",
        "region",
        "bool",
        "factory",
        "converter",
        "func_name",
        "depth",
        "arity",
        "size_class",
        "transport",
        "blueprint",
        "namespace",
        "app",
        "application",
    ]
)
_NAMED: Final = re.compile(
    r"(^|_)(route_name|class_name|qualname|__class__|__name__|__qualname__|__module__|__code__)$"
)
_FINITE_TYPES: Final = re.compile(r"(Enum|Type|Kind|Mode|Level|Status|State|Literal|ModuleType)$")
_KEEPING: Final = frozenset(
    ["lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "casefold", "encode", "decode", "replace"]
)
_MOST_STEPS: Final = 200


def is_finite(module: Module, key: ast.expr) -> bool:
    """Whether an expression can take only so many values, as far as its names and annotations tell."""
    waiting: list[ast.expr] = [key]
    seen: set[ast.expr] = set()
    steps = 0
    while waiting:
        node = waiting.pop()
        steps += 1
        if node in seen:
            continue
        seen.add(node)
        if steps > _MOST_STEPS:
            return False
        parts = _parts(module, node)
        if parts is None:
            return False
        waiting.extend(parts)
    return True


def _parts(module: Module, node: ast.expr) -> list[ast.expr] | None:
    """What must be finite for `node` to be; None where it is not."""
    if isinstance(node, ast.Constant | ast.Compare):
        return []
    if isinstance(node, ast.Tuple | ast.List):
        return list(node.elts)
    if isinstance(node, ast.JoinedStr):
        return [value.value for value in node.values if isinstance(value, ast.FormattedValue)]
    if isinstance(node, ast.Name):
        return _name(module, node)
    if isinstance(node, ast.Attribute):
        base = _last(node.value)
        if node.attr in ("name", "slug", "value") and is_finite_name(base):
            return []
        return [] if is_finite_name(node.attr) or node.attr.isupper() else None
    if isinstance(node, ast.Call):
        return _call(module, node)
    if isinstance(node, ast.BinOp):
        return _operation(node)
    if isinstance(node, ast.UnaryOp):
        return [] if isinstance(node.op, ast.Not) else [node.operand]
    if isinstance(node, ast.BoolOp):
        return list(node.values)
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Subscript):
        return [node.value]
    if isinstance(node, ast.NamedExpr | ast.Starred | ast.FormattedValue):
        return [node.value]
    return None


def is_finite_name(name: str) -> bool:
    """Whether a name says that its values are few: `exception_class`, `status_code`, `lang`."""
    words = [word for word in name.lower().strip("_").split("_") if word]
    if _NAMED.search(name):
        return True
    if not words or words[0] in ("content", "mime", "media"):
        return False
    last = words[-1]
    return last in _FINITE_WORDS or (len(words) > 1 and last in ("name", "code") and words[-2] in _FINITE_WORDS)


def is_finite_annotation(module: Module, annotation: ast.expr | None) -> bool:
    """Whether an annotation leaves only so many values: `bool`, `Literal[…]`, an enum, `type[…]`."""
    waiting = [annotation]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return False
        if isinstance(node, ast.BinOp):
            waiting += [node.left, node.right]
        elif isinstance(node, ast.Constant) and node.value is None:
            continue
        elif isinstance(node, ast.Subscript):
            outer = _last(node.value)
            if outer in ("Optional", "Union", "Annotated"):
                inner = node.slice
                waiting += inner.elts if isinstance(inner, ast.Tuple) else [inner]
            elif outer not in ("type", "Type", "Literal"):
                return False
        elif not _is_finite_type(module, _last(node)):
            return False
    return True


def _last(node: ast.AST | None) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_finite_type(module: Module, name: str) -> bool:
    if name in ("bool", "type", "Type", "None") or _FINITE_TYPES.search(name):
        return True
    known = module.classes.get(name)
    return known is not None and is_enum(module, known)


def is_enum(module: Module, node: ast.ClassDef) -> bool:
    """Whether a class is an enum by its bases."""
    return any(base.rpartition(".")[2].endswith(("Enum", "Flag")) for base in module.class_bases(node))


def _name(module: Module, node: ast.Name) -> list[ast.expr] | None:
    if is_finite_name(node.id) or node.id.isupper():
        return []
    owner = module.owner(node, node.id)
    if owner is None or isinstance(owner, ast.Module | ast.ClassDef):
        return []  # a function, a class or a value that the file has one of
    for parameter in parameters(owner):
        if parameter.arg == node.id:
            return [] if is_finite_annotation(module, parameter.annotation) and parameter.annotation else None
    values: list[ast.expr] = []
    for use in module.uses(owner, node.id):
        if not isinstance(use.ctx, ast.Store):
            continue
        value = _bound_to(module, use)
        if value is None:
            return None
        values.append(value)
    return values or None


def _bound_to(module: Module, use: ast.Name) -> ast.expr | None:
    parent = module.up[use]
    if isinstance(parent, ast.Tuple):
        parent = module.up[parent]
        if not isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension):
            return None
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
        return parent.value
    if isinstance(parent, ast.For | ast.comprehension):
        each = parent.iter
        if isinstance(each, ast.Call):
            if _last(each.func) in ("items", "keys", "values") and isinstance(each.func, ast.Attribute):
                each = each.func.value
            elif _last(each.func) in ("enumerate", "sorted", "reversed", "list", "range") and len(each.args) == 1:
                each = each.args[0]
        return each
    return None


def _call(module: Module, node: ast.Call) -> list[ast.expr] | None:
    name = _last(node.func)
    if isinstance(node.func, ast.Name):
        if name == "id" and node.args and _last(node.args[0]) in ("func", "function", "endpoint", "call"):
            return []
        if name in ("type", "bool", "callable", "isinstance", "hasattr", "globals", "super"):
            return []
        if name in ("int", "str", "repr", "tuple", "frozenset", "id", "round", "sorted", "min", "max", "hash"):
            return list(node.args)
    if name in ("getpid", "get_ident", "current_thread", "get_running_loop", "get_event_loop", "native_thread_id"):
        return []
    if isinstance(node.func, ast.Attribute) and name in _KEEPING:
        return [node.func.value]
    known = module.classes.get(name)
    if known is not None and is_enum(module, known):
        return []
    return None


def _operation(node: ast.BinOp) -> list[ast.expr]:
    divides = isinstance(node.op, ast.FloorDiv | ast.Mod | ast.BitAnd)
    if divides and isinstance(node.right, ast.Constant) and isinstance(node.right.value, int):
        return []
    return [node.left, node.right]
