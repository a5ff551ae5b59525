"""How often `memleak scan-code` is right, how fast it is, and whether it is silent about code that is clean.

labels  places in published packages that were judged by hand: those that leak, and those that only look like it. A
        place is hit when a finding of its pattern is within one line of it
speed   lines/s of a first run over a tree, the seconds of a second one, the most memory that all processes of a run
        had; and pylint with the one check that it shares with us (R1732), where pylint is installed
clean   the findings in well-kept packages

Goal: precision of at least 0.90 and recall of at least 0.85 (high confidence), 150,000 lines/s and ten times as fast as
pylint, a second run within 0.5 s, 300 MB at the most, and no finding in the clean packages.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from pytest_runs import MISSED, OK, say, table

_PRECISION: Final = 0.90
_RECALL: Final = 0.85
_LINES_PER_S: Final = 150_000
_TIMES_AS_FAST: Final = 10
_AGAIN_S: Final = 0.5
_PEAK_BYTES: Final = 300_000_000
_CORES: Final = 2

_PATTERNS: Final = {
    # What is stored under a key is a cache to one reader and an accumulation to the next: either is a hit.
    "cache": ("unbounded_cache", "global_accumulation"),
    "global": ("unbounded_cache", "global_accumulation"),
    "circular": ("circular_reference",),
    "db": ("database_connection",),
    "executor": ("thread_pool",),
    "file": ("file_handle",),
    "listener": ("event_listener",),
    "task": ("async_task",),
}
"""The labels' words by what the findings call them."""

