"""A scan as annotations of a GitHub workflow: one command per finding, which shows at its line of the pull request."""

from __future__ import annotations

from typing import Final

from pytest_memleak.model_scan import Finding, ScanResult, Severity

_COMMANDS: Final = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "notice"}


def report(result: ScanResult) -> str:
    """One line per finding and per warning; empty where there is neither."""
    lines = [_finding(finding) for finding in result.findings]
    lines += [f"::warning file={_property(each.path)}::{_text(each.reason)}" for each in result.warnings]
    return "\n".join(lines)


def _finding(finding: Finding) -> str:
    # A notebook's lines are those of a cell: GitHub would show them somewhere else.
    where = f"file={_property(finding.path)}"
    cell = ""
    if finding.cell is None:
        where += f",line={finding.line},endLine={finding.end_line},col={finding.column}"
    else:
        cell = f"cell {finding.cell}, line {finding.line}: "
    title = _property(f"{finding.code} {finding.pattern}")
    reached = f" (reached from {', '.join(finding.endpoints)})" if finding.endpoints else ""
    words = f"{cell}{finding.message}{reached}\nfix: {finding.fix}"
    return f"::{_COMMANDS[finding.severity]} {where},title={title}::{_text(words)}"


def _text(words: str) -> str:
    return words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(words: str) -> str:
    return _text(words).replace(":", "%3A").replace(",", "%2C")
