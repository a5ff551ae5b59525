"""The scan as a whole: what is read, what is warned of, what comments and a measured run do, and the cache."""

from __future__ import annotations

import concurrent.futures
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_memleak.model_scan import Driver, ScanResult, Severity
from pytest_memleak.scan import engine, sources
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.one import Scanned
from pytest_memleak.scan.project import severity_of
from pytest_memleak.scan.registry import RULES
from pytest_memleak.scan.sources import Entry, ScanRefused

LEAK = "SEEN = []\n\n\ndef add(item):\n    SEEN.append(item)\n"


def scan(folder: Path, files: Mapping[str, str | bytes], **options: object) -> ScanResult:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return engine.scan(["."], processes=1, **options)  # type: ignore[arg-type]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_finding_says_where_and_what(here: Path) -> None:
    (finding,) = scan(here, {"app/__init__.py": "", "app/log.py": LEAK}).findings
    assert (finding.code, finding.path, finding.line, finding.column) == ("MLK002", "app/log.py", 5, 5)
    assert (finding.source, finding.symbol, finding.holder) == ("SEEN.append(item)", "add", "app.log.SEEN")


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"print 'two'\n", "Python 2?"),
        (b"def f(:\n", "does not parse"),
        (b"a = 1\0\n", "NUL bytes"),
        (b"\xff\xfea\0", "UTF-16"),
        (b"# coding: nonsense\n", "cannot be decoded"),
        (b"a = '\xff'\n", "cannot be decoded"),
        (b"#" * 2_100_000, "above 2 MB"),
        (b"(" * 5_000 + b")" * 5_000, ""),
    ],
)
def test_what_cannot_be_read_is_one_warning_and_the_rest_is_scanned(here: Path, content: bytes, reason: str) -> None:
    result = scan(here, {"bad.py": content, "good.py": LEAK})
    (warning,) = result.warnings
    assert warning.path == "bad.py"
    assert reason in warning.reason
    assert (result.files, len(result.findings)) == (1, 1)


def test_where_the_rights_are_missing_is_one_warning_and_the_rest_is_scanned(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, read = os.scandir, sources._bytes

    def scandir(folder: str) -> Any:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    def refuse(path: str) -> bytes:
        if path.endswith("secret.py"):
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(sources, "_bytes", refuse)
    result = scan(here, {"locked/a.py": LEAK, "secret.py": LEAK, "good.py": LEAK})
    assert [warning.path for warning in result.warnings] == ["locked", "secret.py"]
    assert all("(Permission denied)" in warning.reason for warning in result.warnings)
    assert [finding.path for finding in result.findings] == ["good.py"]


@pytest.mark.parametrize("error, words", [(MemoryError, "not enough memory"), (RecursionError, "nested too deeply")])
def test_a_file_that_is_too_much_for_a_rule_loses_only_itself(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], words: str
) -> None:
    (rule,) = (rule for rule in RULES if rule.CODE == "MLK001")
    find = rule.find

    def stumble(module: Module) -> Any:
        if module.name == "big":
            raise error
        return find(module)

    monkeypatch.setattr(rule, "find", stumble)
    result = scan(here, {"big.py": LEAK, "good.py": LEAK})
    assert [(warning.path, words in warning.reason) for warning in result.warnings] == [("big.py", True)]
    assert [finding.path for finding in result.findings] == ["good.py"]


def test_a_pipe_is_read_only_where_it_was_named(here: Path) -> None:
    os.mkfifo(here / "pipe.py")
    (here / "link.py").symlink_to("pipe.py")
    result = scan(here, {"good.py": LEAK})
    assert [(warning.path, "pipe" in warning.reason) for warning in result.warnings] == [
        ("link.py", True),
        ("pipe.py", True),
    ]
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        written = thread.submit((here / "pipe.py").write_text, LEAK)  # waits for its reader
        named = engine.scan(["pipe.py"], cache_dir=here / "cache")
        assert written.result() == len(LEAK)
    assert [finding.path for finding in named.findings] == ["pipe.py"]
    assert not (here / "cache").exists()


