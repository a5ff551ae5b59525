"""Record the memory of real processes for `trend_quality.py`: what `trend_recordings/` holds was made by this.

    python benchmarks/trend_record.py --python python3.10 python3.13 --jemalloc libjemalloc.so.2 --out FOLDER

Every workload of `trend_workloads.py` runs under some of the interpreters and allocators given, several side by side,
for some 20 seconds, and its RSS is read four times a second. The judge gets the times multiplied by 20, and with
them the rates are what a service does in some minutes. One file for each allocator; sizes in kB, times in ms.

Goal: none of its own; a recording that failed is told, and left out.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil
from pytest_runs import say
from trend_workloads import WORKLOADS

PACE: Final = 20
"""A second of a recording stands for so many."""

LIMIT_MB_PER_MIN: Final = 1.0
HERE: Final = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One recording to make."""

    kind: str
    seed: int
    python: str
    allocator: str
    preload: str = ""


def environment(job: Job) -> dict[str, str]:
    """The allocator is chosen from outside: Python's own, the C library's, or a library that replaces that."""
    chosen = {**os.environ, "PYTHONMALLOC": "pymalloc" if job.allocator == "pymalloc" else "malloc"}
    return {**chosen, "LD_PRELOAD": job.preload} if job.preload else chosen


def record(job: Job) -> dict[str, Any]:
    """Run the workload, in as many lives as it has, and read it until it has enough."""
    rng = random.Random(job.seed)
    readings, interval_s = rng.randint(60, 100), rng.uniform(0.2, 0.3)
    lives = WORKLOADS[job.kind].lives
    seconds = readings * interval_s
    allowed = LIMIT_MB_PER_MIN * seconds * PACE / 60
    clock = time.monotonic()
    return {
        "kind": job.kind,
        "seed": job.seed,
        "python": version(job.python),
        "allocator": job.allocator,
        "lives": [
            one_life(job, clock, readings // lives, interval_s, (seconds / lives, allowed / lives))
            for _ in range(lives)
        ],
    }


def one_life(job: Job, clock: float, readings: int, interval_s: float, run: tuple[float, float]) -> dict[str, Any]:
    """One process from its start to its end: times in ms since `clock`, sizes in kB."""
    command = [job.python, str(HERE / "trend_workloads.py"), job.kind, str(job.seed), str(run[0]), str(run[1])]
    times, sizes = [], []
    with subprocess.Popen(command, env=environment(job), stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise RuntimeError(f"{job.kind} did not start")
            process = psutil.Process(child.pid)
            due = time.monotonic()
            for _ in range(readings):
                times.append(round(1000 * (time.monotonic() - clock)))
                sizes.append(process.memory_info().rss // 1000)
                due += interval_s
                time.sleep(max(0.02, due - time.monotonic()))
        finally:
            child.kill()
    return {"ms": times, "kb": sizes}


def version(python: str) -> str:
    """The interpreter's version."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def jobs(pythons: list[str], allocators: dict[str, str], each: int) -> list[Job]:
    """Every workload `each` times, under pairs of interpreter and allocator that take turns."""
    pairs = [(python, allocator) for allocator in allocators for python in pythons]
    random.Random(0).shuffle(pairs)
    found = []
    for number, kind in enumerate(WORKLOADS):
        for turn in range(each):
            python, allocator = pairs[(number * each + turn) % len(pairs)]
            seed = 1000 * number + turn
            found.append(Job(kind=kind, seed=seed, python=python, allocator=allocator, preload=allocators[allocator]))
    return found


def main() -> int:
    """Record what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--jemalloc", default="", help="the library, to record under it too")
    parser.add_argument("--mimalloc", default="", help="the library, to record under it too")
    parser.add_argument("--each", type=int, default=8, help="recordings of each workload")
    parser.add_argument("--side-by-side", type=int, default=6, help="how many at a time")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), help="these workloads alone")
    parser.add_argument("--out", type=Path, default=HERE / "trend_recordings")
    options = parser.parse_args()
    libraries = {"jemalloc": options.jemalloc, "mimalloc": options.mimalloc}
    allocators = {"pymalloc": "", "malloc": "", **{name: path for name, path in libraries.items() if path}}
    wanted = [job for job in jobs(options.python, allocators, options.each) if job.kind in (options.only or WORKLOADS)]
    made: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    with concurrent.futures.ThreadPoolExecutor(options.side_by_side) as pool:
        futures = [pool.submit(record, job) for job in wanted]
        for job, future in zip(wanted, futures, strict=True):
            try:
                made[job.allocator].append(future.result())
            except (OSError, RuntimeError, subprocess.SubprocessError, psutil.Error) as error:
                say(f"left out: {job}: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    for allocator, recordings in made.items():
        lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in recordings)
        (options.out / f"{allocator}.json").write_text(f"[\n{lines}\n]\n")
        say(f"{allocator}: {len(recordings)} recordings")
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
