"""How small a leak is found and how soon, what a clean measurement costs, and what the plugin costs when off.

object  one object kept per 1,000 requests, straight into the app: LEAK in every run, within 5 s
native  16 bytes of C memory per request (malloc through ctypes), straight into the app: LEAK, within 5 s
hello   a clean hello-world: CLEAN within 1 s straight into the app, within 3 s as a test with the test client
heap    the same straight into the app, beside 3 million live objects: the median takes at most 1.5 times the
        median beside none, from runs that alternate
import  importing the plugin after pytest costs 5 ms at the most, and imports nothing heavy

Seconds are from the first call to the conviction (confirmed) or the pass, freezing the heap included; a conviction's
diagnosis, which repeats the calls under tracemalloc, is told beside them.
Every run must keep the limit, but for `heap` and `import`, which compare medians. Each run is a process of its own.

Goal: all of these.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pytest_runs import MISSED, OK, Run, add_keep, keep_run, run_pytest, say, table

_APP: Final = """\
import ctypes
import gc
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

app = FastAPI()
kept = []
count = 0
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]

@app.get("/hello")
async def hello():
    return {"hello": "world"}

@app.get("/object")
async def one_in_thousand():
    global count
    count += 1
    if count == 1000:
        kept.append([count])
        count = 0
    return {"hello": "world"}

@app.get("/native")
async def sixteen_bytes():
    libc.malloc(16)
    return {"hello": "world"}
"""

_STRAIGHT: Final = """
def test_straight(memleak):
    memleak.run(app, "GET /{path}")
"""

_CLIENT: Final = """
@pytest.fixture
def client():
    with TestClient(app) as entered:
        yield entered

@pytest.mark.no_leak
def test_client(client):
    assert client.get("/hello").status_code == 200
"""

_HEAP: Final = """
import time

gc.disable()
heap = [[] for _ in range({objects})]
gc.enable()

def test_heap(memleak):
    begun = time.perf_counter()
    seconds = memleak.run(app, "GET /hello")["GET /hello"].seconds
    print("outside", time.perf_counter() - begun - seconds)
"""

_OBJECTS: Final = 3_000_000
_LIMIT_S: Final = 120.0

_OUTSIDE: Final = re.compile(r"^outside (\S+)$", re.MULTILINE)

_HEAVY: Final = (
    "asyncio", "fastapi", "httpx", "httpx2", "memray", "multiprocessing", "objgraph", "psutil", "pydantic", "pympler",
    "rich", "sqlite3", "starlette", "tracemalloc", "typer",
)  # fmt: skip

_TIMED_IMPORT: Final = """\
import time
import pytest
begun = time.perf_counter()
import pytest_memleak.plugin
print((time.perf_counter() - begun) * 1000)
"""

_MODULES: Final = "; import json, sys; json.dump(sorted(sys.modules), sys.stdout)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table."""

    what: str
    measured: str
    goal: str
    met: bool


