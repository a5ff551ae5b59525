"""Every output that the docs show is what its command prints, but for figures; what is not run says why in its test.

The runs take their time, two at once: a page shows a whole measurement, so a whole measurement is made.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from docs_measured import PATTERNS, RUNS, TUTORIAL, normal
from docs_scene import set_up, shell
from docs_support import PAGES, ROOT, Block, blocks, fenced
from waiting import until
from watch_support import keeping

GUIDE = ROOT / "docs" / "debugging-guide.md"
VERIFYING = ROOT / "docs" / "verifying-a-fix.md"

DRAWING = "a drawing, not an output"
SCANNED = "test_scan_docs.test_the_report_is_as_the_page_prints_it"
ANSWERED = "test_observability.test_the_answer_of_leaks_has_its_shape_and_agrees_with_itself"
PRINTED = "test_observability.test_what_the_tracked_call_keeps_is_what_is_printed"
HERE = "a test of its own, below"

SHOWN = {
    "README": ["shop"],
    "debugging-guide": [HERE, HERE, HERE, "tracked", HERE],
    "false-alarms": ["alarms", "alarms", "alarms"],
    "observability": [DRAWING, ANSWERED, PRINTED],
    "reading-the-report": ["shop", "shop", "shop", "shop", HERE, "start repaired"],
    "start-here": ["start", "start repaired"],
    "tutorial": ["plain", "shop", "repaired", HERE, "accepted", "canary"],
    "verifying-a-fix": [HERE, HERE],
    **{
        page.stem: [SCANNED, "shop" if "shop_tests" in page.read_text(encoding="utf-8") else "patterns"]
        for page in PATTERNS
    },
}
"""What prints each output of a page, in order: a run of `docs_measured`, or the test that holds it."""


def outputs(page: Path) -> list[Block]:
    """The blocks of a page that show what something printed."""
    return [block for block in fenced(page) if block.language in ("text", "console", "json") and block.output.strip()]


def test_every_output_is_held_by_something() -> None:
    counted = {page.stem: len(outputs(page)) for page in PAGES if outputs(page)}
    assert counted == {stem: len(held) for stem, held in SHOWN.items()}


HELD = [
    pytest.param(block, run, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (block, run) in enumerate(zip(outputs(page), SHOWN.get(page.stem, ()), strict=True))
    if run in RUNS
]


@pytest.fixture(scope="module")
def printing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """What each run prints, once it has."""
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run.printed, folder / name.replace(" ", "-")) for name, run in RUNS.items()}


@pytest.mark.parametrize("block, run", HELD)
def test_the_output_is_as_shown(block: Block, run: str, printing: dict[str, Future[str]]) -> None:
    printed = printing[run].result()
    lines = {normal(line) for line in printed.splitlines()}
    # Where there is a table, what stands between its rows is left out of some pages.
    has_table = "test or endpoint" in block.output
    parts = block.output.splitlines() if has_table else [block.output]
    for part in parts:
        found = normal(part) in (lines if has_table else normal(printed))
        assert found, f"{block.page.name}:{block.line} shows\n{part}\nand there was printed\n{printed}"


def leaks() -> dict[str, object]:
    """What leaks in the shop, by test."""
    path = ROOT / "examples" / "shop_tests" / "leaks.py"
    spec = importlib.util.spec_from_file_location("docs_leaks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: dict[str, object] = module.LEAKS
    return found


@pytest.mark.parametrize(
    "page, number, mended",
    [(TUTORIAL, 3, {"test_search"}), (PAGES[0].parent / "docs" / "reading-the-report.md", 4, set())],
)
def test_a_table_of_the_shop_says_of_each_test_what_is_true(
    page: Path, number: int, mended: set[str], printing: dict[str, Future[str]]
) -> None:
    head, *rows, foot = outputs(page)[number].output.splitlines()
    lines = {normal(line) for line in printing["shop"].result().splitlines()}
    assert {normal(head), normal(foot)} <= lines
    told = {row.split()[0]: row.split()[-1] for row in rows}
    truth = {test: "LEAK" if leak and test not in mended else "CLEAN" for test, leak in leaks().items()}
    assert {test: truth[test] for test in told} == told
    assert len(told) == (len(truth) if page == TUTORIAL else len(rows))
    measured = {test for test in told if any(line.startswith(f"{test} #") for line in lines)}
    assert {normal(row) for row in rows if row.split()[0] in measured - mended} <= lines
    assert len(measured) > 2


def test_what_detect_prints(tmp_path: Path) -> None:
    # 300 MB/min: in seconds only a fast leak is certain.
    with keeping(300) as process:
        code, printed = shell(tmp_path, f"memleak detect 8 0.2 --pid {process.pid}", {})
    assert code == 1, printed
    shown = re.sub(r"\(python .*\), severity \w+", "(…), severity", outputs(GUIDE)[0].output)
    printed = re.sub(r"\([^()]*python.*?\), severity\s+\w+", "(…), severity", printed, flags=re.DOTALL)
    assert without_rate(shown) == without_rate(printed[printed.index("LEAK DETECTED") :])


def without_rate(text: str) -> str:
    """A report of `detect` without what follows from the rate: the severity, and which memory it is made of."""
    text = re.sub(r"(severity: +)\w+", r"\1", text)
    return normal(re.sub(r"made of: .*\n(\s{17}.*\n)*", "made of:\n", text))


SESSIONS = """
import time

