"""A scan as SARIF 2.1.0, which code hosts and editors read.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13 (log) to 3.54 (location).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from pytest_memleak.model_scan import Confidence, Finding, ScanResult, Severity
from pytest_memleak.patterns.catalogue import BY_NAME

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
_RANKS: Final = {Confidence.HIGH: 90.0, Confidence.MEDIUM: 60.0, Confidence.LOW: 30.0}
"""SARIF's rank, 0 to 100: how sure, where the level says how bad."""


def report(result: ScanResult, *, version: str, rules: Sequence[tuple[str, str]]) -> str:
    """The whole log. `rules` are all codes with their patterns, found or not."""
    return json.dumps(document(result, version=version, rules=rules), indent=2)


def document(result: ScanResult, *, version: str, rules: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The log in plain values."""
    # What is found has a rule, also one that the list does not know.
    every = list(dict.fromkeys([*rules, *((finding.code, finding.pattern) for finding in result.findings)]))
    index = {code: number for number, (code, _) in enumerate(every)}
    driver = {"name": "memleak", "version": version, "rules": [_rule(code, pattern) for code, pattern in every]}
    invocation = {
        "executionSuccessful": not any(each.is_unread for each in result.warnings),
        "toolExecutionNotifications": [
            {"level": "warning", "message": {"text": each.reason}, "locations": [_location(each.path)]}
            for each in result.warnings
        ],
    }
    alike: Counter[str] = Counter()
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, index[finding.code], alike) for finding in result.findings],
            }
        ],
    }


def _rule(code: str, pattern: str) -> dict[str, Any]:
    known = BY_NAME.get(pattern)
    rule: dict[str, Any] = {"id": code, "name": "".join(word.capitalize() for word in pattern.split("_"))}
    if known is not None:
        rule["shortDescription"] = {"text": f"{pattern}: {known.looks_like}"}
        rule["help"] = {"text": known.fix}
        rule["defaultConfiguration"] = {"level": _LEVELS[Severity(known.severity)]}
    return rule


def _result(finding: Finding, index: int, alike: Counter[str]) -> dict[str, Any]:
    fingerprint = _fingerprint(finding)
    alike[fingerprint] += 1
    reached = f"; reached from {', '.join(finding.endpoints)}" if finding.endpoints else ""
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "rank": _RANKS[finding.confidence],
        "message": {"text": f"{finding.message}{reached}. Fix: {finding.fix}"},
        "locations": [_place(finding)],
        "partialFingerprints": {"memleak/v1": f"{fingerprint}:{alike[fingerprint]}"},
        "properties": {
            "pattern": finding.pattern,
            "confidence": finding.confidence.value,
            "driver": finding.driver.value,
            "confirmed": finding.confirmed,
        },
    }
    if finding.cell is not None:
        result["properties"]["cell"] = finding.cell
    return result


def _place(finding: Finding) -> dict[str, Any]:
    # A notebook's lines are those of a cell, and SARIF's are those of the file.
    location = _location(finding.path)
    if finding.cell is None:
        location["physicalLocation"]["region"] = {
            "startLine": finding.line,
            "startColumn": finding.column,
            "endLine": max(finding.end_line, finding.line),
            "snippet": {"text": finding.source},
        }
    if finding.symbol:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.symbol}]
    return location


def _location(path: str) -> dict[str, Any]:
    pure = PurePath(path)
    uri = pure.as_uri() if pure.is_absolute() else quote(pure.as_posix(), errors="surrogateescape")
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}


def _fingerprint(finding: Finding) -> str:
    """What stays when lines move: as the baseline knows a finding."""
    words = "\0".join((finding.code, finding.path, finding.symbol, "".join(finding.source.split())))
    return hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:32]
