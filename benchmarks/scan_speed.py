"""How fast a scan is and how much memory it takes, beside pylint."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil
from pytest_runs import say, table

_LINES_PER_S: Final = 150_000
_TIMES_AS_FAST: Final = 10
_AGAIN_S: Final = 0.5
_PEAK_BYTES: Final = 300_000_000
_CORES: Final = 2
_PYLINT: Final = "pylint R1732"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """One process and its children: how long they took, and the most memory that all of them had at once."""

    seconds: float
    cpu_seconds: float
    """Of all its processes; what else runs on the machine hardly changes it."""

    peak_bytes: int
    output: str
    code: int


def _run(command: Sequence[str], folder: Path) -> _Timed:
    """Run a command on two cores, and look at its memory 50 times a second."""
    peak, cpu = 0, os.times()
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8") as output:
        begun = time.perf_counter()
        process = psutil.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        after = os.times()
        used = after.children_user - cpu.children_user + after.children_system - cpu.children_system
        output.seek(0)
        return _Timed(seconds=seconds, cpu_seconds=used, peak_bytes=peak, output=output.read(), code=process.returncode)


def _memory(process: psutil.Process) -> int:
    """RSS of a process and its children; pages that they share count for each."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:
        pass  # ended meanwhile; the next look sees the rest
    return total


def lines_of(tree: Path) -> int:
    """The lines of all modules in a tree."""
    return sum(path.read_bytes().count(b"\n") for path in tree.rglob("*.py") if path.is_file())


def _rounds(tree: Path, pylint: Sequence[str], rounds: int) -> dict[str, list[_Timed]]:
    """Each round: a first run, a second one, pylint; the order of the columns to be."""
    ours = [sys.executable, "-m", "pytest_memleak", "scan-code", str(tree), "--format", "json", "--output", "report"]
    theirs = ["--disable=all", "--enable=R1732", "-j", str(_CORES), "--persistent=n", "--recursive=y", str(tree)]
    runs: dict[str, list[_Timed]] = {"first run": [], "second run": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:  # the cache lies in the working folder
            for title in ("first run", "second run"):
                run = _run(ours, Path(name))
                if run.code not in (0, 1, 2):
                    raise SystemExit(f"the {title} failed with exit code {run.code}: {run.output[-2_000:]}")
                runs[title].append(run)
            if pylint:
                run = _run([*pylint, *theirs], Path(name))
                # Bits: 1 a file that it cannot parse, 8 and 4 messages; 32 is a wrong command line.
                if run.code < 0 or run.code & 32:
                    raise SystemExit(f"pylint failed with exit code {run.code}: {run.output[-2_000:]}")
                runs.setdefault(_PYLINT, []).append(run)
    return runs


def speed(tree: Path, pylint: Sequence[str], rounds: int) -> bool:
    """First and second runs over a tree on two cores, and pylint over the same; the medians."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    tree, lines = tree.absolute(), lines_of(tree)
    runs = _rounds(tree, pylint, rounds)
    seconds = {title: statistics.median(run.seconds for run in timed) for title, timed in runs.items()}
    peaks = {title: max(run.peak_bytes for run in timed) for title, timed in runs.items()}
    # Pair by pair: what slows one run down slows down the one beside it.
    times = {
        title: statistics.median(
            one.seconds / first.seconds for one, first in zip(timed, runs["first run"], strict=True)
        )
        for title, timed in runs.items()
    }
    rows = [
        [
            title,
            f"{seconds[title]:.2f}",
            f"{statistics.median(run.cpu_seconds for run in timed):.2f}",
            f"{lines / seconds[title]:,.0f}",
            f"{peaks[title] / 1e6:.0f}",
            f"{times[title]:.2f}",
        ]
        for title, timed in runs.items()
    ]
    say(f"{lines:,} lines, {rounds} rounds")
    say(table(("", "s", "CPU s", "lines/s", "MB", "times the first"), rows))
    if not pylint:
        say("pylint was not run: install it, or name its Python with --pylint")
    return (
        lines / seconds["first run"] >= _LINES_PER_S
        and seconds["second run"] <= _AGAIN_S
        and peaks["first run"] <= _PEAK_BYTES
        and times.get(_PYLINT, _TIMES_AS_FAST) >= _TIMES_AS_FAST
    )


def pylint_of(python: str) -> list[str]:
    """The command that runs pylint; empty where there is none."""
    if not python and not importlib.util.find_spec("pylint"):
        return []
    return [python or sys.executable, "-m", "pylint"]
