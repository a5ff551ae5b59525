"""Messages that end with a slug lead to a section of the page of errors, and each section is led to."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pytest_memleak
from pytest_memleak import cli
from pytest_memleak.scan.settings import CODES
from pytest_memleak.slugs import SLUGS, see

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
PACKAGE = Path(pytest_memleak.__file__).parent


def run(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """The exit code and all that was said."""
    done = CliRunner().invoke(cli.app, ["explain", *arguments], env={"COLUMNS": str(columns)})
    return done.exit_code, done.output


def used() -> set[str]:
    """The slugs that the code gives to a message."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "see":
                (slug, _) = node.args
                assert isinstance(slug, ast.Constant), f"{path}:{node.lineno}: a slug is written where it is used"
                found.add(str(slug.value))
    return found


def test_the_slugs_of_the_code_of_the_table_and_of_the_page_are_the_same() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == sorted(SLUGS) == sorted(used())


@pytest.mark.parametrize("slug", SLUGS)
def test_each_section_says_what_it_is_and_what_to_do_within_the_terminal(slug: str) -> None:
    for columns in (80, 120):
        code, said = run(slug, columns=columns)
        lines = said.splitlines()
        assert (code, lines[0]) == (0, slug)
        assert [word for word in ("What.", "What to do.") if any(line.startswith(word) for line in lines)] == [
            "What.",
            "What to do.",
        ]
        assert max(map(len, lines)) <= columns
        assert "**" not in said


def test_without_a_slug_all_are_listed() -> None:
    code, said = run()
    assert code == 0
    assert {line.split()[0] for line in said.splitlines() if line.startswith("  ")} == {*SLUGS, *CODES}
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("word", ["MLK001", "mlk001", "unbounded_cache"])
def test_a_pattern_is_explained_as_by_the_scanner(word: str) -> None:
    scanners = CliRunner().invoke(cli.app, ["scan-code", "--explain", "MLK001"], env={"COLUMNS": "80"})
    assert run(word) == (0, scanners.output)


def test_a_word_that_is_none_is_refused_with_the_nearest() -> None:
    assert run("no-gbd") == (2, "memleak explain: there is no 'no-gbd': did you mean no-gdb?\n")
    assert run("xyzzy") == (2, "memleak explain: there is no 'xyzzy': leave it away to see them all\n")


def test_the_page_is_found_in_an_installed_package_and_its_absence_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "pytest_memleak"
    (installed / "cli").mkdir(parents=True)
    monkeypatch.setattr(sys.modules["pytest_memleak.cli.explain"], "__file__", str(installed / "cli" / "explain.py"))
    code, said = run("no-gdb")
    assert (code, "reinstall pytest-memleak" in said, "Traceback" in said) == (2, True, False)
    (installed / "docs").mkdir()
    shutil.copy(PAGE, installed / "docs" / "errors.md")
    assert run("no-gdb")[0] == 0


def test_the_slug_is_at_the_end_of_the_sentence_before_what_is_listed_below() -> None:
    assert see("no-gdb", "it is not there") == "it is not there (memleak explain no-gdb)"
    assert see("no-gdb", "two fit:\n  1\n  2") == "two fit: (memleak explain no-gdb)\n  1\n  2"


@pytest.mark.parametrize(
    "arguments, slug",
    [
        (["verify", "no-such-folder"], "not-a-run"),
        (["detect", "--name", "no process has this word in its command line"], "which-process"),
        (["fleet", "--prometheus", "http://127.0.0.1:1"], "no-answer-from-store"),
    ],
)
def test_a_refusal_ends_with_a_command_that_explains_it(
    arguments: list[str], slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numpy", reason="the commands need it to begin")
    monkeypatch.chdir(tmp_path)
    # The words themselves stand in the command line of this process otherwise.
    monkeypatch.setattr(sys, "argv", ["pytest"])
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    found = re.search(r"\(memleak explain ([a-z-]+)\)$", done.output.strip())
    assert found is not None, done.output
    assert found.group(1) == slug
    assert run(slug)[0] == 0
