"""`--fix` and the files: a file is whole at any time, and is written as it was found."""

from __future__ import annotations

import codecs
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scan_support import finding

pytest.importorskip("libcst")

from pytest_memleak.scan import engine, fixes

SOURCE = "def load(p):\n    f = open(p)\n    return f.read()\n"
FIXED = "def load(p):\n    with open(p) as f:\n        return f.read()\n"


def mend(folder: Path, before: bytes, monkeypatch: pytest.MonkeyPatch, line: int = 2) -> bytes:
    """Fix a file of a folder and give its bytes."""
    monkeypatch.chdir(folder)
    path = folder / "app.py"
    path.write_bytes(before)
    path.chmod(0o640)
    for fix in fixes.fixes([finding("\n" * (line - 2) + SOURCE, line)], bounds=False):
        assert isinstance(fix, fixes.Fix), fix
        fix.write()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in folder.iterdir()] == ["app.py"]
    return path.read_bytes()


@pytest.mark.parametrize(
    "head, encoding",
    [("", "utf-8"), ("# coding: latin-1\nX = 'é'\n", "latin-1"), ("X = 'é'\n", "utf-8-sig")],
)
def test_encoding_mode_and_line_ends_stay(
    head: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = head.count("\n")
    for end in ("\n", "\r\n"):
        before = (head + SOURCE).replace("\n", end).encode(encoding)
        after = mend(tmp_path, before, monkeypatch, line=2 + lines)
        assert after == (head + FIXED).replace("\n", end).encode(encoding)
        assert after.startswith(codecs.BOM_UTF8) == (encoding == "utf-8-sig")


def test_a_file_that_is_not_as_it_was_scanned_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = b"import os\n\n\n" + SOURCE.encode()
    assert mend(tmp_path, moved, monkeypatch) == moved


def test_a_file_that_changes_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "app.py"
    path.write_text(SOURCE, encoding="utf-8")
    (fix,) = fixes.fixes([finding(SOURCE, 2)], bounds=False)
    assert isinstance(fix, fixes.Fix)
    assert "+    with open(p) as f:\n" in fix.diff()
    path.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(fixes.FixError, match=r"app\.py was left alone: it has changed meanwhile"):
        fix.write()
    assert path.read_text(encoding="utf-8") == "x = 1\n"
    assert [each.name for each in tmp_path.iterdir()] == ["app.py"]


def test_two_findings_of_a_file_are_mended_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = SOURCE + "\n\n" + SOURCE.replace("load", "again")
    (tmp_path / "app.py").write_text(source, encoding="utf-8")
    (fix,) = fixes.fixes([finding(source, 2), finding(source, 7)], bounds=False)
    assert isinstance(fix, fixes.Fix)
    assert fix.after.decode() == FIXED + "\n\n" + FIXED.replace("load", "again")
    assert len(fix.fixed) == 2


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a leak, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "app.py"


def test_a_full_disk_leaves_the_file_as_it_was(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fix,) = fixes.fixes([finding(SOURCE, 2)], bounds=False)
    assert isinstance(fix, fixes.Fix)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(fixes.FixError, match=r"app\.py was left alone: No space left on device"):
        fix.write()
    assert [each.name for each in written.parent.iterdir()] == ["app.py"]
    assert written.read_text(encoding="utf-8") == SOURCE


KILLED = """
import os, signal, sys
from pytest_memleak.cli import app
setattr(os, sys.argv.pop(1), lambda *given: os.kill(os.getpid(), signal.SIGKILL))
app()
"""


@pytest.mark.parametrize("moment", ["fsync", "chmod"])
def test_a_fix_that_is_killed_leaves_a_whole_file(written: Path, moment: str) -> None:
    command = [sys.executable, "-c", KILLED, moment, "scan-code", "app.py", "--fix", "--no-cache"]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert written.read_text(encoding="utf-8") == SOURCE
    command[1:4] = ["-m", "pytest_memleak"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert written.read_text(encoding="utf-8") == FIXED


def test_a_second_fix_changes_nothing(written: Path) -> None:
    for expected in (1, 0):
        found = engine.scan(["app.py"]).findings
        assert len(found) == expected
        assert all(each.fixable for each in found)
        for fix in fixes.fixes(found, bounds=True):
            assert isinstance(fix, fixes.Fix)
            fix.write()
    assert written.read_text(encoding="utf-8") == FIXED


def test_what_no_rewrite_is_sure_for_is_not_promised(written: Path) -> None:
    written.write_text("def load(p):\n    f = open(p)\n    g = f.read\n    return g()\n", encoding="utf-8")
    assert [each.fixable for each in engine.scan(["app.py"]).findings] in ([], [False])


def test_lines_are_counted_as_the_parser_counts_them(written: Path) -> None:
    odd = "X = '\x1c \u2028 \x85'\n\f\n# \v\n"
    written.write_text(odd + SOURCE, encoding="utf-8")
    (fix,) = fixes.fixes(engine.scan(["app.py"]).findings, bounds=False)
    assert isinstance(fix, fixes.Fix)
    assert fix.after.decode() == odd + FIXED
