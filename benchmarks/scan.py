"""How often `memleak scan-code` is right, how fast it is, and whether it is silent about code that is clean.

labels  places in published packages that were judged by hand: those that leak, and those that only look like it. A
        place is hit when a finding of its pattern is within one line of it
speed   lines/s of a first run over a tree, the seconds of a second one that finds nothing changed, the most memory that
        all processes of a run had; and in turn with them, so that a machine that slows down slows down both, pylint
        with the one check that it shares with us (R1732). Medians of the rounds
clean   the findings in well-kept packages

Goal: precision of at least 0.90 and recall of at least 0.85 (high confidence), 150,000 lines/s and ten times as fast as
pylint, a second run within 0.5 s, 300 MB at the most, and no finding in the clean packages.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_runs import MISSED, OK, say, table
from scan_speed import lines_of, pylint_of, speed

_PRECISION: Final = 0.90
_RECALL: Final = 0.85

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


def clean(packages: Sequence[str], wheels: Path, confidence: str) -> bool:
    """The findings in each of some well-kept packages; each that there is has to be argued."""
    rows, shown = [], []
    with tempfile.TemporaryDirectory() as name:
        for package, folder in _unpack(wheels, [(package, "") for package in packages], Path(name)).items():
            findings = _scan(folder, confidence)
            counts = collections.Counter(finding["code"] for finding in findings)
            told = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
            rows.append([package, lines_of(folder), len(findings), told])
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
    by_speed.add_argument(
        "--pylint", default="", metavar="PYTHON", help="the Python that has pylint (default: this one)"
    )
    by_speed.add_argument("--rounds", type=int, default=1, help="how often (default: 1)")
    by_clean = parts.add_parser("clean", help="the findings in well-kept packages")
    by_clean.add_argument("packages", nargs="*", default=_CLEAN, help=f"their names (default: {' '.join(_CLEAN)})")
    for part in (by_labels, by_clean):
        part.add_argument("--wheels", type=Path, required=True, help="the folder of the packages' wheels")
        part.add_argument("--confidence", choices=("low", "medium", "high"), default="medium", help="of the findings")
    given = parser.parse_args()
    if given.part == "labels":
        return OK if labels(given.labels, given.wheels, given.confidence) else MISSED
    if given.part == "speed":
        pylint = [] if given.no_pylint else pylint_of(given.pylint)
        return OK if speed(given.tree, pylint, given.rounds) else MISSED
    return OK if clean(given.packages or _CLEAN, given.wheels, given.confidence) else MISSED


if __name__ == "__main__":
    sys.exit(main())
