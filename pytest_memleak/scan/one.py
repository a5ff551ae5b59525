"""One file: from its text to its suspects and facts, in values that cross processes and fit the cache."""

from __future__ import annotations

import ast
import dataclasses
import re
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from pytest_memleak.model_scan import Confidence, Driver, Finding, ScanWarning, Severity
from pytest_memleak.patterns.catalogue import BY_NAME
from pytest_memleak.scan import suppressions
from pytest_memleak.scan.facts import Facts, facts
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.plans import plan
from pytest_memleak.scan.routes import Route
from pytest_memleak.scan.sources import Entry, Source, Unreadable, read
from pytest_memleak.scan.suppressions import Suppression
from pytest_memleak.scan.suspect import Suspect

_PRINTS: Final = re.compile(r"^\s*(print\s+[^(=\s]|exec\s+[\"']|raise\s+\w+,|except\s+\w+,)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """A suspect as a finding, before the join; `lines` are those whose comment is about it."""

    finding: Finding
    unless: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What one file gave."""

    shown: str
    lines: int = 0
    leads: tuple[Lead, ...] = ()
    facts: Facts = dataclasses.field(default_factory=Facts)
    comments: tuple[Suppression, ...] = ()
    warning: str = ""
    """Why it was not scanned; empty when it was."""


def scan_entry(entry: Entry, rules: Sequence[ModuleType]) -> Scanned:
    """Scan one file; whatever it is, it ends in a value."""
    try:
        source = read(entry)
        return scan_source(source, entry, rules)
    except Unreadable as why:
        return Scanned(shown=entry.shown, warning=str(why))
    except RecursionError:
        return Scanned(shown=entry.shown, warning="it is nested too deeply to be parsed; split or --exclude it")
    except MemoryError:
        return Scanned(shown=entry.shown, warning="there is not enough memory to parse it; split or --exclude it")


def scan_source(source: Source, entry: Entry, rules: Sequence[ModuleType]) -> Scanned:
    """Scan a text. Raises Unreadable, RecursionError and MemoryError."""
    text = source.text
    module = Module(_parsed(source), entry.name, is_package=entry.is_package)
    lines: list[str] = []
    leads: list[Lead] = []
    for rule in rules:
        for suspect in rule.find(module):
            lines = lines or text.split("\n")
            leads.append(_lead(module, suspect, rule, entry, lines, source.cells))
    return Scanned(
        shown=entry.shown,
        lines=text.count("\n") + (not text.endswith("\n") and bool(text)),
        leads=tuple(leads),
        facts=facts(module),
        comments=suppressions.find(source),
    )


def _parsed(source: Source) -> ast.Module:
    text = source.text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is not this scanner's to report
        try:
            return ast.parse(text)
        except SyntaxError as why:
            where = f" ({source.at(why.lineno)}: {why.msg})" if why.lineno else f" ({why.msg})"
            if _PRINTS.search(text):
                raise Unreadable(f"it does not parse{where}; Python 2? convert or --exclude it") from None
            raise Unreadable(f"it does not parse{where}; correct or --exclude it") from None
        except ValueError as why:
            raise Unreadable(f"it does not parse ({why}); correct or --exclude it") from None


def _lead(
    module: Module,
    suspect: Suspect,
    rule: ModuleType,
    entry: Entry,
    lines: list[str],
    cells: tuple[tuple[int, int], ...],
) -> Lead:
    node = suspect.node
    line: int = getattr(node, "lineno", 1)
    end: int = getattr(node, "end_lineno", None) or line
    text = lines[line - 1]
    # The column counts bytes of UTF-8 in the tree, and characters for the reader.
    column = len(text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore")) + 1
    pattern = BY_NAME[rule.PATTERN]
    cell, shown_line = cells[line - 1] if cells else (None, line)
    finding = Finding(
        code=rule.CODE,
        pattern=rule.PATTERN,
        path=entry.shown,
        line=shown_line,
        column=column,
        end_line=shown_line + end - line,
        severity=Severity(pattern.severity),
        confidence=suspect.confidence,
        driver=suspect.driver,
        message=suspect.message,
        source=text.strip(),
        fix=suspect.fix or pattern.fix,
        symbol=_symbol(module, node),
        holder=suspect.holder,
        cell=cell,
    )
    if cell is None and plan(module, lines, finding, bounds=True) is not None:
        finding = dataclasses.replace(finding, fixable=True)
    about = tuple(sorted(suppressions.lines_of(module, node)))
    return Lead(finding=finding, unless=suspect.unless, lines=about)


def _symbol(module: Module, node: ast.AST) -> str:
    """What a node is in; of a function or class, itself."""
    symbol = module.symbol(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return f"{symbol}.{node.name}" if symbol else node.name
    return symbol


# --- as JSON has it: the cache lies in the project's folder, where nothing that can run code may be read back

_FINDING: Final = tuple(field.name for field in dataclasses.fields(Finding))


def finding_to_plain(finding: Finding) -> list[Any]:
    """A finding as a row."""
    return [getattr(finding, name) for name in _FINDING]


def finding_from_plain(row: list[Any]) -> Finding:
    """A finding from its row. Raises ValueError or TypeError for what is none."""
    values = dict(zip(_FINDING, row, strict=True))
    values["severity"] = Severity(values["severity"])
    values["confidence"] = Confidence(values["confidence"])
    values["driver"] = Driver(values["driver"])
    values["endpoints"] = tuple(values["endpoints"])
    return Finding(**values)


def to_plain(scanned: Scanned) -> list[Any]:
    """What one file gave, for JSON."""
    known = scanned.facts
    return [
        scanned.shown,
        scanned.lines,
        [[finding_to_plain(lead.finding), lead.unless, lead.lines] for lead in scanned.leads],
        [
            known.name,
            known.clears,
            [[route.verb, route.path, route.target, route.router] for route in known.routes],
            known.prefixes,
            known.calls,
            known.classes,
            known.instances,
            known.imports,
        ],
        [[comment.line, comment.codes, comment.at] for comment in scanned.comments],
        scanned.warning,
    ]


def from_plain(row: list[Any]) -> Scanned:
    """The reverse of `to_plain`. Raises ValueError, TypeError or KeyError for anything else."""
    shown, lines, leads, known, comments, warning = row
    name, clears, routes, prefixes, calls, classes, instances, imports = known
    return Scanned(
        shown=shown,
        lines=lines,
        leads=tuple(
            Lead(finding=finding_from_plain(finding), unless=tuple(unless), lines=tuple(about))
            for finding, unless, about in leads
        ),
        facts=Facts(
            name=name,
            clears=tuple(clears),
            routes=tuple(Route(verb=v, path=p, target=t, router=r) for v, p, t, r in routes),
            prefixes=tuple((router, prefix, into) for router, prefix, into in prefixes),
            calls={symbol: tuple(names) for symbol, names in calls.items()},
            classes={symbol: tuple(names) for symbol, names in classes.items()},
            instances=instances,
            imports=imports,
        ),
        comments=tuple(Suppression(line=line, codes=tuple(codes), at=at) for line, codes, at in comments),
        warning=warning,
    )


def warning_of(scanned: Scanned) -> list[ScanWarning]:
    """Why a file was not scanned, if so."""
    return [ScanWarning(path=scanned.shown, reason=scanned.warning)] if scanned.warning else []
