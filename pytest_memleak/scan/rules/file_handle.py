"""MLK008: a file, a socket or a descriptor that is opened and never closed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.borrowers import words
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.headers import images
from pytest_memleak.scan.lifetimes import End, Fate, fate, into, weightiest
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.suspect import Suspect
from pytest_memleak.scan.unclosed import Made, suspects

CODE: Final = "MLK008"
PATTERN: Final = "file_handle"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a file closed anywhere in the function, by `close`, `with`, `closing` or an `ExitStack`",
    "a file returned, yielded, kept in a container, or given to a function that may keep or close it",
    "a file in an attribute that anything in the program closes, or of a class with a base that closes such",
    "a file in a module's global, which lives as long as the process",
)

_OPENERS: Final = frozenset(
    {
        "open",
        *(
            f"{name}.open"
            for name in ("io", "codecs", "gzip", "bz2", "lzma", "tarfile", "wave", "tokenize", "dbm", "shelve")
        ),
        *("tarfile.TarFile.open", "gzip.GzipFile", "bz2.BZ2File", "lzma.LZMAFile", "zipfile.ZipFile", "io.FileIO"),
        *(
            "os.fdopen",
            "os.popen",
            "tempfile.TemporaryFile",
            "tempfile.NamedTemporaryFile",
            "aiofiles.open",
            "anyio.open_file",
        ),
    }
)
_SOCKETS: Final = frozenset({"socket.socket", "socket.create_connection", "socket.create_server"})
_STREAMS: Final = frozenset({"BytesIO", "StringIO", "open", "urlopen"})
_PATHS: Final = frozenset({"path", "file", "filename", "filepath"})
_PATH_CLASSES: Final = frozenset({"pathlib.Path", "Path", "anyio.Path"})
_PATH_STEPS: Final = frozenset({"joinpath", "resolve", "expanduser", "absolute", "with_suffix", "with_name"})


def find(module: Module) -> Iterator[Suspect]:
    """The files that nobody closes."""
    return suspects(module, chain(_made(module), images(module)))


def _made(module: Module) -> Iterator[Made]:
    for call in module.calls:
        name = last_name(call.func)
        if name in _BARE:
            callee = module.dotted(call.func)
            if callee in _SOCKETS:
                yield Made(call=call, noun="a socket", on_success=Confidence.LOW, fix=_SOCKET_FIX)
            elif callee == "tempfile.mkstemp":
                # No object holds a descriptor, so that nothing closes it at the end of a frame.
                yield Made(call=call, noun="a descriptor", fate=_of_first(module, call), fix=_DESCRIPTOR_FIX)
        elif name in _NAMES and _opens(module, call):
            devnull = _is_devnull(module, call)
            confidence = Confidence.MEDIUM if devnull else Confidence.HIGH
            yield Made(
                call=call, noun="a file", confidence=confidence, fate=_of_devnull(module, call) if devnull else None
            )


_BARE: Final = frozenset({"socket", "create_connection", "create_server", "mkstemp"})
_SOCKET_FIX: Final = "close it on every path: with socket.socket(…) as s: …"
_DESCRIPTOR_FIX: Final = "close it: os.close(descriptor), or with os.fdopen(descriptor, …) as f: …"
_NAMES: Final = frozenset(name.rpartition(".")[2] for name in _OPENERS)


def _opens(module: Module, call: ast.Call) -> bool:
    func = call.func
    if _is_over_another(module, call):
        return False
    if isinstance(func, ast.Name):
        if func.id == "open" and module.is_builtin(func):
            return True
        return func.id in module.imports and module.dotted(func) in _OPENERS
    callee = module.dotted(func)
    if callee in _OPENERS:
        return _root(func) in module.imports
    return isinstance(func, ast.Attribute) and func.attr == "open" and _is_path(module, func.value)


def _is_over_another(module: Module, call: ast.Call) -> bool:
    """Whether it reads from what is open already, which it leaves open: `GzipFile(fileobj=body)`."""
    if any(keyword.arg == "fileobj" for keyword in call.keywords):
        return True
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Name):
        first = module.value_of(first)
    return isinstance(first, ast.Call) and last_name(first.func) in _STREAMS


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_path(module: Module, node: ast.expr) -> bool:
    """Whether it is a `Path`: made on the spot, assigned so, annotated so, or called so."""
    while True:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            node = node.left
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PATH_STEPS:
            node = node.func.value
        else:
            break
    if isinstance(node, ast.Call):
        return module.dotted(node.func) in _PATH_CLASSES
    name = last_name(node)
    if isinstance(module.up[node], ast.Attribute) and _is_statement(module, module.up[module.up[node]]):
        return False  # `self.file.open(mode)` opens what is there already
    return bool(name) and name not in module.imports and not _PATHS.isdisjoint(words(name)[-1:])


def _is_statement(module: Module, node: ast.AST) -> bool:
    above = module.up[node]
    return isinstance(module.up[above] if isinstance(above, ast.Await) else above, ast.Expr)


def _of_first(module: Module, call: ast.Call) -> Fate:
    """What becomes of the descriptor in the pair that `mkstemp` returns."""
    above = module.up[call]
    if isinstance(above, ast.Subscript):
        return _of_item(module, above)
    if not isinstance(above, ast.Assign) or len(above.targets) != 1:
        return Fate(end=End.LOST, how="is dropped") if isinstance(above, ast.Expr) else Fate(end=End.HANDED)
    target = above.targets[0]
    if isinstance(target, ast.Tuple | ast.List) and len(target.elts) == 2:
        return into(module, target.elts[0], set())
    if isinstance(target, ast.Name) and module.function(target) is module.owner(target, target.id):
        uses = [use for use in module.uses(module.scope(target), target.id) if isinstance(use.ctx, ast.Load)]
        items = [module.up[use] for use in uses]
        return weightiest(
            _of_item(module, item) if isinstance(item, ast.Subscript) else Fate(end=End.HANDED) for item in items
        )
    return Fate(end=End.HANDED)


def _of_item(module: Module, item: ast.Subscript) -> Fate:
    if isinstance(item.slice, ast.Constant) and item.slice.value == 0:
        return fate(module, item)
    is_name = isinstance(item.slice, ast.Constant) and item.slice.value in (1, -1)
    return Fate(end=End.LOST, how="is dropped") if is_name else Fate(end=End.HANDED)


def _is_devnull(module: Module, call: ast.Call) -> bool:
    return bool(call.args) and module.dotted(call.args[0]) == "os.devnull"


def _of_devnull(module: Module, call: ast.Call) -> Fate | None:
    """Nobody who is given the null device as a sink closes it; what stands in for `sys.stdout` stays."""
    above = module.up[call]
    kept = isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Subscript)
    if (kept or isinstance(above, ast.keyword | ast.Call | ast.Dict)) and fate(module, call).end is End.HANDED:
        return Fate(end=End.LOST, how="is handed over as a sink")
    return None
