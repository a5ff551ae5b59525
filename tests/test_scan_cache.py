"""`memleak scan-code`: what it keeps between runs, and what it says of what it could not scan or gets by a pipe."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scan_support import CLEAN, LEAKY, Ended, Scan, command

from pytest_memleak.scan import kept, one, registry, sources
from pytest_memleak.scan.sources import Entry, Source


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """The command in a folder with one leaking file."""
    return command(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "content, code, words",
    [
        (b"print 'x'\n", 2, "nothing could be read in only; 1 warning\n"),
        (b"X = 1  # memleak: ignore[MLK001] why\n", 0, "no leak patterns found in only (1 file, 1 line); 1 warning\n"),
        (None, 0, "no Python file to scan in only\n"),
    ],
)
def test_what_was_not_scanned_is_not_called_clean(scan: Scan, content: bytes | None, code: int, words: str) -> None:
    Path("only").mkdir()
    if content is not None:
        Path("only", "one.py").write_bytes(content)
    result = scan("--no-cache", "only")
    assert (result.exit_code, result.stdout) == (code, words)
    assert result.stderr.count("warning") == (content is not None)


def test_a_file_that_no_encoding_can_name_is_shown_as_it_can_be(scan: Scan) -> None:
    try:
        Path("odd\udcff.py").write_text(LEAKY, encoding="utf-8")
    except (OSError, UnicodeError):
        pytest.skip("the file system takes only text as names")
    Path("app.py").unlink()
    assert "odd\\udcff.py:5:9 MLK008" in scan("--no-cache").stdout
    for output_format in ("text", "json", "sarif", "github"):
        assert scan("--no-cache", "--format", output_format, "--output", "report").exit_code == 1
    assert scan("--write-baseline", "known.json").exit_code == 0
    assert scan("--baseline", "known.json").exit_code == 0


def test_a_bug_of_ours_is_no_refusal(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(module: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(registry.RULES[0], "find", find)
    with pytest.raises(ValueError, match="a bug"):
        scan("--no-cache")


def piped(text: str, *arguments: str) -> Ended:
    """The command as a process of its own, with a pipe for its standard input."""
    command = [sys.executable, "-m", "pytest_memleak", "scan-code", *arguments]
    ended = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_a_pipe_is_scanned_once_and_never_kept(scan: Scan) -> None:
    result = piped(LEAKY, "-", "-")
    assert (result.exit_code, result.stdout.count("<stdin>:5:9 MLK008")) == (1, 1)
    assert not Path(".memleak_cache").exists()
    result = piped(LEAKY, "-", "--fix")
    assert (result.exit_code, "--fix and --diff-only rewrite files, and - is none" in result.stderr) == (2, True)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were parsed, as they are shown."""
    seen: list[str] = []

    def read(entry: Entry) -> Source:
        seen.append(entry.shown)
        return sources.read(entry)

    monkeypatch.setattr(one, "read", read)
    return seen


def test_the_cache_spares_what_has_not_changed(scan: Scan, parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("b.py").write_text(CLEAN, encoding="utf-8")
    first = scan()
    assert parsed == ["app.py", "b.py"]
    assert scan() == first
    assert len(parsed) == 2
    Path("b.py").write_text(LEAKY, encoding="utf-8")
    assert (scan().stdout.count("MLK008"), parsed[2:]) == (2, ["b.py"])
    assert scan("--select", "MLK001").exit_code == 0  # other findings of what is known of each file
    assert len(parsed) == 3
    assert (scan("--no-cache").exit_code, len(parsed)) == (1, 5)
    monkeypatch.setattr(kept, "scanner_version", lambda: "another")
    assert (scan().exit_code, len(parsed)) == (1, 7)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stamp": 1}', "\0" * 100, "another\nx\ty\n"])
def test_a_cache_that_cannot_be_used_is_as_none(scan: Scan, content: str) -> None:
    first = scan()
    for file in Path(".memleak_cache", "scan").iterdir():
        file.write_text(content, encoding="utf-8")
    assert scan() == first
    shutil.rmtree(".memleak_cache")
    Path(".memleak_cache").write_text("a file in its place", encoding="utf-8")
    assert scan() == first


def test_a_folder_that_cannot_be_written_costs_only_the_cache(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan("--no-cache")

    def mkdir(path: Path, *arguments: object, **words: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert scan() == first
    assert not Path(".memleak_cache").exists()


def test_what_a_run_has_measured_is_marked(scan: Scan) -> None:
    frame = {"path": "/srv/app.py", "line": 5}
    leak = {"sites": [{"frame": {**frame, "path": "app.py"}, "inner": None}], "holder": None}
    Path("memory.json").write_text(json.dumps({"version": 1, "results": [{"leaks": [leak]}]}), encoding="utf-8")
    Path("a.py").write_text(LEAKY, encoding="utf-8")
    result = scan("--runtime", "memory.json")
    assert result.exit_code == 1
    heads = [line for line in result.stdout.splitlines() if "MLK008" in line]
    assert [head.partition(":")[0] for head in heads] == ["app.py", "a.py"]
    assert result.stdout.splitlines()[-1] == "2 findings (2 medium; 1 confirmed by a run) in 2 files, 12 lines"
    result = scan("--runtime", "absent.json")
    assert (result.exit_code, result.stderr) == (
        2,
        "memleak scan-code: --runtime absent.json cannot be read: No such file or directory\n",
    )
