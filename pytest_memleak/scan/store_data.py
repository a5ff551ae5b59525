"""What a key stands for: something that the program defines, or data that comes in from outside."""

from __future__ import annotations

import ast
import re
from typing import Final

from pytest_memleak.scan.module import Function, Module

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_DATA: Final = re.compile(
    r"id|ids|uid|uuid|guid|pk|oid|token|tokens|url|urls|uri|href|email|mail|phone|ip|addr|address|user|users"
    r"|username|userid|login|session|sessions|request|requests|req|response|message|messages|msg|text|query|prompt"
    r"|question|timestamp|time|date|now|tenant|account|customer|order|client|clients|conn|connection|job|task"
    r"|cookie|hash|digest|sha|etag|cursor|visitor|transaction|upload|document"
)
_DATA_TYPES: Final = frozenset(
    {"UUID", "datetime", "date", "Request", "WebSocket", "HTTPConnection", "bytes", "Decimal"}
)
_ASKS_CODE: Final = ("inspect.", "importlib.", "pkgutil.", "typing.", "typing_extensions.", "dataclasses.")
_IMPORTING: Final = re.compile(
    r"import_module|import_string|import_object|import_from_string|import_by_path|load_object|resolve_name"
    r"|__import__|find_spec"
)
_OF_CODE: Final = frozenset({"issubclass", "get_type_hints", "wraps", "update_wrapper", "isclass", "getdoc"})
_RESOLVES: Final = frozenset(
    {"django.urls.get_resolver", "django.apps.apps.get_model", "django.apps.apps.get_app_config"}
)
"""Calls of frameworks whose first argument names what the program defines."""

_ATTRIBUTES: Final = re.compile(
    r"__mro__|__subclasses__|__bases__|__qualname__|__annotations__|__code__|__globals__|__defaults__"
    r"|__kwdefaults__|__origin__|__args__|__parameters__|__members__|__wrapped__|__closure__|__name__|__path__"
    r"|__file__|__spec__"
)


def words(name: str) -> list[str]:
    """The words of a name, in small letters: `userId` and `_user_id` are both `user`, `id`."""
    return [word.lower() for word in _WORDS.findall(name)]


def is_data_name(name: str) -> bool:
    """Whether a name is one that data is called by: `user_id`, `url`, `session`."""
    parts = words(name)
    return bool(parts) and not name.isupper() and _DATA.fullmatch(parts[-1]) is not None


def is_data(module: Module, key: ast.expr) -> bool:
    """Whether an expression surely has to do with data, by what its parts are called."""
    for node in ast.walk(key):
        above = module.up.get(node)
        if isinstance(above, ast.Call) and above.func is node:
            continue
        if isinstance(node, ast.Attribute):
            if is_data_name(node.attr):
                return True
        # Of `request.path`, the path is the key.
        elif isinstance(node, ast.Name) and not isinstance(above, ast.Attribute) and is_data_name(node.id):
            return True
    return False


def is_data_parameter(parameter: ast.arg) -> bool:
    """The same for a parameter."""
    return is_data_name(parameter.arg) or _is_data_type(parameter.annotation)


def _is_data_type(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        (isinstance(node, ast.Name) and node.id in _DATA_TYPES)
        or (isinstance(node, ast.Attribute) and node.attr in _DATA_TYPES)
        for node in ast.walk(annotation)
    )


def is_definition(module: Module, function: Function, name: str) -> bool:
    """Whether a function's parameter is a class, a function, a module or the path to one, by what is done with it."""
    waiting = [(use, True) for use in module.uses(function, name)]
    seen: set[ast.Name] = set()
    while waiting:
        use, itself = waiting.pop()
        if use in seen or not isinstance(use.ctx, ast.Load):
            continue
        seen.add(use)
        if _says_so(module, use, itself=itself):
            return True
        if itself:
            # The parts of a dotted path are imported more often than the whole.
            waiting += [(other, False) for other in _derived(module, function, use)]
    return False


def _says_so(module: Module, use: ast.Name, *, itself: bool) -> bool:
    above = module.up[use]
    if isinstance(above, ast.Attribute):
        return itself and _ATTRIBUTES.fullmatch(above.attr) is not None
    if isinstance(above, ast.Subscript) and above.slice is use:
        return itself and isinstance(above.ctx, ast.Load) and _is_table(module, above.value)
    if not isinstance(above, ast.Call) or use not in above.args:
        return False
    called = module.dotted(above.func)
    last = called.rpartition(".")[2]
    if itself and (
        called == "os.getenv" or (isinstance(above.func, ast.Attribute) and _is_environment(above.func.value))
    ):
        return above.args[0] is use
    if _IMPORTING.fullmatch(last):
        return True
    if not itself:
        return False
    if called == "getattr":
        return len(above.args) == 2 and use is above.args[1] and _is_of_code(module, above.args[0])
    return above.args[0] is use and (last in _OF_CODE or called in _RESOLVES or called.startswith(_ASKS_CODE))


def _is_table(module: Module, node: ast.expr) -> bool:
    """Whether a thing has so many entries; asked for another it raises, and nothing is kept."""
    if isinstance(node, ast.Name):
        made = module.value_of(node) if module.is_global(node) else None
        return isinstance(made, ast.Dict) and bool(made.keys)
    return isinstance(node, ast.Call) or _is_environment(node)


def _is_environment(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("environ", "_environ")


def _is_of_code(module: Module, node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and (node.id in module.imports or node.id in module.classes)


def _derived(module: Module, function: Function, use: ast.Name) -> list[ast.Name]:
    """The uses of what is assigned from an expression with `use` in it."""
    statement = module.statement(use)
    if not isinstance(statement, ast.Assign):
        return []
    targets = [name for target in statement.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return [other for target in targets for other in module.uses(function, target.id) if other is not target]


def is_callback(module: Module, value: ast.expr | None) -> bool:
    """Whether what is kept is a function that a caller gave: annotated so, or called so."""
    if not isinstance(value, ast.Name):
        return False
    owner = module.owner(value, value.id)
    given = next((each for each in getattr(getattr(owner, "args", None), "args", ()) if each.arg == value.id), None)
    if given is None:
        return False
    annotated = ast.unparse(given.annotation) if given.annotation is not None else ""
    return "Callable" in annotated or value.id in ("callback", "listener", "on_done", "observer", "subscriber")


def is_of_tests(module: Module) -> bool:
    """Whether a file runs as part of tests, whose process ends with them."""
    *folders, last = module.name.split(".")
    return (
        not {"test", "tests", "testing"}.isdisjoint(folders)
        or last.startswith("test_")
        or last.endswith(("_test", "_tests"))
        or last == "conftest"
    )
