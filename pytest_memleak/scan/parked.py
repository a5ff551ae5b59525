"""What must be closed and is put into a container that nothing empties: its owner can be found, and nobody looks."""

from __future__ import annotations

import ast

from pytest_memleak.scan.lifetimes import End, fate
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_growth import Growth, leaks
from pytest_memleak.scan.suspect import Suspect


def parked(module: Module, call: ast.Call) -> tuple[Growth, Suspect] | None:
    """The growth that keeps what a call makes, one more per call, where nothing else is done with it that may close
    it."""
    value: ast.expr = call
    above = module.up[value]
    if isinstance(above, ast.Await):
        value, above = above, module.up[above]
    if isinstance(above, ast.Call):
        return _growth(module, [value])
    target = above.targets[0] if isinstance(above, ast.Assign) and len(above.targets) == 1 else None
    function = module.function(call)
    if not isinstance(target, ast.Name) or function is None or module.owner(target, target.id) is not function:
        return None
    if module.value_of(target) is not value:
        return None
    uses: list[ast.expr] = [use for use in module.uses(function, target.id) if isinstance(use.ctx, ast.Load)]
    found = _growth(module, uses)
    if found is None:
        return None
    others = [use for use in uses if use is not found[0].value]
    return found if all(fate(module, use, inline=False).end is End.LOST for use in others) else None


def _growth(module: Module, uses: list[ast.expr]) -> tuple[Growth, Suspect] | None:
    for growth, suspect in leaks(module):
        # Under a key, it may be found again; a list only grows.
        if growth.way == "item" and growth.value in uses:
            return growth, suspect
    return None
