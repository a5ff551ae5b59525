"""Keys of which there are only so many: constants, members of an enum, classes, status codes, locales."""

from __future__ import annotations

import ast
import re
from typing import Final

from pytest_memleak.scan.module import Function, Module, Scope, parameters
from pytest_memleak.scan.store_data import is_definition

_FINITE_WORDS: Final = re.compile(
    r"cls|klass|class|clazz|type|types|typ|kls|mro|ancestor|status|version|level|lang|language|locale|encoding"
    r"|charset|codec|method|verb|scheme|timezone|tz|tzinfo|utcoffset|protocol|dialect|mode|kind|enum|flag|flags"
    r"|backend|driver|platform|signum|signal|signame|sig|loop|dtype|operator|opcode|pid|weekday|month|hour|minute"
    r"|severity|fmt|format|arch|extension|suffix|module|mod|attr|attribute|field|column|plugin|codepoint|stage"
    r"|phase|direction|unit|metric|axis|precision|provider|region|bool|arity|transport|blueprint|namespace|app"
    r"|application|topic"
)
_NAMED: Final = re.compile(
    r"(^|_)(route_name|class_name|connection_name|qualname|__class__|__name__|__qualname__|__module__|__code__|__file__|co_[a-z]+)$"
)
_FINITE_TYPES: Final = re.compile(r"(Enum|Type|Kind|Mode|Level|Status|State|Literal|ModuleType)$")
_KEEPING: Final = frozenset(
    ["lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "casefold", "encode", "decode", "replace"]
)
_CODE_PLACES: Final = re.compile(
    r"inspect.getfile|inspect.getsourcefile|inspect.stack|inspect.currentframe|sys._getframe|sys.exc_info"
    r"|traceback.extract_tb|traceback.extract_stack"
)
"""Calls that tell where in the code something is, of which there is only so much."""

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
        if node.attr in ("__dict__", "filename"):
            return [node.value]
        base = _last(node.value)
        if base in ("config", "settings", "conf", "cfg"):
            return []
        if node.attr in ("name", "slug", "value") and is_finite_name(base):
            return []
        # What is found in `_meta` is of a model's definition.
        return [] if is_finite_name(node.attr) or node.attr.isupper() or base == "_meta" else None
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
    return _FINITE_WORDS.fullmatch(last) is not None or (
        len(words) > 1 and last in ("name", "code") and _FINITE_WORDS.fullmatch(words[-2]) is not None
    )


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
            return _parameter(module, owner, parameter)
    values: list[ast.expr] = []
    for use in module.uses(owner, node.id):
        if not isinstance(use.ctx, ast.Store):
            continue
        value = _bound_to(module, use)
        if value is None:
            return None
        values.append(value)
    return values or None


def _parameter(module: Module, owner: Scope, parameter: ast.arg) -> list[ast.expr] | None:
    if parameter.annotation is not None and is_finite_annotation(module, parameter.annotation):
        return []
    if isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef):
        if is_definition(module, owner, parameter.arg) or _is_choice(module, owner, parameter):
            return []
        return asked_with(module, owner, parameter)
    return None


def is_finite_parameter(module: Module, function: Function, parameter: ast.arg) -> bool:
    """Whether a function's parameter can take only so many values."""
    if is_finite_name(parameter.arg):
        return True
    parts = _parameter(module, function, parameter)
    return parts is not None and all(is_finite(module, part) for part in parts)


def _is_choice(module: Module, function: Function, parameter: ast.arg) -> bool:
    """Whether a parameter stands for a choice of the program's: left out, it is a constant with a name."""
    default = default_of(function, parameter)
    if _last(default).isupper():
        return True
    if not isinstance(default, ast.Constant) or default.value is not None:
        return False
    stores = [use for use in module.uses(function, parameter.arg) if isinstance(use.ctx, ast.Store)]
    values = [getattr(module.up[use], "value", None) for use in stores]
    return bool(values) and all(_last(value).isupper() for value in values)


def default_of(function: Function, parameter: ast.arg) -> ast.expr | None:
    """The default of a parameter; None where it has none."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    given = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    return given.get(parameter) or dict(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)).get(parameter)


def asked_with(module: Module, function: Function, parameter: ast.arg) -> list[ast.expr] | None:
    """What the file calls a private function with for a parameter; None where others may call it too."""
    if not function.name.startswith("_") or function.name.startswith("__"):
        return None
    uses = [*module.names.get(function.name, ()), *module.attributes.get(function.name, ())]
    found: list[ast.expr] = []
    for use in uses:
        call = module.up[use]
        if not isinstance(call, ast.Call) or call.func is not use:
            return None
        if module.function(call) is None:
            continue
        value = _given(call, function, parameter, bound=isinstance(module.scope(function), ast.ClassDef))
        if value is None:
            return None
        found.append(value)
    return found if uses else None


def _given(call: ast.Call, function: Function, parameter: ast.arg, *, bound: bool) -> ast.expr | None:
    if any(isinstance(value, ast.Starred) for value in call.args) or any(word.arg is None for word in call.keywords):
        return None
    names = parameters(function)
    index = names.index(parameter) - (bound and isinstance(call.func, ast.Attribute))
    if parameter in (function.args.vararg, function.args.kwarg):
        return None
    if 0 <= index < len(call.args):
        return call.args[index]
    named = next((word.value for word in call.keywords if word.arg == parameter.arg), None)
    return named or default_of(function, parameter)


def _bound_to(module: Module, use: ast.Name) -> ast.expr | None:
    parent, first = module.up[use], True
    if isinstance(parent, ast.Tuple):
        first = parent.elts[0] is use
        parent = module.up[parent]
        if not isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension | ast.Assign):
            return None
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
        return parent.value
    if isinstance(parent, ast.For | ast.comprehension):
        return _looped(module, parent.iter, first=first)
    return None


def _looped(module: Module, each: ast.expr, *, first: bool) -> ast.expr:
    """What must be finite for a loop's variable to be."""
    view = ""
    if isinstance(each, ast.Call):
        name = _last(each.func)
        if name in ("items", "keys", "values") and isinstance(each.func, ast.Attribute):
            view, each = name, each.func.value
        elif name == "range":
            return ast.Constant(0)  # as many as the widest range has
        elif name in ("enumerate", "sorted", "reversed", "list") and len(each.args) == 1:
            each = each.args[0]
    if isinstance(each, ast.Name) and view != "values" and (first or view != "items"):
        scope = module.owner(each, each.id)
        given = getattr(getattr(scope, "args", None), "kwarg", None)
        if given is not None and given.arg == each.id:
            return ast.Constant("")  # the names of keyword arguments stand in the source
    return each


def _call(module: Module, node: ast.Call) -> list[ast.expr] | None:
    name = _last(node.func)
    if _CODE_PLACES.fullmatch(module.dotted(node.func)):
        return []
    if isinstance(node.func, ast.Name):
        if name == "id" and node.args and _last(node.args[0]) in ("func", "function", "endpoint"):
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
