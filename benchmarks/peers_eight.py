"""Eight endpoints through the test client, several runs in a row.

Five leak: a dict kept per request, an asyncio task that never ends, an open file kept, malloc through ctypes,
malloc in a compiled library. Three do not: a bounded cache that fills over 500 requests, a cycle that the
collector frees, and one that does nothing.

Goal: all eight right in every run: the leaks LEAK, the others CLEAN.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from eight_app import ENDPOINTS, LEAKS
from pytest_runs import MISSED, OK, Run, run_pytest, say, table

_TEST: Final = """\
import sys
import pytest
sys.path.insert(0, {folder!r})
from starlette.testclient import TestClient
import eight_app

@pytest.fixture
def client():
    with TestClient(eight_app.app) as entered:
        yield entered

@pytest.mark.no_leak
@pytest.mark.parametrize("name", {endpoints!r})
def test_endpoint(client, name):
    assert client.get("/" + name).status_code == 200
"""


def measure(endpoints: Sequence[str]) -> Run:
    """Measure each endpoint once, in one pytest process."""
    test = _TEST.format(folder=str(Path(__file__).parent), endpoints=list(endpoints))
    return run_pytest(test, limit_s=90.0 * len(endpoints))


def verdict(run: Run, endpoint: str) -> str:
    """The outcome for one endpoint, ERROR when there is none."""
    result = run.by_name().get(f"test_endpoint[{endpoint}]")
    return result["outcome"] if result else "ERROR"


def wanted(endpoint: str) -> str:
    """The outcome that is right."""
    return "LEAK" if endpoint in LEAKS else "CLEAN"


def report(runs: Sequence[Run], endpoints: Sequence[str]) -> str:
    """One line per endpoint over all runs."""
    rows = []
    for endpoint in endpoints:
        verdicts = Counter(verdict(run, endpoint) for run in runs)
        found = [r for run in runs if (r := run.by_name().get(f"test_endpoint[{endpoint}]"))]
        seconds = sorted(result["seconds"] for result in found) or [0.0]
        calls = [result["calls"] for result in found] or [0]
        told = ", ".join(f"{outcome} {count}" for outcome, count in verdicts.most_common())
        times = f"{statistics.median(seconds):.1f}", f"{seconds[-1]:.1f}"
        right = verdicts[wanted(endpoint)]
        rows.append((endpoint, wanted(endpoint), told, f"{right}/{len(runs)}", *times, int(statistics.median(calls))))
    return table(("endpoint", "right is", "verdicts", "right", "median s", "max s", "median calls"), rows)


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs in a row")
    parser.add_argument("--endpoints", nargs="+", choices=ENDPOINTS, default=ENDPOINTS, help="only these")
    arguments = parser.parse_args()
    runs = []
    for number in range(arguments.runs):
        run = measure(arguments.endpoints)
        runs.append(run)
        wrong = [f"{e}: {verdict(run, e)}" for e in arguments.endpoints if verdict(run, e) != wanted(e)]
        told = "all right" if not wrong else ", ".join(wrong)
        say(f"run {number + 1}: {told} in {run.seconds:.0f} s")
        if not run.results:
            say(run.error())
    say("\n" + report(runs, arguments.endpoints))
    right = all(verdict(run, e) == wanted(e) for run in runs for e in arguments.endpoints)
    return OK if right else MISSED


if __name__ == "__main__":
    sys.exit(main())
