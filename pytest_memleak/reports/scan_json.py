"""A scan as JSON, for programs; the keys are promised."""

from __future__ import annotations

import json
from typing import Any

from pytest_memleak.model_scan import Finding, ScanResult


def report(result: ScanResult) -> str:
    """The whole result as one document."""
    return json.dumps(document(result), indent=2)


def document(result: ScanResult) -> dict[str, Any]:
    """The result in plain values."""
    return {
        "version": result.version,
        "findings": [_finding(finding) for finding in result.findings],
        "warnings": [{"path": warning.path, "reason": warning.reason} for warning in result.warnings],
        "files": result.files,
        "lines": result.lines,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "pattern": finding.pattern,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "message": finding.message,
        "source": finding.source,
        "fix": finding.fix,
        "driver": finding.driver.value,
        "symbol": finding.symbol,
        "holder": finding.holder,
        "endpoints": list(finding.endpoints),
        "confirmed": finding.confirmed,
        "cell": finding.cell,
        "fixable": finding.fixable,
    }
