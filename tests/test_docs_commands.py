"""Each command of the docs runs, but for those that are marked: `<!-- not run: needs a cluster -->`.

A command that several pages show in projects alike runs once. Whether it prints what is shown is for
`test_docs_outputs`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from docs_measured import COMMANDS as MEASURED
from docs_scene import Scene, overlaid, set_up, shell, shorter
from docs_support import PAGES, ROOT, Block, blocks, fenced, stages, tables

MADE_FIRST = (
    "pytest --memleak --memleak-json=memory.json",
    "memleak scan-code app --write-baseline memleak-baseline.json",
    "memleak soak shop.main:app --duration 30m --users 20 --locustfile locustfile.py --out before",
    "while sleep 30; do date; kubectl top pods; done | tee top.log    # an hour later:",
)
"""What other commands take, made as the pages make it."""

NOT_RUN = [
    ("README", "not run: builds what is in the checkout"),
    ("README", "not run: it is what runs the tests"),
    ("comparison", "not run: installs the other tools"),
    ("observability", "not run: needs Docker"),
    ("observability", "not run: needs a cluster"),
]
"""Every block of the docs that nothing runs. To add one is to say that readers are the first who try it."""

SHELLS = ("sh", "console")
OF_THE_PAGE = re.compile(r"pytest --memleak( .*tests/test_\w+\.py)?")
"""Commands that run the Python of their page, where it has some; the same with other options runs once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command, where it is shown, and the page whose Python it runs, if it does."""

    command: str
    block: Block
    page: Path | None


def commands() -> dict[str, Shown]:
    """The commands to run, by what they are: those that differ when shortened, or run in another project."""
    found: dict[str, Shown] = {}
    ready = {shorter(command) for command in MADE_FIRST}
    for block in (block for page in PAGES for block in fenced(page) if block.language in SHELLS and not block.comment):
        for command in "\n".join(block.commands).replace("\ncd ", " && cd ").splitlines():
            page = block.page if stages(block.page) and OF_THE_PAGE.fullmatch(command) else None
            if command not in MEASURED and shorter(command) not in ready:
                name = f"{page.stem}: {shorter(command)}" if page else shorter(command)
                found.setdefault(name, Shown(command=command, block=block, page=page))
    return found


COMMANDS = commands()


@pytest.fixture(scope="module")
def ended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """What became of each command that is tested, once it is known. Mostly they wait, so some run at once."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asked = [item.callspec.params["name"] for item in functions if item.originalname == "test_the_command_runs"]
    folder = tmp_path_factory.mktemp("reader")
    with set_up(folder / "project", MADE_FIRST) as scene, ThreadPoolExecutor(3) as pool:
        shutil.copytree(scene.project / "before", scene.project / "after")
        yield {
            name: pool.submit(run, scene, COMMANDS[name], folder / str(n))
            for n, name in enumerate(COMMANDS)
            if name in asked
        }


def run(scene: Scene, shown: Shown, folder: Path) -> tuple[int, str]:
    """Run a command in a project of its own."""
    overlaid(scene, shown.page, folder)
    prepare(folder, shown.command)
    return scene.run(folder, shown.command)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_runs(name: str, ended: dict[str, Future[tuple[int, str]]]) -> None:
    shown = COMMANDS[name]
    if "track-objects" in shown.command and sys.version_info < (3, 14) and not shutil.which("gdb"):
        pytest.skip("needs the program gdb")
    code, text = ended[name].result()
    told = f"{shown.block.page.name}:{shown.block.line}: {shown.command}\n{text}"
    assert code in allowed(shown.command), told
    assert "Traceback (most recent" not in text, told
    assert "INTERNALERROR" not in text, told
    assert "does not provide the extra" not in text, told


def allowed(command: str) -> tuple[int, ...]:
    """The exit codes of a command that was carried out; in seconds many can't tell."""
    if " | grep" in command or command.startswith("grep"):
        return (0,)
    if "memleak " in command and not command.startswith(("pytest", "python -m pip")):
        return (0, 1, 3)
    return (0, 1) if command.startswith("pytest --memleak") else (124,) if "uvicorn" in command else (0,)


def prepare(folder: Path, command: str) -> None:
    """What only one command needs, and others would be disturbed by."""
    if "--resume" in command:
        cut_short(folder / "before")
    if "--out" in command or "--save" in command:
        for run in ("before", "after"):
            shutil.rmtree(folder / run)
    if "--memleak-soak" in command:
        shutil.rmtree(folder / "tests")
        (folder / "tests").mkdir()
        (fragment,) = blocks(ROOT / "docs" / "verifying-a-fix.md", "python")
        (folder / "tests" / "test_soak.py").write_text(fragment, encoding="utf-8")


def cut_short(run: Path) -> None:
    """Make of a whole soak one that was killed in the middle of its load."""
    lines = (run / "readings.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    began = next(number for number, line in enumerate(lines) if '"load_started"' in line)
    # A third of it: a slow machine takes few readings in a short soak.
    (run / "readings.jsonl").write_text("".join(lines[: began + (len(lines) - began) // 3]), encoding="utf-8")
    for name in ("result.json", "report.txt"):
        (run / name).unlink()


def test_each_command_that_is_made_first_is_of_a_page() -> None:
    assert set(MADE_FIRST) <= {command for page in PAGES for block in fenced(page) for command in block.commands}


def test_what_is_not_run_is_listed_here() -> None:
    marked = [(page.stem, block.comment) for page in PAGES for block in fenced(page) if block.comment]
    assert marked == NOT_RUN


def test_every_block_has_a_language_that_some_test_reads() -> None:
    known = {*SHELLS, "python", "text", "json", "diff", "promql", "mermaid", "yaml", "ini"}
    assert {block.language for page in PAGES for block in fenced(page)} <= known


LINES = tables(ROOT / "docs" / "debugging-guide.md")["a line such as/2"]


@pytest.mark.parametrize("line, options", LINES)
def test_a_regular_expression_finds_the_figure_in_its_line(line: str, options: str, tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(line.strip("`") + "\n", encoding="utf-8")
    code, text = shell(tmp_path, f"memleak analyze-logs one.log --json {options.strip('`')}", {})
    assert code == 3, text
    assert re.search(r"\b(200(\.1|134)?|191)", json.dumps(json.loads(text)["series"])), text
