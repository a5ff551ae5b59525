"""Lists, sets and deques of a module or a class that gain an element per call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.store_growth import leaks
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK002"
PATTERN: Final = "global_accumulation"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "A container that anything in the file empties, replaces or holds against a length.",
    "A container that bounds itself or holds weakly: `deque(maxlen=…)`, `WeakSet`.",
    "A registry: filled by a decorator, a metaclass, a function named `register…`, or at import only.",
    "Elements of which there are only so many: constants, members of an enum, classes.",
    "What is done once, behind a flag.",
    "A set of tasks whose done callback discards them.",
)


def find(module: Module) -> Iterator[Suspect]:
    """The places of a file where such a container grows, and the context variables that are set and never reset."""
    for growth, suspect in leaks(module):
        if growth.way in ("item", "nested"):
            yield suspect
    yield from _tokens(module)


def _tokens(module: Module) -> Iterator[Suspect]:
    for use in module.attributes.get("set", ()):
        call, variable = module.up[use], use.value
        if not isinstance(call, ast.Call) or not isinstance(variable, ast.Name) or not module.is_global(variable):
            continue
        made = module.value_of(variable)
        assigned = module.up[call]
        if not isinstance(made, ast.Call) or not isinstance(assigned, ast.Assign) or module.function(use) is None:
            continue
        origin = made.func.value if isinstance(made.func, ast.Subscript) else made.func
        token = assigned.targets[0]
        if module.dotted(origin) != "contextvars.ContextVar" or not isinstance(token, ast.Name) or token.id == "_":
            continue
        scope = module.owner(token, token.id)
        if scope is None or any(isinstance(name.ctx, ast.Load) for name in module.uses(scope, token.id)):
            continue
        yield Suspect(
            node=call,
            message=f"`{variable.id}` is set and `{token.id}` never resets it, so the context keeps the value",
            driver=Driver.CALL,
            confidence=Confidence.LOW,
            fix=f"{variable.id}.reset({token.id}) in a finally",
            holder=f"{module.name}.{variable.id}" if module.name else variable.id,
        )
