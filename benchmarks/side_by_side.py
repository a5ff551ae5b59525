"""Eight endpoints, five of which leak, under this plugin and under two other tools, each used as its manual says.

ours         the bare marker `no_leak`
memray-100k  pytest-memray's `limit_leaks("100 KB")` around 1,000 requests
memray-1m    pytest-memray's `limit_leaks("1 MB")` around 1,000 requests
psleak       psleak's `MemoryLeakTestCase.execute`, one request per call, with all of its checkers
psleak-nogc  the same without its checker of uncollectable garbage, which compares the app's objects by `==`

Every tool gets the same entered test client, and every endpoint a process of its own, so that a crash costs
one verdict. One request goes before the measurement of those that have no warm-up. What is neither a
conviction nor a pass (a signal, the time limit, an error of the tool or the app) counts as a crash.

Goal: ours convicts the five leaks, none of the other three, and never crashes. The others only inform.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import peers_eight
from eight_app import ENDPOINTS, LEAKS
from pytest_runs import MISSED, OK, Run, add_keep, keep_run, run_pytest, say, table

TOOLS: Final = ("ours", "memray-100k", "memray-1m", "psleak", "psleak-nogc")

CAUGHT, PASSED, CRASHED = "LEAK", "passed", "crash"

_REQUESTS: Final = 1_000

_HEAD: Final = """\
import sys
import pytest
sys.path.insert(0, {folder!r})
from starlette.testclient import TestClient
import eight_app
"""

_MEMRAY: Final = """
@pytest.fixture
def client():
    with TestClient(eight_app.app) as entered:
        assert entered.get({path!r}).status_code == 200
        yield entered

@pytest.mark.limit_leaks({limit!r})
def test_endpoint(client):
    for _ in range({requests}):
        assert client.get({path!r}).status_code == 200
"""

_PSLEAK: Final = """
import psleak

class TestEndpoint(psleak.MemoryLeakTestCase):
    def setUp(self):
        self.client = TestClient(eight_app.app)
        self.client.__enter__()
        self.addCleanup(self.client.__exit__, None, None, None)
        self.request()

    def request(self):
        assert self.client.get({path!r}).status_code == 200

    def test_endpoint(self):
        self.execute(self.request, checkers=psleak.{checkers})
"""

_CHECKERS: Final = {"psleak": "Checkers()", "psleak-nogc": 'Checkers.exclude("gcgarbage")'}
_LIMITS: Final = {"memray-100k": "100 KB", "memray-1m": "1 MB"}
_MODULES: Final = {
    "memray-100k": "pytest_memray",
    "memray-1m": "pytest_memray",
    "psleak": "psleak",
    "psleak-nogc": "psleak",
}

# How each says that there is a leak; any other failure is not its verdict.
_MEMRAY_SAYS: Final = re.compile(r"Test was allowed to leak|Test leaked|allowed to leak")
_PSLEAK_SAYS: Final = re.compile(r"^E\s+psleak\.(\w*Error)\b", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one tool said of one endpoint."""

    tool: str
    endpoint: str
    said: str
    seconds: float
    why: str = ""

    @property
    def right(self) -> bool:
        """Whether it is true."""
        return self.said == (CAUGHT if self.endpoint in LEAKS else PASSED)


def measure(tool: str, endpoint: str, limit_s: float, kept: Path | None) -> Row:
    """Ask one tool about one endpoint."""
    run = _run(tool, endpoint, limit_s)
    said = _said(tool, endpoint, run)
    row = Row(
        tool=tool,
        endpoint=endpoint,
        said=said,
        seconds=run.seconds,
        why=run.error() if said == CRASHED else "",
    )
    if not row.right:
        keep_run(kept, f"{tool}-{endpoint}", run)
    return row


def _run(tool: str, endpoint: str, limit_s: float) -> Run:
    head = _HEAD.format(folder=str(Path(__file__).parent))
    path = f"/{endpoint}"
    if tool == "ours":
        return peers_eight.measure([endpoint])
    if tool in _CHECKERS:
        environ = {"PYTHONMALLOC": "malloc", "PYTHONUNBUFFERED": "1"}  # both asked for by psleak
        test = head + _PSLEAK.format(path=path, checkers=_CHECKERS[tool])
        return run_pytest(test, arguments=["-p", "no:memleak"], limit_s=limit_s, environ=environ)
    test = head + _MEMRAY.format(path=path, limit=_LIMITS[tool], requests=_REQUESTS)
    return run_pytest(test, arguments=["-p", "no:memleak", "--memray"], limit_s=limit_s)


def _said(tool: str, endpoint: str, run: Run) -> str:
    if tool == "ours":
        outcome = peers_eight.verdict(run, endpoint)
        return {"LEAK": CAUGHT, "CLEAN": PASSED, "ERROR": CRASHED}.get(outcome, outcome)
    if run.code == 0 and "1 passed" in run.output:
        return PASSED
    says = _PSLEAK_SAYS if tool in _CHECKERS else _MEMRAY_SAYS
    return CAUGHT if run.code == 1 and says.search(run.output) else CRASHED


def report(rows: Sequence[Row], tools: Sequence[str], endpoints: Sequence[str]) -> str:
    """What each tool said of each endpoint, and the sums."""
    said = {(row.tool, row.endpoint): row.said + ("" if row.right else " (wrong)") for row in rows}
    details = [
        (endpoint, CAUGHT if endpoint in LEAKS else PASSED, *(said[tool, endpoint] for tool in tools))
        for endpoint in endpoints
    ]
    leaks = sum(endpoint in LEAKS for endpoint in endpoints)
    sums = []
    for tool in tools:
        of_tool = [row for row in rows if row.tool == tool]
        caught = sum(row.said == CAUGHT and row.endpoint in LEAKS for row in of_tool)
        alarms = sum(row.said == CAUGHT and row.endpoint not in LEAKS for row in of_tool)
        crashes = sum(row.said == CRASHED for row in of_tool)
        total = sum(row.seconds for row in of_tool)
        sums.append((tool, f"{caught} of {leaks}", f"{alarms} of {len(endpoints) - leaks}", crashes, f"{total:.0f}"))
    lines = [
        table(("endpoint", "right is", *tools), details),
        "",
        table(("tool", "leaks caught", "false alarms", "crashes", "total s"), sums),
    ]
    crashed = [f"{row.tool} {row.endpoint}: {row.why}" for row in rows if row.said == CRASHED]
    return "\n".join([*lines, *(["", "Crashes:", *crashed] if crashed else [])])


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", nargs="+", choices=ENDPOINTS, default=ENDPOINTS, help="only these")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS, help="only these")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds that one endpoint may take [s]")
    add_keep(parser)
    arguments = parser.parse_args()
    missing = {_MODULES[tool] for tool in arguments.tools if tool in _MODULES}
    missing = {module for module in missing if importlib.util.find_spec(module) is None}
    if missing:
        parser.error(f"not installed: {', '.join(sorted(missing))}; install it, or choose other --tools")
    rows = []
    for tool in arguments.tools:
        for endpoint in arguments.endpoints:
            row = measure(tool, endpoint, arguments.limit, arguments.keep)
            rows.append(row)
            say(f"{tool} {endpoint}: {row.said}{'' if row.right else ' (wrong)'} in {row.seconds:.0f} s")
    say("\n" + report(rows, arguments.tools, arguments.endpoints))
    return OK if all(row.right for row in rows if row.tool == "ours") else MISSED


if __name__ == "__main__":
    sys.exit(main())