_CLEAN: Final = (
    *("anyio", "attrs", "click", "h11", "httpx"),
    *("itsdangerous", "packaging", "pluggy", "starlette", "structlog"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One row of the labels, and whether it was reported."""

    package: str
    path: str
    line: int
    pattern: str
    leaks: bool
    reason: str
    is_sure: bool
    hit: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """One process and its children: how long they took, and the most memory that all of them had at once."""

    seconds: float
    peak_bytes: int
    output: str
    code: int


def _scan(tree: Path, confidence: str) -> list[dict[str, Any]]:
    """The findings in a tree, with paths relative to it."""
    command = [sys.executable, "-m", "pytest_memleak", "scan-code", ".", "--no-cache", "--format", "json"]
    ended = subprocess.run(
        [*command, "--confidence", confidence], cwd=tree, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if not ended.stdout.startswith("{"):
        raise SystemExit(f"the scan of {tree.name} gave no report (exit code {ended.returncode}): {ended.stderr}")
    findings: list[dict[str, Any]] = json.loads(ended.stdout)["findings"]
    return findings


def _unpack(wheels: Path, wanted: Iterable[tuple[str, str]], target: Path) -> dict[str, Path]:
    """The folders of packages by name, out of their wheels; `wanted` are names and versions, "" for any.

    Raises SystemExit with the command that fetches what is missing.
    """
    folders: dict[str, Path] = {}
    missing: list[str] = []
    for name, version in wanted:
        begins = re.sub(r"[-_.]+", "_", name).lower() + "-" + (f"{version}-" if version else "")
        found = sorted(path for path in wheels.glob("*.whl") if path.name.lower().startswith(begins))
        if not found:
            missing.append(f"{name}=={version}" if version else name)
            continue
        folders[name] = target / name
        with zipfile.ZipFile(found[-1]) as wheel:
            wheel.extractall(folders[name])
    if missing:
        fetch = f"{sys.executable} -m pip download --no-deps --dest {wheels} {' '.join(missing)}"
        raise SystemExit(f"{len(missing)} wheels are missing in {wheels}; fetch them: {fetch}")
    return folders


def _judged(place: _Place, findings: Sequence[dict[str, Any]]) -> _Place:
    hit = any(
        finding["path"] == place.path
        and abs(finding["line"] - place.line) <= 1
        and finding["pattern"] in _PATTERNS[place.pattern]
        for finding in findings
    )
    return dataclasses.replace(place, hit=hit)


def _scores(places: Sequence[_Place]) -> tuple[list[str], float, float]:
    """The cells of a row, precision and recall; 1.0 where there is nothing to be wrong about."""
    true = [place.hit for place in places if place.leaks]
    false = [place.hit for place in places if not place.leaks]
    precision = sum(true) / (sum(true) + sum(false)) if sum(true) + sum(false) else 1.0
    recall = sum(true) / len(true) if true else 1.0
    cells = [f"{sum(true)} of {len(true)}", f"{sum(false)} of {len(false)}", f"{precision:.2f}", f"{recall:.2f}"]
    return cells, precision, recall


def labels(labelled: Path, wheels: Path, confidence: str) -> bool:
    """Precision and recall on the labelled places, and every place that was judged wrongly."""
    with labelled.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    places: list[_Place] = []
    with tempfile.TemporaryDirectory() as name:
        folders = _unpack(wheels, dict.fromkeys((row["package"], row["version"]) for row in rows), Path(name))
        findings = {package: _scan(folder, confidence) for package, folder in folders.items()}
    for row in rows:
        place = _Place(
            package=row["package"],
            path=row["path"],
            line=int(row["line"]),
            pattern=row["pattern"],
            leaks=row["label"] == "tp",
            reason=row["reason"],
            is_sure=row["confidence"] == "high",
        )
        places.append(_judged(place, findings[place.package]))
    sure, reached = [place for place in places if place.is_sure], False
    for title, judged in (("high confidence", sure), ("all", places)):
        lines = [
            [pattern, *_scores([place for place in judged if place.pattern == pattern])[0]] for pattern in _PATTERNS
        ]
        cells, precision, recall = _scores(judged)
        say(table((title, "leaks found", "false alarms", "precision", "recall"), [*lines, ["together", *cells]]) + "\n")
        if judged is sure:
            reached = precision >= _PRECISION and recall >= _RECALL
    for place in places:
        if place.hit != place.leaks:
            wrong = "missed" if place.leaks else "false alarm"
            doubt = "" if place.is_sure else " (arguable)"
            say(f"{wrong}{doubt}: {place.pattern} {place.path}:{place.line}: {place.reason}")
    return reached


def _run(command: Sequence[str], folder: Path) -> _Timed:
    """Run a command on two cores, and look at its memory 50 times a second."""
    peak = 0
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8") as output:
        begun = time.perf_counter()
        process = psutil.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        output.seek(0)
        return _Timed(seconds=seconds, peak_bytes=peak, output=output.read(), code=process.returncode)


def _memory(process: psutil.Process) -> int:
    """RSS of a process and its children; pages that they share count for each."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:
        pass  # ended meanwhile; the next look sees the rest
    return total


def _lines(tree: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in tree.rglob("*.py") if path.is_file())


def speed(tree: Path, with_pylint: bool) -> bool:
    """A first and a second run over a tree on two cores, and pylint over the same."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    tree, lines = tree.absolute(), _lines(tree)
    ours = [sys.executable, "-m", "pytest_memleak", "scan-code", str(tree), "--format", "json", "--output", "report"]
    with tempfile.TemporaryDirectory() as name:  # the cache lies in the working folder
        runs = {"first run": _run(ours, Path(name)), "second run": _run(ours, Path(name))}
    for title, run in runs.items():
        if run.code not in (0, 1, 2):
            raise SystemExit(f"the {title} failed with exit code {run.code}: {run.output[-2_000:]}")
    first, again = runs["first run"], runs["second run"]
    reached = lines / first.seconds >= _LINES_PER_S and again.seconds <= _AGAIN_S and first.peak_bytes <= _PEAK_BYTES
    if with_pylint and importlib.util.find_spec("pylint"):
        options = ["--disable=all", "--enable=R1732", "-j", str(_CORES), "--persistent=n", "--recursive=y"]
        with tempfile.TemporaryDirectory() as name:
            theirs = _run([sys.executable, "-m", "pylint", *options, str(tree)], Path(name))
        runs["pylint R1732"] = theirs
        reached = reached and theirs.seconds >= _TIMES_AS_FAST * first.seconds
    rows = [
        [
            title,
            f"{run.seconds:.2f}",
            f"{lines / run.seconds:,.0f}",
            f"{run.peak_bytes / 1e6:.0f}",
            f"{run.seconds / first.seconds:.1f}",
        ]
        for title, run in runs.items()
    ]
    say(f"{lines:,} lines")
    say(table(("", "s", "lines/s", "MB", "times the first"), rows))
    if "pylint R1732" not in runs:
        say("pylint was not run: install it into this environment to compare")
    return reached


def clean(packages: Sequence[str], wheels: Path, confidence: str) -> bool:
    """The findings in each of some well-kept packages; each that there is has to be argued."""
    rows, shown = [], []
    with tempfile.TemporaryDirectory() as name:
        for package, folder in _unpack(wheels, [(package, "") for package in packages], Path(name)).items():
            findings = _scan(folder, confidence)
            counts = collections.Counter(finding["code"] for finding in findings)
            told = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
            rows.append([package, _lines(folder), len(findings), told])
            shown += [f"{each['path']}:{each['line']}: {each['code']} {each['message']}" for each in findings]
    say(table(("package", "lines", "findings", "codes"), rows))
    for line in shown:
        say(line)
    return not shown


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    by_labels = parts.add_parser("labels", help="precision and recall on labelled places")
    by_labels.add_argument("--labels", type=Path, required=True, help="a CSV file of labelled places")
    by_speed = parts.add_parser("speed", help="lines/s, memory, and pylint beside it")
    by_speed.add_argument("tree", type=Path, help="the folder to scan")
    by_speed.add_argument("--no-pylint", action="store_true", help="do not run pylint")
    by_clean = parts.add_parser("clean", help="the findings in well-kept packages")
    by_clean.add_argument("packages", nargs="*", default=_CLEAN, help=f"their names (default: {' '.join(_CLEAN)})")
    for part in (by_labels, by_clean):
        part.add_argument("--wheels", type=Path, required=True, help="the folder of the packages' wheels")
        part.add_argument("--confidence", choices=("low", "medium", "high"), default="medium", help="of the findings")
    given = parser.parse_args()
    if given.part == "labels":
        return OK if labels(given.labels, given.wheels, given.confidence) else MISSED
    if given.part == "speed":
        return OK if speed(given.tree, not given.no_pylint) else MISSED
    return OK if clean(given.packages or _CLEAN, given.wheels, given.confidence) else MISSED


if __name__ == "__main__":
    sys.exit(main())
