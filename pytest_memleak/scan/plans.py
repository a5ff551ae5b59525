"""Which rewrite would mend a finding for sure."""

from __future__ import annotations

from typing import Final

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.bounds import plan_cache, plan_deque
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rewrites import Rewrite
from pytest_memleak.scan.withs import plan_with

BOUNDED: Final = frozenset(("unbounded_cache", "global_accumulation"))
"""Patterns whose rewrites drop entries, hence only on demand."""


def is_mended(pattern: str, *, bounds: bool) -> bool:
    """Whether there is a rewrite for a pattern at all."""
    return pattern == "file_handle" or (bounds and pattern in BOUNDED)


def plan(module: Module, lines: list[str], finding: Finding, *, bounds: bool) -> Rewrite | None:
    """What would mend a finding for sure; None where nothing would."""
    if not is_mended(finding.pattern, bounds=bounds):
        return None
    if finding.pattern in BOUNDED:
        return plan_cache(module, lines, finding) or plan_deque(module, lines, finding)
    return plan_with(module, lines, finding)
