"""The rewrites there are, as values: what is planned on the tree of one file, and carried out on its text."""

from __future__ import annotations

import ast
import dataclasses
from typing import TypeAlias


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where an expression stands; lines from 1, columns from 0 in characters."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wrap:
    """`f = open(…)` and what follows up to its last use, into one `with`."""

    line: int
    last_line: int
    """Where the last statement that uses it starts."""

    closes: bool
    """Whether that one is `f.close()`, which the `with` does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """`x = open(…).read()`: the call goes into a `with` around its statement."""

    line: int
    call: Span
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An expression that gets a bound: `functools.cache`, `lru_cache(maxsize=None)` or `deque()`."""

    expression: Span
    to: str
    """What it becomes, as code."""

    imports: bool = False
    """Whether `from functools import cache` has to bring `lru_cache` too."""


Rewrite: TypeAlias = Wrap | Lift | Bound


def span_of(node: ast.expr, lines: list[str]) -> Span:
    """Where a node stands; the tree counts bytes, everybody else characters."""
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
    return Span(
        line=node.lineno,
        column=_characters(lines[node.lineno - 1], node.col_offset),
        end_line=end_line,
        end_column=_characters(lines[end_line - 1], end_column),
    )


def _characters(line: str, count: int) -> int:
    return len(line.encode()[:count].decode(errors="ignore"))
