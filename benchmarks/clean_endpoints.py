"""Many measurements of clean endpoints of ten kinds, in several pytest processes with many measurements each.

The kinds: async, sync, streaming, background task, middleware, dependency with yield, exception handler,
websocket, file upload, SQLite. Each goes through `memleak.run`, the websocket as a callable of the test client,
the others as strings. The kinds take turns, so that every process measures all of them one after another.

Goal: no conviction, and every measurement made. INCONCLUSIVE is counted beside it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_runs import MISSED, OK, Run, add_keep, keep_run, run_pytest, say, table

KINDS: Final = (
    "async", "sync", "streaming", "background", "middleware",
    "dependency", "exception", "websocket", "upload", "sqlite",
)  # fmt: skip

_TEST: Final = """\
import sys
import pytest
sys.path.insert(0, {folder!r})
import clean_app

@pytest.mark.parametrize(("number", "kind"), list(enumerate({kinds!r})))
def test_clean(memleak, number, kind):
    endpoint, arguments = clean_app.KINDS[kind]
    memleak.run(clean_app.app, endpoint, **arguments)
"""

# A measurement takes 30 s at the most, its confirmation some more; most take less than one.
_LIMIT_S: Final = 40.0


def measure(kinds: Sequence[str]) -> Run:
    """Measure one endpoint after another in one pytest process."""
    test = _TEST.format(folder=str(Path(__file__).parent), kinds=list(kinds))
    return run_pytest(test, limit_s=60.0 + _LIMIT_S * len(kinds))


def kind_of(result: Mapping[str, Any]) -> str:
    """The kind that a result is of: the last part of its test's name."""
    return str(result["nodeid"]).rpartition("-")[2].rstrip("]")


def report(results: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    """One line per kind, and one for all."""
    rows: list[tuple[object, ...]] = []
    for kind in (*kinds, "all"):
        found = [result for result in results if kind in ("all", kind_of(result))]
        if not found:
            continue
        outcomes = [result["outcome"] for result in found]
        seconds = [result["seconds"] for result in found]
        rows.append(
            (
                kind, len(found), outcomes.count("CLEAN"), outcomes.count("INCONCLUSIVE"), outcomes.count("LEAK"),
                f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}",
                int(statistics.median(result["calls"] for result in found)),
            )
        )  # fmt: skip
    header = ("kind", "measured", "clean", "inconclusive", "convicted", "median s", "max s", "median calls")
    wrong = [result for result in results if result["outcome"] != "CLEAN"]
    told = [f"{kind_of(result)}: {result['outcome']}: {result['why']}" for result in wrong]
    return "\n".join([table(header, rows), *(["", "Not clean:", *told] if told else [])])


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=2000, help="how many in all")
    parser.add_argument("--per-process", type=int, default=100, help="how many in one pytest process")
    parser.add_argument("--jobs", type=int, default=1, help="processes at the same time")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these")
    add_keep(parser)
    arguments = parser.parse_args()
    if min(arguments.measurements, arguments.per_process, arguments.jobs) < 1:
        parser.error("--measurements, --per-process and --jobs: at least 1")
    turns = [arguments.kinds[number % len(arguments.kinds)] for number in range(arguments.measurements)]
    parts = [turns[begin : begin + arguments.per_process] for begin in range(0, len(turns), arguments.per_process)]
    results: list[Mapping[str, Any]] = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for number, (part, run) in enumerate(zip(parts, pool.map(measure, parts), strict=True), 1):
            results += run.results
            wrong = sum(result["outcome"] != "CLEAN" for result in run.results)
            say(
                f"process {number} of {len(parts)}: {len(run.results)} measured, {wrong} not clean, {run.seconds:.0f} s"
            )
            if len(run.results) < len(part):
                say(run.error())
            if wrong or len(run.results) < len(part):
                keep_run(arguments.keep, f"process-{number}", run)
    convicted = sum(result["outcome"] == "LEAK" for result in results)
    inconclusive = sum(result["outcome"] == "INCONCLUSIVE" for result in results)
    if results:
        say("\n" + report(results, arguments.kinds))
    say(f"\n{convicted} convicted, {inconclusive} inconclusive of {len(results)} (wanted {len(turns)} measurements)")
    return OK if convicted == 0 and len(results) == len(turns) else MISSED


if __name__ == "__main__":
    sys.exit(main())
