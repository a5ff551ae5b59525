"""What a scan looks like: as text of 80 and 120 columns, JSON, SARIF and annotations."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from pytest_memleak.model_scan import Confidence, Driver, Finding, ScanResult, ScanWarning, Severity
from pytest_memleak.reports import sarif, scan_github, scan_json, scan_text
from pytest_memleak.reports.explain import explain
from pytest_memleak.scan.settings import CODES

GLOBAL = Finding(
    code="MLK002",
    pattern="global_accumulation",
    path="app/handlers.py",
    line=17,
    column=5,
    end_line=17,
    severity=Severity.HIGH,
    confidence=Confidence.HIGH,
    driver=Driver.REQUEST,
    message="app.handlers.SEEN gains an entry per request and nothing is ever removed, so it grows for good",
    source="SEEN.append(item)",
    fix="bound it with collections.deque(maxlen=…), or empty it periodically",
    symbol="read_item",
    holder="app.handlers.SEEN",
    endpoints=("GET /items/{id}", "GET /search"),
    confirmed=True,
)
FILE = Finding(
    code="MLK008",
    pattern="file_handle",
    path="app/a b,c%.py",
    line=3,
    column=9,
    end_line=3,
    severity=Severity.MEDIUM,
    confidence=Confidence.MEDIUM,
    driver=Driver.CALL,
    message="f is opened and never closed",
    source="f = open(path)",
    fix="close it on every path: with open(…) as f: …",
    fixable=True,
)
CELL = dataclasses.replace(FILE, path="notes.ipynb", cell=2)
RESULT = ScanResult(findings=(GLOBAL, FILE), warnings=(), files=12, lines=1200)
WARNED = ScanResult(
    findings=(), warnings=(ScanWarning(path="old.py", reason="Python 2: print is a statement"),), files=1, lines=2
)

TEXT = """\
HIGH (1)

app/handlers.py:17:5 MLK002 global_accumulation
         (confidence high, confirmed by a run)
  issue  app.handlers.SEEN gains an entry per request and nothing is ever
         removed, so it grows for good
         reached from GET /items/{id}, GET /search
  code   SEEN.append(item)
  fix    bound it with collections.deque(maxlen=…), or empty it periodically

MEDIUM (1)

app/a b,c%.py:3:9 MLK008 file_handle (confidence medium)
  issue  f is opened and never closed
  code   f = open(path)
  fix    close it on every path: with open(…) as f: … (--fix does it)

2 findings (1 high, 1 medium; 1 confirmed by a run) in 12 files, 1,200 lines"""


def test_the_whole_text() -> None:
    assert scan_text.report(RESULT, width=80) == TEXT


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_fits(width: int) -> None:
    long = dataclasses.replace(GLOBAL, message="word " * 60, source="x" * 300, endpoints=("GET /a/{b}/c",) * 9)
    text = scan_text.report(dataclasses.replace(RESULT, findings=(long, FILE)), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "GET /a/{b}/c and 6 more" in " ".join(text.split())


def test_a_clean_scan_says_where_it_looked_and_what_it_could_not_read() -> None:
    clean = ScanResult(findings=(), warnings=(), files=1, lines=2)
    assert scan_text.report(clean, width=80, places=("app",)) == "no leak patterns found in app (1 file, 2 lines)"
    assert scan_text.summary(WARNED, places=("app",)).endswith("(1 file, 2 lines); 1 warning")


def test_statistics_count_by_code_and_severity() -> None:
    assert scan_text.statistics(RESULT).splitlines() == [
        "code    pattern                high medium    low    all",
        "MLK002  global_accumulation       1      0      0      1",
        "MLK008  file_handle               0      1      0      1",
    ]


def test_json_has_the_promised_keys() -> None:
    document = json.loads(scan_json.report(RESULT))
    assert list(document) == ["version", "findings", "warnings", "files", "lines"]
    assert document["version"] == 1
    first = "code pattern path line column severity confidence message source fix"
    more = "driver symbol holder endpoints confirmed cell fixable"
    assert list(document["findings"][0]) == [*first.split(), *more.split()]
    assert document["findings"][0]["driver"] == "request"
    assert json.loads(scan_json.report(WARNED))["warnings"] == [
        {"path": "old.py", "reason": "Python 2: print is a statement"}
    ]


def test_annotations_are_escaped() -> None:
    odd = dataclasses.replace(FILE, message="50%\r\n::error::x", endpoints=("GET /a",))
    lines = scan_github.report(dataclasses.replace(WARNED, findings=(GLOBAL, odd, CELL))).split("\n")
    assert len(lines) == 4
    assert lines[0].startswith("::error file=app/handlers.py,line=17,endLine=17,col=5,title=MLK002 global_accumulation")
    assert lines[1] == (
        "::warning file=app/a b%2Cc%25.py,line=3,endLine=3,col=9,title=MLK008 file_handle::"
        "50%25%0D%0A::error::x (reached from GET /a)%0Afix: close it on every path: with open(…) as f: …"
    )
    assert lines[2].startswith("::warning file=notes.ipynb,title=MLK008 file_handle::cell 2, line 3: f is opened")
    assert lines[3] == "::warning file=old.py::Python 2: print is a statement"


def log(*findings: Finding) -> dict[str, Any]:
    result = dataclasses.replace(WARNED, findings=findings)
    text = sarif.report(result, version="1.2", rules=tuple(CODES.items()))
    document: dict[str, Any] = json.loads(text)
    return document


def test_sarif_is_as_the_standard_has_it() -> None:
    document = log(GLOBAL, FILE, CELL)
    assert set(document) == {"$schema", "version", "runs"}
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CODES)
    for rule in rules:
        assert set(rule) == {"id", "name", "shortDescription", "help", "defaultConfiguration"}
    allowed = {
        *("ruleId", "ruleIndex", "level", "rank", "message", "locations", "partialFingerprints", "properties"),
    }
    for result in run["results"]:
        assert set(result) == allowed
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert 0 <= result["rank"] <= 100
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
        assert set(result["message"]) == {"text"}
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri), uri
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 17, "startColumn": 5, "endLine": 17, "snippet": {"text": "SEEN.append(item)"}}
    assert "region" not in run["results"][2]["locations"][0]["physicalLocation"]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_a_fingerprint_stays_when_lines_move_and_tells_two_alike_apart() -> None:
    moved = dataclasses.replace(FILE, line=90, end_line=90, source="f  =  open( path )")
    first, second = log(FILE, moved)["runs"][0]["results"]
    (alone,) = log(moved)["runs"][0]["results"]
    assert alone["partialFingerprints"] == first["partialFingerprints"] != second["partialFingerprints"]


def test_a_rule_is_explained_with_what_it_leaves_alone() -> None:
    text = explain("MLK008", "file_handle", ("a file that is handed on",), width=80)
    assert text.splitlines()[0] == "MLK008 file_handle (MEDIUM)"
    assert "  - a file that is handed on" in text
    assert "# memleak: ignore[MLK008] reason" in text
    assert max(len(line) for line in text.splitlines()) <= 80
