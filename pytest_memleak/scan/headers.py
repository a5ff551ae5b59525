"""Images that are opened for what their header tells: pillow keeps the file open until the pixels are read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.lifetimes import End, Fate
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_data import words
from pytest_memleak.scan.unclosed import Made

_HEADER: Final = frozenset({"size", "width", "height", "format", "mode", "info", "is_animated", "n_frames", "getbands"})
_PATHS: Final = frozenset({"path", "filename", "filepath", "fname", "fpath", "pathname"})
_PATH_CALLS: Final = frozenset({"os.path.join", "os.path.abspath", "os.path.expanduser", "str", "pathlib.Path"})


def images(module: Module) -> Iterator[Made]:
    """The images opened by their path of which a function asks nothing that reads the pixels."""
    for use in module.attributes.get("open", ()):
        call = module.up[use]
        if not isinstance(call, ast.Call) or call.func is not use or not call.args:
            continue
        if module.dotted(use) != "PIL.Image.open" or not _is_path(module, call.args[0]):
            continue
        end = _end(module, call)
        if end is not None:
            yield Made(call=call, noun="an image", confidence=Confidence.MEDIUM, fate=end, fix=_FIX)


_FIX: Final = "close it: with Image.open(path) as image: …"


def _is_path(module: Module, given: ast.expr) -> bool:
    """Whether an image is opened by its path; a stream is its opener's to close."""
    if isinstance(given, ast.Call):
        return module.dotted(given.func) in _PATH_CALLS
    if isinstance(given, ast.Constant | ast.JoinedStr):
        return True
    name = given.id if isinstance(given, ast.Name) else getattr(given, "attr", "")
    return not _PATHS.isdisjoint(words(name)[-1:])


def _end(module: Module, call: ast.Call) -> Fate | None:
    above = module.up[call]
    if isinstance(above, ast.Attribute):
        return Fate(end=End.LOST, how="is asked for its header only") if above.attr in _HEADER else None
    if not isinstance(above, ast.Assign) or len(above.targets) != 1 or not isinstance(above.targets[0], ast.Name):
        return None
    target = above.targets[0]
    function = module.function(target)
    if function is None or module.owner(target, target.id) is not function or module.value_of(target) is not call:
        return None
    uses = [use for use in module.uses(function, target.id) if isinstance(use.ctx, ast.Load)]
    asked = [module.up[use] for use in uses]
    if asked and all(isinstance(each, ast.Attribute) and each.attr in _HEADER for each in asked):
        return Fate(end=End.LOST, name=target.id)
    return None