def test_a_link_to_itself_is_one_warning(here: Path) -> None:
    (here / "self").symlink_to("self")
    (here / "self.py").symlink_to("self.py")
    result = scan(here, {"good.py": LEAK})
    assert [warning.path for warning in result.warnings] == ["self", "self.py"]
    assert len(result.findings) == 1


@pytest.mark.parametrize(
    "paths, exclude, scanned",
    [
        (["tests/a.py", "app/a.py"], ["tests"], ["app/a.py"]),
        (["tests/a.py", "app/a.py"], ["tests/*"], ["app/a.py"]),
        (["tests/a.py"], ["a.py"], []),
        (["tests"], ["tests"], ["tests/a.py"]),
        (["build/a.py"], [], ["build/a.py"]),
    ],
)
def test_a_hook_that_names_each_file_gets_no_more_than_the_project_wants(
    here: Path, paths: list[str], exclude: list[str], scanned: list[str]
) -> None:
    scan(here, {f"{folder}/a.py": LEAK for folder in ("tests", "app", "build")})
    assert [finding.path for finding in engine.scan(paths, exclude=exclude).findings] == scanned


def test_encodings_and_an_invalid_escape_are_read_in_silence(here: Path) -> None:
    latin = b"# -*- coding: latin-1 -*-\n# caf\xe9 '\\d'\n" + LEAK.encode()
    result = scan(here, {"bom.py": b"\xef\xbb\xbf" + LEAK.encode(), "latin.py": latin, "escape.py": "A = '\\d'\n"})
    assert not result.warnings
    assert [finding.path for finding in result.findings] == ["bom.py", "latin.py"]


def test_excluded_folders_and_loops_of_links(here: Path) -> None:
    (here / "loop").symlink_to(here)
    (here / "dangling.py").symlink_to(here / "absent.py")
    files = {".venv/a.py": LEAK, "own/a.py": LEAK, "app/b.py": LEAK, "app/b.pyi": LEAK}
    result = scan(here, files, exclude=["own"])
    assert [finding.path for finding in result.findings] == ["app/b.py"]
    assert [warning.path for warning in result.warnings] == ["dangling.py"]


