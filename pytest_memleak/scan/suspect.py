"""What a rule hands over, before other files have had their say."""

from __future__ import annotations

import ast
import dataclasses

from pytest_memleak.model_scan import Confidence, Driver


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One place that leaks as far as its own file tells.

    `node` says where. `unless` names facts of other files, any of which clears it:
    `shrinks:app.cache.SEEN` (a module's global), `shrinks:Store._entries` (an attribute of a class or of one
    related by inheritance), `shrinks:*._entries` (through an object that is not `self`), and the same with
    `closes:` and `stops:`.
    """

    node: ast.AST
    message: str
    driver: Driver
    confidence: Confidence
    fix: str = ""
    """More exact than the catalogue's; empty for the catalogue's."""

    holder: str = ""
    unless: tuple[str, ...] = ()