class Reach:
    """The parts; each gives its lines."""

    def __init__(self, runs: int, kept: Path | None) -> None:
        self._runs = runs
        self._kept = kept

    def object(self) -> list[Line]:
        """One object kept per 1,000 requests."""
        test = _APP + _STRAIGHT.format(path="object")
        return [self._verdicts("1 object in 1,000 requests", test, wanted="LEAK", limit_s=5.0)]

    def native(self) -> list[Line]:
        """16 bytes of C memory per request."""
        test = _APP + _STRAIGHT.format(path="native")
        return [self._verdicts("16 B of C memory per request", test, wanted="LEAK", limit_s=5.0)]

    def hello(self) -> list[Line]:
        """A clean endpoint on both routes."""
        straight = _APP + _STRAIGHT.format(path="hello")
        return [
            self._verdicts("clean, straight into the app", straight, wanted="CLEAN", limit_s=1.0),
            self._verdicts("clean, with the test client", _APP + _CLIENT, wanted="CLEAN", limit_s=3.0),
        ]

    def heap(self) -> list[Line]:
        """A clean endpoint beside many live objects and beside none."""
        seconds: dict[int, list[float]] = {0: [], _OBJECTS: []}
        outside: dict[int, list[float]] = {0: [], _OBJECTS: []}
        clean = True
        for number in range(self._runs):
            for objects in (0, _OBJECTS):
                run = run_pytest(_APP + _HEAP.format(objects=objects), arguments=["--memleak", "-rP"], limit_s=_LIMIT_S)
                outcome = _outcome(run)
                if outcome != "CLEAN":
                    clean = False
                    keep_run(self._kept, f"heap-{objects}-{number}", run)
                    say(f"beside {objects:,} objects: {outcome}: {_why(run)}")
                if run.results:
                    seconds[objects].append(run.results[0]["seconds"])
                    outside[objects] += [float(found) for found in _OUTSIDE.findall(run.output)]
        if not all(seconds.values()) or not all(outside.values()):
            return [Line(what="clean, beside 3 million objects", measured="ERROR", goal="1.5 times", met=False)]
        empty, full = (statistics.median(taken) for taken in seconds.values())
        told = f"{full:.2f} s / {empty:.2f} s = {full / empty:.2f} times{'' if clean else ', not all CLEAN'}"
        spent = statistics.median(outside[_OBJECTS]), statistics.median(outside[0])
        return [
            Line(
                what="clean, beside 3 million objects / beside none",
                measured=told,
                goal="CLEAN, 1.5 times",
                met=clean and full <= 1.5 * empty,
            ),
            Line(
                what="   spent in memleak.run outside of these seconds",
                measured=f"{spent[0] * 1000:.0f} ms / {spent[1] * 1000:.0f} ms",
                goal="-",
                met=True,
            ),
        ]

    def imports(self) -> list[Line]:
        """The plugin in a run that does not use it."""
        plain, plugged = "import pytest", "import pytest, pytest_memleak.plugin"
        loaded = set(_modules(plugged)) - set(_modules(plain))
        heavy = sorted(loaded & set(_HEAVY))
        # An installed package is compiled once; a checkout is, where this variable does not forbid it.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        taken = []
        for _ in range(16):
            command = [sys.executable, "-c", _TIMED_IMPORT]
            timed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            taken.append(float(timed.stdout))
        # The first compiles.
        median, slowest = statistics.median(taken[1:]), max(taken[1:])
        return [
            Line(
                what="importing the plugin after pytest, 15 times",
                measured=f"median {median:.1f} ms, max {slowest:.1f} ms",
                goal="5 ms",
                met=median <= 5.0,
            ),
            Line(
                what=f"   modules beyond pytest's own: {len(loaded)}, heavy ones",
                measured=", ".join(heavy) or "none",
                goal="none",
                met=not heavy,
            ),
        ]

    def _verdicts(self, what: str, test: str, *, wanted: str, limit_s: float) -> Line:
        outcomes, seconds, calls, diagnosed = [], [], [], []
        for number in range(self._runs):
            run = run_pytest(test, limit_s=_LIMIT_S)
            outcome = _outcome(run)
            outcomes.append(outcome)
            if run.results:
                diagnosed.append(run.results[0]["diagnosis_seconds"])
                seconds.append(run.results[0]["seconds"] - diagnosed[-1])
                calls.append(run.results[0]["calls"])
            if outcome != wanted or not run.results or seconds[-1] > limit_s:
                keep_run(self._kept, f"{what.replace(' ', '-').replace(',', '')}-{number}", run)
                say(f"{what}: {outcome}: {_why(run)}")
        told = ", ".join(f"{outcome} {outcomes.count(outcome)}" for outcome in dict.fromkeys(outcomes))
        if seconds:
            told += f", median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s"
            told += f" + {statistics.median(diagnosed):.1f} s" if any(diagnosed) else ""
            told += f", {int(statistics.median(calls)):,} calls"
        right = all(outcome == wanted for outcome in outcomes)
        return Line(
            what=what,
            measured=told,
            goal=f"{wanted}, {limit_s:g} s",
            met=right and max(seconds) <= limit_s,
        )


def _outcome(run: Run) -> str:
    return run.results[0]["outcome"] if run.results else "ERROR"


def _why(run: Run) -> str:
    if not run.results:
        return run.error()
    return f"{run.results[0]['why']} after {run.results[0]['seconds']:.2f} s"


def _modules(code: str) -> list[str]:
    command = [sys.executable, "-c", code + _MODULES]
    loaded: list[str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return loaded


def report(lines: Sequence[Line]) -> str:
    """What was measured beside what was wanted."""
    rows = [(line.what, line.measured, line.goal, "" if line.met else "MISSED") for line in lines]
    return table(("what", "measured", "goal", ""), rows)


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each part but `import`, which has 15")
    names = ("object", "native", "hello", "heap", "import")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="only these parts")
    add_keep(parser)
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    reach = Reach(arguments.runs, arguments.keep)
    parts: dict[str, Callable[[], list[Line]]] = {
        "object": reach.object,
        "native": reach.native,
        "hello": reach.hello,
        "heap": reach.heap,
        "import": reach.imports,
    }
    lines = [line for name in arguments.only for line in parts[name]()]
    say(report(lines))
    return OK if all(line.met for line in lines) else MISSED


if __name__ == "__main__":
    sys.exit(main())