SESSIONS = {}


class Session:
    def __init__(self):
        self.items = []


def serve():
    while True:
        SESSIONS[len(SESSIONS)] = Session()
        time.sleep(0.005)
"""


@pytest.mark.skipif(sys.version_info < (3, 14) and not shutil.which("gdb"), reason="needs the program gdb")
def test_what_track_objects_prints(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SESSIONS, encoding="utf-8")
    # Named, since PYTHONSAFEPATH leaves out where a command stands.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import shop; open('serving', 'w').close(); shop.serve()"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        try:
            until((tmp_path / "serving").exists, "the start of the program")
            code, printed = shell(tmp_path, f"memleak track-objects --interval 1 --pid {process.pid}", {})
        finally:
            process.kill()
    assert code == 1, printed
    # The page shows the rows of the table that are marked.
    shown = [normal(line) for line in outputs(GUIDE)[4].output.splitlines()[1:]]
    assert set(shown) <= {normal(line) for line in printed.splitlines()}, printed


def test_the_answer_of_the_monitor_is_as_shown(tmp_path: Path) -> None:
    with set_up(tmp_path / "project", ()) as scene:
        code, printed = scene.run(scene.project, "curl -s http://127.0.0.1:8000/api/debug/memory/leaks")
    assert code == 0, printed
    shown, told = json.loads(blocks(GUIDE, "json")[0]), json.loads(printed)
    assert shown.keys() <= told.keys()
    assert shown["mb_per_min"].keys() == told["mb_per_min"].keys()


def test_what_is_shown_of_the_kept_soak_is_in_it() -> None:
    kept = (ROOT / "docs" / "soaks" / "leaky-shop.txt").read_text(encoding="utf-8")
    assert outputs(GUIDE)[1].output in kept
    assert outputs(VERIFYING)[0].output.strip() in kept.splitlines()


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs the program promtool: apt-get install prometheus")
def test_each_query_is_one(tmp_path: Path) -> None:
    written = [query for page in PAGES for block in blocks(page, "promql") for query in block.splitlines()]
    written += outputs(VERIFYING)[1].output.splitlines()
    rules = [{"record": f"docs:{number}", "expr": query} for number, query in enumerate(written)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "docs", "rules": rules}]}), encoding="utf-8")
    code, printed = shell(tmp_path, "promtool check rules rules.yml", {})
    assert code == 0, printed
