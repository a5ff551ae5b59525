"""`# memleak: ignore[MLK001] reason`: what a comment takes back, and which comments take back nothing."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import tokenize
from collections.abc import Collection, Sequence
from typing import Final

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.sources import Source

MARK: Final = "memleak:"
_COMMENT: Final = re.compile(r"#\s*memleak:\s*ignore\b(?:\s*\[([^\]]*)\])?")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One comment; without codes it holds for all."""

    line: int
    codes: tuple[str, ...] = ()
    at: str = ""
    """Where it is for the reader: `line 3`, in a notebook `cell 2, line 1`."""

    def covers(self, code: str) -> bool:
        """Whether a code is meant."""
        return not self.codes or code in self.codes

    def __str__(self) -> str:
        return f"ignore[{', '.join(self.codes)}]" if self.codes else "ignore"


def find(source: Source) -> tuple[Suppression, ...]:
    """The comments of a source; text within strings is none."""
    text = source.text
    if MARK not in text:
        return ()
    found: list[Suppression] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            match = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
            if match:
                codes = tuple(code.strip().upper() for code in (match[1] or "").split(",") if code.strip())
                found.append(Suppression(line=token.start[0], codes=codes, at=source.at(token.start[0])))
    except (tokenize.TokenError, SyntaxError):
        pass  # what parses, tokenizes; a comment behind the fault suppresses nothing
    return tuple(found)


def lines_of(module: Module, node: ast.AST) -> frozenset[int]:
    """The lines whose comment is about a node: its own, and the first of its statement and of that's decorators."""
    found = {getattr(node, "lineno", 1), getattr(node, "end_lineno", None) or 1}
    if node in module.up:
        statement = module.statement(node)
        found.add(statement.lineno)
        found.update(decorator.lineno for decorator in getattr(statement, "decorator_list", ()))
        if not hasattr(statement, "body") and statement.end_lineno:
            found.add(statement.end_lineno)
    return frozenset(found)


def apply(
    found: Sequence[tuple[Finding, Collection[int]]], comments: tuple[Suppression, ...], active: Collection[str]
) -> tuple[list[Finding], list[Suppression]]:
    """The findings that no comment takes back, and the comments that took back nothing.

    A comment that names a code which this scan does not look for may have its use in another.
    """
    used: set[Suppression] = set()
    kept: list[Finding] = []
    for finding, lines in found:
        hits = [comment for comment in comments if comment.line in lines and comment.covers(finding.code)]
        used.update(hits)
        if not hits:
            kept.append(finding)
    unused = [c for c in comments if c not in used and (not c.codes or set(c.codes) <= set(active))]
    return kept, unused
