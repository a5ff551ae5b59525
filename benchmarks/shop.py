"""The example shops, leaky and fixed, measured by their own tests, several runs of both.

What is right is told by `examples/shop_tests/leaks.py`: of the leaky shop, the tests that leak are convicted
and the first site of the first leak is the guilty line (or one of the other lines that allocate a part of
it); the others are CLEAN, the two that only look like leaks among them. Of the fixed shop all are CLEAN.

Goal: all of that in every run, which also means that no verdict changes between runs. INCONCLUSIVE misses it,
and is counted beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import runpy
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_runs import CHECKOUT, MISSED, OK, Run, add_keep, keep_run, run_process, say, table

EXAMPLES: Final = CHECKOUT / "examples"
SHOPS: Final = ("leaky_shop", "fixed_shop")
TRAPS: Final = ("test_picture", "test_categories")

# Fourteen measurements of 30 s at the most, some of them with confirmation and diagnosis.
_LIMIT_S: Final = 900.0


def truth() -> Mapping[str, Any]:
    """What the leaky shop leaks by test; None for a clean one."""
    leaks: Mapping[str, Any] = runpy.run_path(str(EXAMPLES / "shop_tests" / "leaks.py"))["LEAKS"]
    return leaks


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one run said of one test of one shop."""

    outcome: str
    seconds: float
    line: str
    """The first site of the first leak."""
    named: bool
    """Whether that is the guilty line."""


def measure(shop: str, expression: str) -> Run:
    """Run the tests of one shop in a process of its own, on a copy of the examples."""
    with tempfile.TemporaryDirectory(prefix="memleak-shop-") as temporary:
        folder = Path(temporary)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in (shop, "shop_tests"):
            shutil.copytree(EXAMPLES / name, folder / name, ignore=ignored)
        # An ini file of its own keeps out whatever lies in a parent folder.
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        written = folder / "results.json"
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--shop", shop]
        options += ["--memleak", "--memleak-json", str(written)]
        if expression:
            options += ["-k", expression]
        run = run_process([sys.executable, "-m", "pytest", *options, "shop_tests"], folder=folder, limit_s=_LIMIT_S)
        if not written.exists():
            return run
        return dataclasses.replace(run, results=tuple(json.loads(written.read_text(encoding="utf-8"))["results"]))


def verdict(result: Mapping[str, Any], leak: Any) -> Verdict:
    """What a result says, and whether it names the line of `leak` (None: there is none to name)."""
    leaks = result["leaks"]
    sites = leaks[0]["sites"] if leaks else ()
    frame = sites[0]["frame"] if sites else None
    named = (
        leak is not None
        and frame is not None
        and Path(frame["path"]).parts[-2:] == ("shop", leak.file)
        and frame["source"].strip() in (leak.line, *leak.also)
    )
    line = f"{Path(frame['path']).name}:{frame['line']} {frame['source'].strip()}" if frame else "-"
    return Verdict(outcome=result["outcome"], seconds=result["seconds"], line=line, named=named)


def is_right(found: Verdict, leak: Any) -> bool:
    """Whether a verdict is what it should be."""
    return found.outcome == "CLEAN" if leak is None else found.outcome == "LEAK" and found.named


def report(verdicts: Mapping[tuple[str, str], Sequence[Verdict]], leaks: Mapping[tuple[str, str], Any]) -> str:
    """One line per shop and test over all runs."""
    rows, wrong = [], []
    for key, found in verdicts.items():
        shop, test = key
        leak = leaks[key]
        right = "CLEAN" if leak is None else "LEAK"
        outcomes = Counter(one.outcome for one in found)
        told = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
        named = "-" if leak is None else f"{sum(one.named for one in found)}/{len(found)}"
        good = sum(is_right(one, leak) for one in found)
        seconds = [one.seconds for one in found]
        times = f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"
        label = f"{test} (trap)" if test in TRAPS else test
        changed = "differs" if len(outcomes) > 1 else ""
        rows.append((shop, label, right, told, named, f"{good}/{len(found)}", *times, changed))
        misled = Counter(f"{one.outcome}, first site {one.line}" for one in found if not is_right(one, leak))
        wrong += [f"{shop} {test}: {told} ({count} times)" for told, count in misled.items()]
    header = ("shop", "test", "right is", "verdicts", "line named", "right", "median s", "max s", "")
    return "\n".join([table(header, rows), *(["", "Not as expected:", *wrong] if wrong else [])])


def main() -> int:
    """Run what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of both shops")
    parser.add_argument("--tests", default="", metavar="EXPRESSION", help="only tests that pytest's -k would choose")
    parser.add_argument("--shops", nargs="+", choices=SHOPS, default=SHOPS, help="only these")
    add_keep(parser)
    arguments = parser.parse_args()
    guilty = truth()
    leaks: dict[tuple[str, str], Any] = {}
    verdicts: dict[tuple[str, str], list[Verdict]] = {}
    chosen: dict[str, set[str]] = {}
    complete = True
    for number in range(1, arguments.runs + 1):
        for shop in arguments.shops:
            run = measure(shop, arguments.tests)
            wrong = []
            for test, result in run.by_name().items():
                key = shop, test
                leaks[key] = guilty[test] if shop == "leaky_shop" else None
                found = verdict(result, leaks[key])
                verdicts.setdefault(key, []).append(found)
                if not is_right(found, leaks[key]):
                    wrong.append(f"{test}: {found.outcome}")
            measured = set(run.by_name())
            missing = sorted(chosen.setdefault(shop, set() if arguments.tests else set(guilty)) - measured)
            chosen[shop] |= measured
            complete = complete and bool(measured) and not missing
            wrong += [f"{test}: not measured" for test in missing]
            say(f"run {number}, {shop}: {', '.join(wrong) or 'all right'} in {run.seconds:.0f} s")
            if not measured:
                say(run.error())
            if wrong or not measured:
                keep_run(arguments.keep, f"{shop}-{number}", run)
    say("\n" + report(verdicts, leaks))
    every = [(key, one) for key, found in verdicts.items() for one in found]
    inconclusive = sum(one.outcome == "INCONCLUSIVE" for _, one in every)
    right = sum(is_right(one, leaks[key]) for key, one in every)
    say(f"\n{right} of {len(every)} right, {inconclusive} inconclusive")
    return OK if complete and right == len(every) else MISSED


if __name__ == "__main__":
    sys.exit(main())
