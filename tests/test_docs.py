"""The docs: their code runs, their commands and options exist, their tables and links are right.

How blocks of Python make projects is said in `docs_support`. The commands run in `test_docs_commands`, and in
`test_docs_outputs` those whose output is shown.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import re
import shlex
import subprocess
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from docs_support import FRAGMENT, PAGES, ROOT, blocks, lay_out, links, slugs, stages, tables
from plugin_support import measure, output_of, results, run
from typer.testing import CliRunner

from pytest_memleak import cli
from pytest_memleak.model import Result
from pytest_memleak.settings import ALL_OPTIONS, OPTIONS, SOAK_OPTIONS, Option

STAGES = [(page, stage) for page in PAGES for stage in range(len(stages(page)))]


def names(pages: Sequence[Path]) -> list[str]:
    return [page.stem for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_block_of_python_says_what_it_is_and_compiles(page: Path) -> None:
    for code in blocks(page, "python"):
        first = code.partition("\n")[0]
        assert first == FRAGMENT or re.fullmatch(r"# (app|tests)/\w+\.py", first), f"{page.name}: {first!r}"
        ast.parse(code)


@pytest.mark.parametrize("page, stage", STAGES, ids=[f"{page.stem}-{stage}" for page, stage in STAGES])
def test_the_code_runs(page: Path, stage: int, pytester: pytest.Pytester) -> None:
    lay_out(pytester.path, page, stage)
    result = run(pytester, "-opythonpath=.")
    assert result.ret == pytest.ExitCode.OK, output_of(result)


def test_start_here_repairs_its_leak(pytester: pytest.Pytester) -> None:
    lay_out(pytester.path, ROOT / "docs" / "start-here.md", 1)
    result = measure(pytester, "-opythonpath=.", "tests/test_patterns.py", "-k", "search or visits")
    result.assert_outcomes(passed=2, deselected=2)
    assert {found["outcome"] for found in results(pytester).values()} == {"CLEAN"}


def default(option: Option) -> str:
    """An option's default as the tables show it."""
    if option.default in (None, "", ()):
        return "none"
    if isinstance(option.default, str):
        return f"`{option.default}`"
    return "off" if option.default is False else f"{option.default:g}"


def test_the_table_of_arguments_is_the_markers() -> None:
    expected = [
        [f"`{option.name}`", option.unit or option.kind, default(option), option.help]
        for option in OPTIONS
        if option.marker
    ]
    assert tables(ROOT / "README.md")["argument/4"] == expected


def test_the_table_of_options_is_that_of_whole_runs() -> None:
    expected = [
        [f"`{option.flag}`", f"`{option.ini}`", default(option), option.help] for option in OPTIONS if not option.marker
    ]
    assert tables(ROOT / "README.md")["command line/4"] == expected


def test_the_table_of_the_soaks_options_is_theirs() -> None:
    expected = [
        [
            f"`{option.name}`" if option.marker else "",
            f"`{option.flag}`" if option.config else "",
            _duration(option) or default(option),
            option.help,
        ]
        for option in SOAK_OPTIONS
    ]
    assert tables(ROOT / "docs" / "verifying-a-fix.md")["argument/4"] == expected


def _duration(option: Option) -> str:
    return f"{option.default / 60:g}m" if option.kind == "duration" and option.default else ""


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_option_that_is_named_exists(page: Path) -> None:
    known = {option.flag for option in ALL_OPTIONS} | {option.ini for option in ALL_OPTIONS if option.config}
    # the monitor's metrics have the same beginning
    sources = (ROOT / "pytest_memleak" / "monitor").glob("*.py")
    known |= {name for path in sources for name in re.findall(r"\bmemleak_[a-z_]+", path.read_text(encoding="utf-8"))}
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/-])--memleak[a-z-]*", text) + re.findall(r"(?<![\w.])memleak_[a-z_]+", text)
    assert {name for name in named if name.removesuffix("_bucket") not in known} == set()


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page's shell blocks, as words."""
    for line in "".join(blocks(page, "sh")).replace("&&", "\n").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.fixture(scope="module")
def helps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the programs of the docs say of themselves: `pytest`, and `memleak` with each subcommand."""
    registered = [(command.name, getattr(command.callback, "__name__", "")) for command in cli.app.registered_commands]
    subcommands = [name or function.replace("_", "-") for name, function in registered]
    told = {f"memleak {name}": CliRunner().invoke(cli.app, [name, "--help"]).output for name in subcommands}
    command = [sys.executable, "-m", "pytest", "--help"]
    folder = tmp_path_factory.mktemp("helps")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return {**told, "pytest": done.stdout}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_command_exists(page: Path, helps: dict[str, str]) -> None:
    extras = importlib.metadata.metadata("pytest-memleak").get_all("Provides-Extra") or []
    for words in commands(page):
        if words[:4] == ["python", "-m", "pip", "install"]:
            asked = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert set(",".join(asked).split(",")) - {""} <= set(extras)
        elif words != ["tox"]:
            program = words[0] if words[0] == "pytest" else " ".join(words[:2])
            # Behind `--` stands the user's own command.
            ours = words[: words.index("--")] if "--" in words else words
            options = [word.partition("=")[0] for word in ours if word.startswith("-")]
            assert [one for one in options if not re.search(rf"(?<![\w-]){one}(?![\w-])", helps[program])] == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), link
            assert not anchor or anchor in slugs(target), link


def fields(kind: type, prefix: str = "") -> Iterator[str]:
    """The dotted names of a frozen value's fields in JSON, lists marked by `[]`."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield from _fields_of(hints[field.name], prefix + field.name)


def _fields_of(hint: object, name: str) -> Iterator[str]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield from fields(hint, name + ".")
    elif typing.get_origin(hint) is tuple:
        yield from _fields_of(typing.get_args(hint)[0], name + "[]")
    elif isinstance(hint, types.UnionType):
        yield from _fields_of(typing.get_args(hint)[0], name)
    else:
        yield name


def test_the_table_of_json_fields_is_the_models() -> None:
    shown = [row[0].strip("`") for row in tables(ROOT / "docs" / "reading-the-report.md")["field/2"]]
    assert shown == list(fields(Result))
