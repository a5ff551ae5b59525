"""The endpoints and middleware of one file, and which names each of its functions calls."""

from __future__ import annotations

import ast
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.module import Function, Module, parameters

_VERBS: Final = frozenset({"delete", "get", "head", "options", "patch", "post", "put", "trace", "websocket"})
_ROUTES: Final = frozenset({"add_api_route", "add_api_websocket_route", "add_route", "add_websocket_route"})
_ROUTE_OBJECTS: Final = frozenset({"APIRoute", "Route", "WebSocketRoute"})
_DEPENDS: Final = frozenset({"Depends", "Security"})
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

ALIAS: Final = "@"
"""Marks the name of an annotation, which may stand for a dependency."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way in: `GET /items/{id}` and the function behind it; a middleware is one for every endpoint."""

    verb: str
    """`GET`, `GET|POST`, `WEBSOCKET`; `middleware` or `dependency` where it runs for all endpoints."""

    path: str
    target: str
    """The function, dotted."""

    router: str = ""
    """What it is registered at, dotted."""

    @property
    def is_endpoint(self) -> bool:
        """Whether it is one endpoint, and not what runs for all of them."""
        return self.verb not in ("middleware", "dependency")


def full(module: Module, symbol: str) -> str:
    """A name of the module itself as others have it."""
    return f"{module.name}.{symbol}" if module.name else symbol