def test_a_notebook_counts_in_cells(here: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "source": ["text"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!ls\n", "SEEN = []"]},
        {"cell_type": "code", "source": "def add(item):\n    SEEN.append(item)"},
    ]
    (finding,) = scan(here, {"a.ipynb": json.dumps({"cells": cells})}).findings
    assert (finding.cell, finding.line, finding.end_line) == (3, 2, 2)
    cells[2]["source"] = ["X = 1\n", "Y = (2  # memleak: ignore[MLK001] why"]
    result = scan(here, {"a.ipynb": json.dumps({"cells": cells})})
    assert ["(cell 3, line 2: '(' was never closed)" in warning.reason for warning in result.warnings] == [True]
    cells[2]["source"] = ["X = 1\n", "Y = 2  # memleak: ignore[MLK001] why"]
    (warning,) = scan(here, {"a.ipynb": json.dumps({"cells": cells})}).warnings
    assert (warning.reason, warning.is_unread) == ("unused ignore[MLK001] at cell 3, line 2: remove it", False)


def test_a_path_that_is_not_there_is_refused(here: Path) -> None:
    with pytest.raises(ScanRefused, match="absent does not exist"):
        engine.scan(["absent"])
    with pytest.raises(ScanRefused, match="MLK999 is no code"):
        engine.scan(["."], select=["MLK999"])


@pytest.mark.parametrize("comment", ["# memleak: ignore[MLK002] known", "# memleak: ignore", "#memleak:ignore[mlk002]"])
def test_a_comment_takes_a_finding_back(here: Path, comment: str) -> None:
    result = scan(here, {"a.py": LEAK.replace("(item)\n", f"(item)  {comment}\n").replace("(item):", "(item):")})
    assert not result.findings
    assert not result.warnings


def test_a_comment_of_no_use_is_reported_and_text_is_no_comment(here: Path) -> None:
    result = scan(here, {"a.py": "A = '# memleak: ignore'\nB = 1  # memleak: ignore[MLK001]\n"})
    assert [warning.reason for warning in result.warnings] == ["unused ignore[MLK001] at line 2: remove it"]


def test_another_file_that_empties_a_global_clears_it(here: Path) -> None:
    other = "from app import log\n\n\ndef drop():\n    log.SEEN.clear()\n"
    assert not scan(here, {"app/__init__.py": "", "app/log.py": LEAK, "app/other.py": other}).findings


def test_severity_follows_the_driver() -> None:
    assert severity_of("thread_pool", Driver.REQUEST) is Severity.HIGH
    assert severity_of("unbounded_cache", Driver.INSTANCE) is Severity.MEDIUM
    assert severity_of("unbounded_cache", Driver.CALL) is Severity.HIGH
    assert severity_of("unbounded_cache", Driver.IMPORT) is Severity.LOW


def test_a_measured_place_comes_first(here: Path) -> None:
    frame = {"path": "z.py", "line": 6}
    report = {"version": 1, "results": [{"leaks": [{"sites": [{"frame": frame, "inner": None}], "holder": None}]}]}
    (here / "RESULT.json").write_text(json.dumps(report))
    result = scan(here, {"a.py": LEAK, "z.py": LEAK}, runtime="RESULT.json")
    assert [(finding.path, finding.confirmed) for finding in result.findings] == [("z.py", True), ("a.py", False)]
    (here / "RESULT.json").write_text("[]")
    with pytest.raises(ScanRefused, match="no result of a --memleak run"):
        engine.scan(["."], runtime="RESULT.json")


@pytest.mark.parametrize(
    "holder, confirmed",
    [
        ("app.log.SEEN", True),
        ("log.SEEN", True),
        ("shop.app.log.SEEN", True),
        ("SEEN", False),
        ("other.SEEN", False),
        ("app.log.SEEN_ALSO", False),
    ],
)
def test_what_is_held_by_the_container_of_a_finding_confirms_it(here: Path, holder: str, confirmed: bool) -> None:
    frame = {"path": "elsewhere.py", "line": 900}
    leak = {"sites": [{"frame": frame, "inner": None}], "holder": {"name": holder}}
    (here / "RESULT.json").write_text(json.dumps({"version": 1, "results": [{"leaks": [leak]}]}))
    (finding,) = scan(here, {"app/__init__.py": "", "app/log.py": LEAK}, runtime="RESULT.json").findings
    assert finding.confirmed is confirmed


def test_the_cache_gives_the_same_and_sees_a_change(here: Path) -> None:
    cache = here / ".memleak_cache" / "scan"
    first = scan(here, {"a.py": LEAK, "b.py": LEAK}, cache_dir=cache)
    assert (here / ".memleak_cache" / ".gitignore").read_text() == "*\n"
    assert engine.scan(["."], cache_dir=cache) == first
    changed = scan(here, {"b.py": LEAK + "\n\nSEEN.clear()\nA = 1\n"}, cache_dir=cache)
    assert changed == engine.scan(["."])
    for kept in cache.iterdir():
        kept.write_text("{")
    assert engine.scan(["."], cache_dir=cache) == changed


def test_processes_give_the_same_as_one(here: Path) -> None:
    files = {f"m{number}.py": LEAK for number in range(70)}
    assert scan(here, files) == engine.scan(["."], processes=2)


def die_of_the_third(entries: Sequence[Entry]) -> list[Scanned]:
    """What a worker does, in its own process: it ends without a word at one of the files."""
    if any(entry.shown == "3.py" for entry in entries):
        os._exit(1)
    return [Scanned(shown=entry.shown) for entry in entries]


def test_a_worker_that_dies_loses_only_its_file() -> None:
    entries = [
        Entry(path=f"{n}.py", shown=f"{n}.py", name=str(n), is_package=False, mtime_ns=0, size=10) for n in range(6)
    ]
    scanned = list(engine._in_processes(entries, 2, die_of_the_third))
    assert sorted(file.shown for file in scanned) == [entry.shown for entry in entries]
    assert [(file.shown, file.warning) for file in scanned if file.warning] == [
        ("3.py", "the process that scanned it ended; --exclude it")
    ]
