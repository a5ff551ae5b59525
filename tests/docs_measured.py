"""The runs whose output the docs show, each in the project of its page, and how two outputs are compared."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from docs_scene import shell
from docs_support import PAGES, ROOT, blocks, fenced, stages

PATTERNS: Final = [page for page in PAGES if page.parent.name == "patterns" and page.stem != "index"]
TUTORIAL: Final = ROOT / "docs" / "tutorial.md"
CONFIGURATION: Final = "[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n"
PLAIN: Final = {"PYTEST_ADDOPTS": "-p no:randomly -p no:memray -p no:hypothesispytest"}
"""Without the plugins that shuffle, or write of their own into the output."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A command as pages show it, in a folder that is made for it."""

    command: str
    project: Callable[[Path], None]
    narrowed: str = ""
    """Which tests it is confined to: those whose output is shown."""
    stands_for: tuple[str, ...] = ()
    """Commands of pages that this one is: the same with fewer words, or in another project of the same run."""

    def printed(self, folder: Path) -> str:
        """What it prints."""
        folder.mkdir()
        self.project(folder)
        return shell(folder, f"{self.command} {self.narrowed}", PLAIN)[1]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def examples(folder: Path) -> None:
    shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True)


def repaired(folder: Path) -> None:
    """The tutorial's copy after its fifth step."""
    examples(folder)
    (diff,) = blocks(TUTORIAL, "diff")
    (folder / "repair.diff").write_text(diff, encoding="utf-8")
    code, text = shell(
        folder, "git apply -p0 --unsafe-paths repair.diff", {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    )
    assert code == 0, text


def accepted(folder: Path) -> None:
    """The tutorial's copy after its eighth step: two tests are written anew, as shown."""
    examples(folder)
    path = folder / "shop_tests" / "test_shop.py"
    text = path.read_text(encoding="utf-8")
    for code in blocks(TUTORIAL, "python")[1:]:
        new = code.removeprefix("# fragment\n")
        name = re.search(r"def (test_\w+)", new)
        assert name
        text, count = re.subn(
            rf"(@pytest[^\n]+\n)+def {name[1]}\(.*?(?=\n\n|\Z)", new.replace("\\", r"\\"), text, flags=re.DOTALL
        )
        assert count == 1
    path.write_text(text, encoding="utf-8")


def patterns(folder: Path) -> None:
    """The bad code of every pattern, and the test of each."""
    write(folder, {"pytest.ini": CONFIGURATION})
    for page in PATTERNS:
        write(folder, stages(page)[0])


def page_at(name: str, stage: int) -> Callable[[Path], None]:
    """The project of a page, before its repair or after it."""
    return lambda folder: write(folder, {"pytest.ini": CONFIGURATION, **stages(ROOT / "docs" / name)[stage]})


def alarms(folder: Path) -> None:
    """The page of false alarms: its app as it is, with its bound lowered, and with the growth ignored."""
    page = ROOT / "docs" / "false-alarms.md"
    page_at(page.name, 0)(folder)
    (ignoring,) = [code for code in blocks(page, "python") if "memleak.run(app" in code]
    call = ignoring.removeprefix("# fragment\n").strip()
    bare = f"memleak.run(app, {call.split(', ')[1]})"
    code = f"from app.main import app\n\n\ndef test_as_it_is(memleak):\n    {bare}.assert_no_leak()\n"
    write(folder, {"tests/test_more.py": f"{code}\n\ndef test_ignored(memleak):\n    {call}.assert_no_leak()\n"})


ONE_BY_ONE: Final = tuple(command for page in PATTERNS for block in fenced(page) for command in block.commands)

RUNS: Final = {
    "plain": Run(command="pytest shop_tests", project=examples),
    "shop": Run(
        command="pytest --memleak shop_tests",
        project=examples,
        narrowed='-k "search or cart or orders or export or notifications"',
        stands_for=("pytest --memleak shop_tests -k search",),
    ),
    "patterns": Run(
        command="pytest --memleak tests",
        project=patterns,
        stands_for=tuple(command for command in ONE_BY_ONE if command.startswith("pytest --memleak tests/")),
    ),
    "alarms": Run(command="pytest --memleak -v tests", project=alarms),
    "repaired": Run(command="pytest --memleak -v shop_tests -k search", project=repaired),
    "accepted": Run(command='pytest --memleak shop_tests -k "visits or orders"', project=accepted),
    "canary": Run(
        command='pytest --memleak --memleak-canary shop_tests --shop=fixed_shop -k "home or search"', project=examples
    ),
    "start": Run(command="pytest --memleak tests/test_search.py", project=page_at("start-here.md", 0)),
    "start repaired": Run(command="pytest --memleak -v tests/test_search.py", project=page_at("start-here.md", 1)),
    "tracked": Run(command="pytest -s tests/test_tracked.py", project=page_at("debugging-guide.md", 0)),
}
COMMANDS: Final = {command for one in RUNS.values() for command in (one.command, *one.stands_for)}

_SIZE: Final = r"(?: ?(?:kB|MB|GB|GiB|MiB|B|s|ms|h|min)\b|%)?"
_VARIES: Final = (
    (r"/tmp/[\w.-]+/", "/tmp/#/"),
    (r"-\d+_\d+\b", "-#"),  # threads of a pool
    (r"[▁▂▃▄▅▆▇█]+", "~"),
    (r"=+", "="),
    (rf"(?<![\w:.])[+-]?\d+(?:[.,]\d+)*{_SIZE}", "#"),
    (r"#(?: #)+", "#"),  # also the rows of a table of rounds, of which there are more or fewer
    (r"(?:,| and) # objects?(?= per)", ""),  # in the headline where they are certain before the bytes are
    (r", # shared\b", ""),  # calls of a tracked function beside which a thread of ours ran: some, or none
    (r"\bentr(?:y|ies)\b", "entry"),
    (r"\b(object|allocation|descriptor|thread|call)s\b", r"\1"),
)


def normal(text: str) -> str:
    """What one run prints as another does: without figures, line ends, and the frames of libraries.

    Line numbers stay. Of what FastAPI or Starlette keep of a request another release may show other lines.
    """
    words = " ".join(" ".join(_ours(text)).split())
    for pattern, replacement in _VARIES:
        words = re.sub(pattern, replacement, words)
    return words


def _ours(text: str) -> list[str]:
    """The lines but for entries of `where` that are in libraries."""
    kept = []
    skips = False
    for line in text.splitlines():
        frame = re.match(r"\s+(?:where )?(?:inside )?(\S+\.py):\d+\b", line)
        if frame:
            skips = not frame[1].startswith(("app/", "leaky_shop/"))
        elif not line.startswith(" " * 8) or re.match(r"\s+(names:|waits at)", line):
            skips = False
        if not skips:
            kept.append(line)
    return kept