def name_of(module: Module, node: ast.AST) -> str:
    """The dotted name of a global, an import or what hangs on one; `self.x` as it is; empty for a local's."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    first = node.id
    if first in module.imports:
        first = module.imports[first]
    elif first in ("self", "cls"):
        first = "self"
    elif first in module.locals_of(module.tree):
        first = full(module, first)
    else:
        return ""
    parts.append(first)
    return ".".join(reversed(parts))


def calls_by_function(module: Module) -> dict[str, tuple[str, ...]]:
    """What each function calls, or hands to a call, by symbol; a function's decorators and defaults are its own.

    A function within a function counts as called by it. Where a type alias brings a dependency, the alias is
    listed like a function.
    """
    found: dict[str, dict[str, None]] = {}
    symbols: dict[Function, str] = {}
    made: dict[tuple[str, str], str] = {}
    for function in module.functions:
        outer = module.symbol(function)
        symbol = f"{outer}.{function.name}" if outer else function.name
        symbols[function] = symbol
        found.setdefault(symbol, {})
        if outer in found:
            found[outer][full(module, symbol)] = None
        for argument in parameters(function):
            if argument.annotation is None:
                continue
            if name := name_of(module, argument.annotation):
                found[symbol][ALIAS + name] = None
            if kind := name_of(module, _bare(argument.annotation)):
                made[symbol, argument.arg] = kind
    spans = sorted((_first_line(f), -(f.end_lineno or f.lineno), s) for f, s in symbols.items())
    _fill(module, spans, found, made)
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Subscript):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            dependencies = list(_dependencies(module, statement.value))
            if dependencies and isinstance(target, ast.Name):
                found[ALIAS + target.id] = dict.fromkeys(dependencies)
    return {symbol: tuple(names) for symbol, names in found.items()}


def _first_line(function: Function) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def _bare(annotation: ast.expr) -> ast.expr:
    """`Annotated[Store, …]` without what is said about it."""
    if isinstance(annotation, ast.Subscript) and _last(annotation.value) == "Annotated":
        inner = annotation.slice
        return inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
    return annotation


def _fill(
    module: Module,
    spans: list[tuple[int, int, str]],
    found: dict[str, dict[str, None]],
    made: dict[tuple[str, str], str],
) -> None:
    """One sweep over calls and functions in the order of lines.

    `made` has the class of each parameter, by symbol and name; what a function makes itself is added on the way.
    """
    open_: list[tuple[int, str]] = []
    following = 0
    names: dict[str, str] = {}
    stores: dict[str, Counter[ast.AST]] = {}
    for call in sorted(module.calls, key=lambda call: call.lineno):
        line = call.lineno
        while following < len(spans) and spans[following][0] <= line:
            open_.append((-spans[following][1], spans[following][2]))
            following += 1
        while open_ and open_[-1][0] < line:
            open_.pop()
        if not open_:
            continue
        symbol = open_[-1][1]
        into = found[symbol]
        for node in (call.func, *call.args, *[word.value for word in call.keywords]):
            if isinstance(node, ast.Attribute):
                name = _of_object(module, node, symbol, made) or name_of(module, node)
            elif isinstance(node, ast.Name):
                if node.id not in names:
                    names[node.id] = name_of(module, node)
                name = names[node.id]
            else:
                continue
            if name:
                into[name] = None
        _note_made(module, call, symbol, made, stores)


def _of_object(module: Module, node: ast.Attribute, symbol: str, made: dict[tuple[str, str], str]) -> str:
    """`app.Store.add` for the `add` of what a function has made or been given; empty for anything else."""
    receiver = node.value
    if isinstance(receiver, ast.Call):
        kind = name_of(module, receiver.func)
    else:
        kind = made.get((symbol, receiver.id), "") if isinstance(receiver, ast.Name) else ""
    return f"{kind}.{node.attr}" if kind else ""


def _note_made(
    module: Module,
    call: ast.Call,
    symbol: str,
    made: dict[tuple[str, str], str],
    stores: dict[str, Counter[ast.AST]],
) -> None:
    """`x = Store()` of a local that is bound this once; `stores` counts per name and scope, once for a file."""
    statement = module.up.get(call)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return
    if isinstance(target, ast.Name) and (kind := name_of(module, call.func)):
        uses = module.names[target.id]
        if target.id not in stores:
            stores[target.id] = Counter(module.scope(use) for use in uses if isinstance(use.ctx, ast.Store))
        counts = stores[target.id]
        if counts[module.scope(call)] == 1 or sum(counts.values()) == 1:
            made[symbol, target.id] = kind


def _dependencies(module: Module, node: ast.AST) -> Iterator[str]:
    for below in ast.walk(node):
        if isinstance(below, ast.Call) and _last(below.func) in _DEPENDS and below.args:
            name = name_of(module, below.args[0])
            if name:
                yield name


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _word(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def find(module: Module) -> tuple[tuple[Route, ...], tuple[tuple[str, str, str], ...]]:
    """The routes of a file, and the prefixes of routers with what they are included in."""
    found = [*_decorated(module), *_middleware(module)]
    prefixes: list[tuple[str, str, str]] = []
    for call in module.calls:
        last = _last(call.func)
        if last in _ROUTES or last in _ROUTE_OBJECTS:
            found += _added(module, call)
        elif last == "include_router" and call.args:
            router = name_of(module, call.args[0])
            prefixes.append((router, _text(_word(call, "prefix")) or "", _receiver(module, call)))
            found += _for_all(module, call)
        elif last == "mount" and len(call.args) > 1 and (path := _text(call.args[0])):
            prefixes.append((name_of(module, call.args[1]), path.rstrip("/"), _receiver(module, call)))
        elif last in ("APIRouter", "FastAPI"):
            found += _for_all(module, call)
            target = getattr(module.up.get(call), "targets", [None])[0]
            prefix = _text(_word(call, "prefix"))
            if prefix and isinstance(target, ast.Name):
                prefixes.append((full(module, target.id), prefix, full(module, target.id)))
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(each for each in prefixes if each[0]))


def _receiver(module: Module, call: ast.Call) -> str:
    return name_of(module, call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _for_all(module: Module, call: ast.Call) -> Iterator[Route]:
    dependencies = _word(call, "dependencies")
    if dependencies is not None:
        for name in _dependencies(module, dependencies):
            yield Route(verb="dependency", path=name.rpartition(".")[2], target=name)


def _decorated(module: Module) -> Iterator[Route]:
    for function in module.functions:
        for decorator in function.decorator_list:
            if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
                continue
            verb = decorator.func.attr
            outer = module.symbol(function)
            symbol = f"{outer}.{function.name}" if outer else function.name
            first = _text(decorator.args[0] if decorator.args else _word(decorator, "path"))
            if verb == "middleware":
                yield Route(verb="middleware", path=symbol, target=full(module, symbol))
            elif first is not None and (not first or first.startswith("/")):
                router = name_of(module, decorator.func.value)
                if verb in _VERBS:
                    yield Route(verb=verb.upper(), path=first, target=full(module, symbol), router=router)
                elif verb in ("api_route", "route", "websocket_route"):
                    word = "WEBSOCKET" if verb == "websocket_route" else _methods(decorator)
                    yield Route(verb=word, path=first, target=full(module, symbol), router=router)


def _methods(call: ast.Call) -> str:
    methods = _word(call, "methods")
    if isinstance(methods, ast.List | ast.Tuple | ast.Set):
        return "|".join(sorted(filter(None, map(_text, methods.elts)))) or "GET"
    return "GET"


def _added(module: Module, call: ast.Call) -> Iterator[Route]:
    last = _last(call.func)
    path = _text(call.args[0] if call.args else _word(call, "path"))
    target = call.args[1] if len(call.args) > 1 else _word(call, "endpoint") or _word(call, "route")
    if path is None or target is None or not (name := name_of(module, target)):
        return
    router = _receiver(module, call) if last in _ROUTES else ""
    yield Route(
        verb="WEBSOCKET" if "ebsocket" in last.lower() else _methods(call), path=path, target=name, router=router
    )


def _middleware(module: Module) -> Iterator[Route]:
    for node in module.classes.values():
        outer = module.symbol(node)
        symbol = f"{outer}.{node.name}" if outer else node.name
        based = any(base.rpartition(".")[2] == "BaseHTTPMiddleware" for base in module.class_bases(node))
        for method in node.body:
            if not isinstance(method, _FUNCTIONS):
                continue
            names = [argument.arg for argument in parameters(method)]
            is_asgi = method.name == "__call__" and names[1:] == ["scope", "receive", "send"]
            if is_asgi or (based and method.name == "dispatch"):
                path = f"{symbol}.{method.name}"
                yield Route(verb="middleware", path=path, target=full(module, path))
