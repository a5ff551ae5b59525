"""The options of `memleak scan-code`, as the command line spells them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Codes: TypeAlias = Annotated[
    list[str], typer.Option("--select", help="Only these codes or patterns (comma lists, repeatable).")
]
NotCodes: TypeAlias = Annotated[list[str], typer.Option("--ignore", help="Not these codes or patterns.")]
Globs: TypeAlias = Annotated[
    list[str], typer.Option("--exclude", help="Files and folders to leave out (globs, repeatable).")
]
Severity: TypeAlias = Annotated[
    str, typer.Option("--severity", help="The least severity: low, medium, high (default: low).")
]
Confidence: TypeAlias = Annotated[
    str, typer.Option("--confidence", help="The least confidence: low, medium, high (default: medium).")
]
Baseline: TypeAlias = Annotated[str, typer.Option("--baseline", help="Only findings that this file does not know.")]
WriteBaseline: TypeAlias = Annotated[
    str, typer.Option("--write-baseline", help="Write the findings to this file as known.")
]
Diff: TypeAlias = Annotated[str, typer.Option("--diff", help="Only findings on lines changed since this commit.")]
Runtime: TypeAlias = Annotated[
    str, typer.Option("--runtime", help="A --memleak-json result: what it has measured comes first.")
]
Explain: TypeAlias = Annotated[str, typer.Option("--explain", help="Explain one code or pattern, and leave.")]
Fix: TypeAlias = Annotated[bool, typer.Option("--fix", help="Rewrite what can be mended for sure.")]
DiffOnly: TypeAlias = Annotated[bool, typer.Option("--diff-only", help="Show what --fix would do; change nothing.")]
FixBounds: TypeAlias = Annotated[
    bool, typer.Option("--fix-bounds", help="With --fix: also bound lru_cache and deque, which drops entries.")
]
Format: TypeAlias = Annotated[str, typer.Option("--format", help="text, json, sarif or github.")]
Output: TypeAlias = Annotated[str, typer.Option("--output", help="Write the report to this file.")]
Statistics: TypeAlias = Annotated[bool, typer.Option("--statistics", help="Count the findings by code.")]
NoCache: TypeAlias = Annotated[bool, typer.Option("--no-cache", help="Neither use nor write the cache.")]
