"""The pages of the leak patterns: the scanner finds what they call bad, and nothing in what they call good."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import jsonschema
import pytest
from docs_support import ROOT, blocks, links, tables
from typer.testing import CliRunner

from pytest_memleak import cli
from pytest_memleak.model_scan import Finding
from pytest_memleak.patterns.catalogue import BY_NAME
from pytest_memleak.scan.settings import CODES

FOLDER = ROOT / "docs" / "patterns"
EACH_PATTERN = pytest.mark.parametrize("code, pattern", CODES.items(), ids=CODES.values())


def code_under(pattern: str, heading: str) -> str:
    """The file that a pattern's page shows under a heading."""
    text = (FOLDER / f"{pattern}.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}$(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert section, f"{pattern}: no section {heading}"
    block = re.search(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert block, f"{pattern}: no code under {heading}"
    return block[1]


def findings(folder: Path, code: str) -> list[Finding]:
    """What a scan of one file says, whatever its confidence."""
    from pytest_memleak.scan import engine

    path = folder / code.partition("\n")[0].removeprefix("# ")
    path.parent.mkdir()
    path.write_text(code, encoding="utf-8")
    result = engine.scan([str(folder)], select=(), ignore=(), exclude=(), cache_dir=None, runtime=None)
    assert not result.warnings
    return list(result.findings)


@EACH_PATTERN
def test_the_bad_code_is_found_once_and_for_sure(code: str, pattern: str, tmp_path: Path) -> None:
    found = findings(tmp_path, code_under(pattern, "Bad"))
    assert [(one.code, one.pattern) for one in found] == [(code, pattern)]
    assert found[0].confidence.value != "LOW"


@EACH_PATTERN
def test_the_report_is_as_the_page_prints_it(
    code: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    findings(tmp_path, code_under(pattern, "Bad"))
    ended = CliRunner().invoke(cli.app, ["scan-code", "app", "--no-cache"])
    assert [ended.output] == blocks(FOLDER / f"{pattern}.md", "text")


@EACH_PATTERN
def test_the_bad_code_can_be_accepted(code: str, pattern: str, tmp_path: Path) -> None:
    bad = code_under(pattern, "Bad")
    first = tmp_path / "first"
    first.mkdir()
    (found,) = findings(first, bad)
    lines = bad.splitlines()
    lines[found.line - 1] += f"  # memleak: ignore[{code}] it is an example"
    second = tmp_path / "second"
    second.mkdir()
    assert findings(second, "\n".join(lines) + "\n") == []


@EACH_PATTERN
def test_nothing_is_found_in_the_good_code(code: str, pattern: str, tmp_path: Path) -> None:
    assert findings(tmp_path, code_under(pattern, "Good")) == []


@EACH_PATTERN
def test_the_ignores_of_a_page_name_its_code(code: str, pattern: str) -> None:
    named = re.findall(r"memleak: ignore\[(\w+)\] \w", (FOLDER / f"{pattern}.md").read_text(encoding="utf-8"))
    assert named == [code]


def plain(text: str) -> str:
    """A sentence without its typography."""
    bare = " ".join(text.replace("`", "").split()).rstrip(".")
    return bare[:1].lower() + bare[1:]


@EACH_PATTERN
def test_what_is_not_reported_is_what_the_rule_says(code: str, pattern: str) -> None:
    rule: types.ModuleType = importlib.import_module(f"pytest_memleak.scan.rules.{pattern}")
    assert (code, pattern) == (rule.CODE, rule.PATTERN)
    text = (FOLDER / f"{pattern}.md").read_text(encoding="utf-8")
    section = text.partition("## What it does not report\n")[2].partition("\n## ")[0]
    items = section.strip().removeprefix("- ").split("\n- ")
    assert [plain(item) for item in items] == [plain(sentence) for sentence in rule.NOT_REPORTED]


def test_the_log_of_all_patterns_is_valid_sarif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for pattern in CODES.values():
        Path("a b", pattern).mkdir(parents=True)
        Path("a b", pattern, "bad.py").write_text(code_under(pattern, "Bad"), encoding="utf-8")
    bad = code_under("file_handle", "Bad")
    Path("a b", "é.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": bad}]}), encoding="utf-8")
    Path("a b", "two.py").write_text("print 'two'\n", encoding="utf-8")
    Path("a b", "unused.py").write_text("X = 1  # memleak: ignore[MLK001] nothing\n", encoding="utf-8")
    frame = {"path": "a b/file_handle/bad.py", "line": bad.count("\n", 0, bad.index("= open(")) + 1}
    leak = {"sites": [{"frame": frame, "inner": None}], "holder": None}
    Path("memory.json").write_text(json.dumps({"version": 1, "results": [{"leaks": [leak]}]}), encoding="utf-8")
    asked = ["scan-code", "a b", "--no-cache", "--runtime", "memory.json", "--format", "sarif", "--output", "log.sarif"]
    assert CliRunner().invoke(cli.app, asked).exit_code == 1
    log = json.loads(Path("log.sarif").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "tests" / "schemas" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.validate(log, schema)
    (run,) = log["runs"]
    assert {result["ruleId"] for result in run["results"]} == set(CODES)
    assert run["results"][0]["properties"]["confirmed"]
    assert any("cell" in result["properties"] for result in run["results"])
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == 2
    log["runs"][0]["results"][0]["level"] = "worst"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, schema)


def test_the_table_of_patterns_is_the_catalogue() -> None:
    expected = [
        [code, f"[`{name}`]({name}.md)", BY_NAME[name].severity, BY_NAME[name].looks_like, BY_NAME[name].fix]
        for code, name in CODES.items()
    ]
    assert tables(FOLDER / "index.md")["code/5"] == expected


def test_the_guide_leads_to_each_pattern() -> None:
    led = {Path(link).stem for link in links(ROOT / "docs" / "debugging-guide.md") if "patterns/" in link}
    assert led == {*CODES.values(), "index"}


def test_each_page_shows_how_to_scan_and_how_to_measure() -> None:
    for pattern in CODES.values():
        shown = "".join(blocks(FOLDER / f"{pattern}.md", "sh"))
        assert "memleak scan-code app" in shown
        assert "pytest --memleak tests/test_" in shown


def test_the_benchmark_judges_labelled_places(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one_package/bad.py", code_under("file_handle", "Bad"))
        wheel.writestr("one_package/good.py", code_under("file_handle", "Good"))
    lines = code_under("file_handle", "Bad").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "= open(" in text)
    header = ["package", "version", "path", "line", "pattern", "label", "reason", "confidence"]
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerow(["one-package", "1.0", "one_package/bad.py", line + 1, "file", "tp", "never closed", "high"])
        writer.writerow(["one-package", "1.0", "one_package/good.py", line, "file", "fp", "closed by with", "high"])
        writer.writerow(["one-package", "1.0", "one_package/good.py", 5, "task", "tp", "there is none", "medium"])
    command = [sys.executable, str(ROOT / "benchmarks" / "scan.py"), "labels"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ended = subprocess.run(
        [*command, "--labels", str(tmp_path / "labels.csv"), "--wheels", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [line.split() for line in ended.stdout.splitlines() if line.startswith("together")]
    assert rows[0] == ["together", "1", "of", "1", "0", "of", "1", "1.00", "1.00"]
    assert rows[1] == ["together", "1", "of", "2", "0", "of", "1", "1.00", "0.50"]
    assert ended.stdout.splitlines()[-1] == "missed (arguable): task one_package/good.py:5: there is none"
