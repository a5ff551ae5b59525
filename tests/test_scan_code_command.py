"""`memleak scan-code` as users type it: real files, real git, right and wrong arguments."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from scan_support import CLEAN, LEAKY, Ended, Scan, command
from typer.testing import CliRunner

from pytest_memleak.cli import app
from pytest_memleak.model_scan import Confidence, Driver, Finding, Severity
from pytest_memleak.scan import baseline, changed, settings


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """The command in a folder with one leaking file."""
    return command(tmp_path, monkeypatch)


def found(result: Ended) -> list[tuple[str, int]]:
    return [(finding["code"], finding["line"]) for finding in json.loads(result.stdout)["findings"]]


def test_a_leak_is_found_and_a_clean_tree_is_clean(scan: Scan) -> None:
    result = scan("--no-cache")
    assert result.exit_code == 1, result
    assert "app.py:5:9 MLK008 file_handle (confidence " in result.stdout
    assert result.stdout.splitlines()[-1].endswith("in 1 file, 6 lines")
    Path("app.py").write_text(CLEAN, encoding="utf-8")
    result = scan("--no-cache")
    assert (result.exit_code, result.stdout) == (0, "no leak patterns found in . (1 file, 3 lines)\n")


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("--select", "MLK008"), 1),
        (("--select", "file_handle,MLK001"), 1),
        (("--select", "unbounded-cache"), 0),
        (("--ignore", "mlk008"), 0),
        (("--severity", "high"), 0),
        (("--exclude", "app.py"), 0),
        (("--confidence", "low"), 1),
        (("app.py",), 1),
    ],
)
def test_what_is_asked_for_is_what_counts(scan: Scan, arguments: Sequence[str], code: int) -> None:
    result = scan("--no-cache", "--format", "json", *arguments)
    assert result.exit_code == code, result
    assert bool(found(result)) == bool(code)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--select", "MLK999"), "--select: expects codes or names of patterns, got 'MLK999'"),
        (("--ignore", "file_handel"), "did you mean MLK008 (file_handle)?"),
        (("--severity", "worst"), "--severity: expects low, medium or high, got 'worst'"),
        (("--format", "xml"), "--format expects text, json, sarif or github, got 'xml'"),
        (("nowhere",), "nowhere does not exist"),
        (("--fix-bounds",), "--fix-bounds goes with --fix or --diff-only"),
        (("--baseline", "none.json"), "baseline none.json cannot be read: No such file or directory"),
        (("--baseline", "app.py"), "baseline app.py is not JSON"),
        (("--explain", "MLK000"), "--explain: expects codes"),
        (("--diff", "-x"), "--diff: expects a commit"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(scan: Scan, arguments: Sequence[str], words: str) -> None:
    result = scan("--no-cache", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_baseline_hides_what_is_known_also_when_it_has_moved(scan: Scan) -> None:
    result = scan("--no-cache", "--write-baseline", "known.json")
    assert (result.exit_code, result.stdout) == (
        0,
        "1 finding written to known.json; use it with --baseline known.json\n",
    )
    Path("app.py").write_text("import os\n\n" + LEAKY, encoding="utf-8")
    assert scan("--no-cache", "--baseline", "known.json").exit_code == 0
    Path("app.py").write_text(LEAKY + "\n\n" + LEAKY.replace("load", "again"), encoding="utf-8")
    result = scan("--no-cache", "--baseline", "known.json", "--format", "json")
    assert (result.exit_code, found(result)) == (1, [("MLK008", 13)])


def test_the_project_settles_what_the_command_line_leaves_open(scan: Scan) -> None:
    Path("pyproject.toml").write_text('[tool.memleak.scan]\nignore = ["file_handle"]\n', encoding="utf-8")
    assert scan("--no-cache").exit_code == 0
    Path("pyproject.toml").write_text('[tool.memleak.scan]\nseverity = "high"\n', encoding="utf-8")
    assert scan("--no-cache").exit_code == 0
    assert scan("--no-cache", "--severity", "low").exit_code == 1


@pytest.mark.parametrize(
    "line, words",
    [
        ("ignor = []", "ignor: unknown key, did you mean 'ignore'? Valid keys: select, ignore, exclude"),
        ('select = "MLK001"', "select: expects a list of text, got 'MLK001'"),
        ("severity = 3", "severity: expects text, got 3"),
        ('confidence = "sure"', "confidence: expects low, medium or high, got 'sure'"),
        ("= 3", "cannot be read"),
        ("exclude = [1]", "exclude: expects a list of text, got [1]"),
        ("exclude = ['']", "exclude: expects a list of text, got ['']"),
        ("select = ['MLK999']", "select: expects codes or names of patterns, got 'MLK999'"),
        ("baseline = true", "baseline: expects text, got True"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.memleak.scan]\n{line}\n", encoding="utf-8")
    with pytest.raises(settings.SettingError) as caught:
        settings.configured(tmp_path)
    assert words in str(caught.value)
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, ["scan-code", "--no-cache"])
    assert (ended.exit_code, isinstance(ended.exception, SystemExit)) == (2, True)


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_only_changed_lines_and_new_files_count(scan: Scan) -> None:
    git("init", "-q")
    git("add", "app.py")
    git("commit", "-qm", "first")
    assert scan("--no-cache", "--diff", "HEAD").exit_code == 0
    Path("app.py").write_text(LEAKY + "\n\n" + LEAKY.replace("load", "again"), encoding="utf-8")
    result = scan("--no-cache", "--diff", "HEAD", "--format", "json")
    assert found(result) == [("MLK008", 13)]
    git("commit", "-qam", "second")
    Path("é new.py").write_text(LEAKY, encoding="utf-8")
    assert found(scan("--no-cache", "--diff", "HEAD", "--format", "json")) == [("MLK008", 5)]
    result = scan("--no-cache", "--diff", "nobody")
    assert (result.exit_code, "there is no commit 'nobody'" in result.stderr) == (2, True)


def test_a_diff_is_read_by_its_counts() -> None:
    diff = (
        '--- a/x\n+++ b/x\n@@ -1 +1,2 @@ def f():\n-a\n+++ b/y\n+@@ -1 +1 @@\n@@ -9,2 +10,0 @@\n-q\n-r\n+++ "b/a\\"b"\n'
    )
    assert changed.parsed(diff + "@@ -0,0 +5 @@\n+x\n") == {
        "x": (range(1, 3), range(10, 10)),
        'a"b': (range(5, 6),),
    }


def test_a_fix_is_shown_then_made(scan: Scan) -> None:
    pytest.importorskip("libcst")
    result = scan("--no-cache", "--diff-only")
    assert result.exit_code == 1
    assert "+    with open(path) as f:" in result.stdout
    assert Path("app.py").read_text(encoding="utf-8") == LEAKY
    result = scan("--no-cache", "--fix")
    assert result.exit_code == 0, result
    assert "fixed 1 finding in 1 file" in result.stderr
    assert Path("app.py").read_text(encoding="utf-8").endswith(CLEAN)


def test_what_cannot_be_read_is_said_and_is_not_clean(scan: Scan) -> None:
    Path("old.py").write_text("print 'x'\n", encoding="utf-8")
    result = scan("--no-cache", "--format", "json")
    assert result.exit_code == 1
    assert "memleak scan-code: warning: old.py: " in result.stderr
    Path("app.py").write_text(CLEAN, encoding="utf-8")
    assert scan("--no-cache").exit_code == 2


def test_a_report_goes_to_a_file_and_a_rule_is_explained(scan: Scan) -> None:
    result = scan("--no-cache", "--format", "sarif", "--output", "out.sarif", "--statistics")
    assert result.exit_code == 1
    assert json.loads(Path("out.sarif").read_text(encoding="utf-8"))["runs"][0]["results"][0]["ruleId"] == "MLK008"
    assert result.stdout.startswith("1 finding (1 medium) in 1 file, 6 lines; written to out.sarif")
    assert "MLK008  file_handle" in result.stderr
    explained = scan("--explain", "file_handle")
    assert explained.exit_code == 0
    assert explained.stdout.startswith("MLK008 file_handle (MEDIUM)")
    assert "not reported:" in explained.stdout


def test_a_baseline_works_from_anywhere_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finding(path: str, source: str) -> Finding:
        return Finding(
            code="MLK008",
            pattern="file_handle",
            path=path,
            line=1,
            column=1,
            end_line=1,
            severity=Severity.LOW,
            confidence=Confidence.LOW,
            driver=Driver.CALL,
            message="",
            source=source,
            fix="",
        )

    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    baseline.write(Path("known.json"), [finding("app/x.py", "f = open(p)")])
    monkeypatch.chdir(tmp_path / "app")
    alike = finding("x.py", "f  =  open( p )")
    assert baseline.fresh(Path("../known.json"), [alike, alike]) == [alike]
