"""`--fix`: what is rewritten, what is left alone, and that a file is whole at any time."""

from __future__ import annotations

import ast
import codecs
import textwrap
from pathlib import Path

import pytest

from pytest_memleak.model_scan import Confidence, Driver, Finding, Severity
from pytest_memleak.scan.module import Module

pytest.importorskip("libcst")

from pytest_memleak.scan import fixes, rewrites


def finding(source: str, line: int, pattern: str = "file_handle", code: str = "MLK008", holder: str = "") -> Finding:
    text = source.splitlines()[line - 1]
    return Finding(
        code=code,
        pattern=pattern,
        path="app.py",
        line=line,
        column=text.find("open(") + 1,
        end_line=line,
        severity=Severity.MEDIUM,
        confidence=Confidence.HIGH,
        driver=Driver.CALL,
        message="",
        source=text.strip(),
        fix="",
        holder=holder,
    )


def rewritten(source: str, line: int, pattern: str = "file_handle", holder: str = "") -> str | None:
    """The text after the rewrite that is planned for a line; None where none is."""
    made = finding(source, line, pattern, holder=holder)
    plan = rewrites.plan(Module(ast.parse(source)), source.splitlines(), made, bounds=True)
    return None if plan is None else fixes._rewritten(source, plan)


def dedented(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


MENDED = {
    "a block up to the last use": (
        """
        def load(p):
            # the file
            f = open(p)  # opened
            for row in f:
                print(row)
            text = f.read()

            # after
            return text
        """,
        """
        def load(p):
            # the file
            with open(p) as f:  # opened
                for row in f:
                    print(row)
                text = f.read()

            # after
            return text
        """,
    ),
    "a close at the end is the with's": (
        """
        async def save(p, x):
            g = 1
            f = open(p, 'w')
            json.dump(x, f)
            f.close()
            return g
        import json
        """,
        """
        async def save(p, x):
            g = 1
            with open(p, 'w') as f:
                json.dump(x, f)
            return g
        import json
        """,
    ),
    "a file without a name": (
        """
        def load(p):

            f = 1
            x = "é" and f
            return open(p).read().strip()
        """,
        """
        def load(p):

            f = 1
            x = "é" and f
            with open(p) as file:
                return file.read().strip()
        """,
    ),
    "a file for a reader": (
        "import json\ndef load(p):\n\treturn json.load(open(p))['é']\n",
        "import json\ndef load(p):\n\twith open(p) as f:\n\t\treturn json.load(f)['é']\n",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_file_that_is_used_in_one_block_gets_a_with(name: str) -> None:
    before, after = (dedented(text) for text in MENDED[name])
    line = next(number for number, text in enumerate(before.splitlines(), 1) if "open(" in text)
    assert rewritten(before, line) == after


LEFT = {
    "returned": "f = open(p)\nx = f.read()\nreturn f",
    "kept": "f = open(p)\nself.f = f",
    "given to a function that may keep it": "f = open(p)\nx = Reader(f)\nreturn x.all()",
    "read by what outlives it": "import csv\nf = open(p)\nrows = csv.reader(f)\nreturn list(rows)",
    "a generator over it": "f = open(p)\nrows = (row for row in f)\nreturn rows",
    "yielding": "f = open(p)\nfor row in f:\n    yield row",
    "used in a function within": "f = open(p)\ndef g():\n    return f.read()\nreturn g",
    "used in a lambda": "f = open(p)\nreturn lambda: f.read()",
    "used in another block": "if p:\n    f = open(p)\nreturn f.read()",
    "used before, in the round before": "for q in p:\n    if q: f.read()\n    f = open(p)",
    "assigned twice": "f = open(p)\nf.read()\nf = None",
    "never used": "f = open(p)\nreturn 1",
    "a global": "global f\nf = open(p)\nf.read()",
    "deleted": "f = open(p)\nf.read()\ndel f",
    "a method not called": "f = open(p)\nread = f.read\nreturn read",
    "on one line with others": "x = 1; f = open(p); f.read()",
    "after something that may have written it": "return g(p) + open(p).read()",
    "of somebody else": "from shop import open\nf = open(p)\nf.read()",
    "a descriptor": "import os\nf = os.open(p, 0)\nos.close(f)",
    "a default of several": "f = g = open(p)\nf.read()",
    "an argument of a call that may keep it": "return Image(open(p))",
    "in a condition": "if open(p).read():\n    return 1",
    "lazily": "return (x for x in open(p).read())",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_sure_is_left_alone(name: str) -> None:
    source = "def load(self, p):\n" + textwrap.indent(LEFT[name], "    ") + "\n"
    line = next(number for number, text in enumerate(source.splitlines(), 1) if "open(" in text)
    changed = rewritten(source, line)
    if name == "lazily":  # the text has been read before the generator starts
        assert changed is None or "with open(p) as f" in changed
    else:
        assert changed is None


BOUNDS = {
    "from functools import cache, wraps\n@cache\ndef g(x): ...\n": (
        "from functools import cache, wraps, lru_cache\n@lru_cache(maxsize=1024)\ndef g(x): ...\n"
    ),
    "import functools\n@functools.cache\ndef g(x): ...\n": (
        "import functools\n@functools.lru_cache(maxsize=1024)\ndef g(x): ...\n"
    ),
    "from functools import lru_cache as lru\n@lru(None, typed=True)\ndef g(x): ...\n": (
        "from functools import lru_cache as lru\n@lru(maxsize=1024, typed=True)\ndef g(x): ...\n"
    ),
    "from functools import lru_cache\n@lru_cache(maxsize=128)\ndef g(x): ...\n": None,
    "from functools import cache as kept\n@kept\ndef g(x): ...\n": None,
    "from shop import cache\n@cache\ndef g(x): ...\n": None,
}


@pytest.mark.parametrize("source", BOUNDS)
def test_a_cache_gets_a_bound(source: str) -> None:
    assert rewritten(source, 2, "unbounded_cache") == BOUNDS[source]


def test_a_deque_gets_a_bound_where_it_is_made() -> None:
    source = "from collections import deque\nSEEN = deque()\nOTHER = deque()\ndef g(x):\n    SEEN.append(x)\n"
    changed = rewritten(source, 5, "global_accumulation", holder="app.SEEN")
    assert changed == source.replace("SEEN = deque()", "SEEN = deque(maxlen=1000)")
    assert rewritten(source.replace("SEEN = deque()", "SEEN = []"), 5, "global_accumulation", "app.SEEN") is None


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
