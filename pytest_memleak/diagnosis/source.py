"""Places in source: whose code a file is, how its path is shown, what its line says."""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pytest_memleak.model import Frame

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)
# The bundled examples are shipped inside the package, and are the user's code in the demo.
_EXAMPLES: Final = str(Path(_PACKAGE, "examples"))
_WORKLOADS: Final = str(Path(_PACKAGE, "workloads")) + os.sep
_LIBRARY_PARTS: Final = frozenset({"site-packages", "dist-packages"})


@functools.cache
def _stdlib() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.realpath(paths[key]) + os.sep for key in ("stdlib", "platstdlib")})


@functools.lru_cache(maxsize=4096)
def is_ours(path: str) -> bool:
    """Whether a file belongs to this package (its examples do not)."""
    return path.startswith(_PACKAGE + os.sep) and not path.startswith(_EXAMPLES + os.sep)


@functools.lru_cache(maxsize=4096)
def is_users(path: str) -> bool:
    """Whether a file is the user's own: not the standard library, an installed package, or this one."""
    if path.startswith("<") or is_ours(path):
        return False
    if path.startswith(_EXAMPLES + os.sep):
        return True
    if not _LIBRARY_PARTS.isdisjoint(Path(path).parts):
        return False
    return not is_stdlib(path)


@functools.lru_cache(maxsize=4096)
def is_stdlib(path: str) -> bool:
    """Whether a file is the interpreter's own library, or code that has no file."""
    if path.startswith("<"):
        return True
    return _LIBRARY_PARTS.isdisjoint(Path(path).parts) and os.path.realpath(path).startswith(_stdlib())


@functools.lru_cache(maxsize=4096)
def shown_path(path: str) -> str:
    """A path as the report shows it: relative to the working directory, or from the package on."""
    if path.startswith("<"):
        return path
    parts = Path(path).parts
    for part in _LIBRARY_PARTS:
        if part in parts and not path.startswith(_EXAMPLES):
            return "/".join(parts[len(parts) - parts[::-1].index(part) :])
    for stdlib in _stdlib():
        if os.path.realpath(path).startswith(stdlib):
            return os.path.realpath(path)[len(stdlib) :]
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return path
    return path if relative.startswith("../../..") else relative


def module_name(kind: type) -> str:
    """The module of a type; empty for the metatypes of extensions that answer with a descriptor."""
    module: object = kind.__module__
    return module if isinstance(module, str) else ""


Place = tuple[str, int]
"""A file, as Python names it, and a 1-based line."""


def frame(place: Place) -> Frame:
    """A place with its function and source line, as text that refers to nothing."""
    path, line = place
    text = linecache.getline(path, line).strip()
    return Frame(
        path=shown_path(path),
        line=line,
        # Compiling a large library file for one name takes a tenth of a second.
        function=_function_at(path, line) if is_users(path) else "",
        source=text,
        is_library=not is_users(path),
    )


def nearest(stack: Iterable[Place]) -> tuple[Place, Place | None] | None:
    """The nearest place in the user's code of a stack, innermost first, and the innermost place.

    The second is None when it is the same. A stack wholly in libraries gives its nearest place in an
    installed package, else its innermost one. One that belongs to the measurement itself (a snapshot, a
    reading), or is empty, gives None.
    """
    innermost: Place | None = None
    package: Place | None = None
    for place in stack:
        if is_ours(place[0]):
            # Our workloads call the program; whatever else of ours is on the stack measures it.
            if innermost is None or not place[0].startswith(_WORKLOADS):
                return None
            break
        innermost = innermost or place
        if is_users(place[0]):
            return place, None if place == innermost else innermost
        if package is None and not is_stdlib(place[0]):
            package = place
    own = package or innermost
    return None if own is None or innermost is None else (own, None if own == innermost else innermost)


@functools.lru_cache(maxsize=256)
def _function_at(path: str, line: int) -> str:
    """The innermost function whose code covers a line, from the compiled source; empty when unknown."""
    text = "".join(linecache.getlines(path))
    try:
        code = compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return ""
    return _function_in(code, line)


def _function_in(code: types.CodeType, line: int) -> str:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            lines = [number for _, _, number in constant.co_lines() if number is not None]
            if lines and min(lines) <= line <= max(lines):
                inner = _function_in(constant, line)
                return inner or ("" if constant.co_name.startswith("<") else constant.co_name)
    return ""
