"""How often the trend judge is right, on labelled series that it was not tuned to.

Recorded from real processes (`trend_recordings/`, made by `trend_record.py`) and generated (`trend_series.py`). Half of
the recordings and half of the seeds were for tuning; the other half is held out, and only its figures are quoted.
`--part tuning` shows the first half.

Right is LEAK for what leaks, CLEAN for what does not, and INCONCLUSIVE where the series cannot show which: a cache
filled by less than half, a step at the end. Those are marked (?). What no judge that finds the leaks can pass, such as
a cache whose bend drowns in noise, is marked (*), told, and not counted. `accuracy` counts an INCONCLUSIVE as wrong
where the answer was to be known; `of the decided` is what is right of the known that were decided. False alarms are
told of all that does not leak, the (?) among them, and so are leaks that were passed.

reach  a leak of 5 MB/min over white noise of 2 MB standard deviation, read 36 times, every 5 s: how often it is found

Goal: accuracy at least 0.97, false alarms at most 1 %, leaks passed at most 1 %, reach at least 95 %.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pytest_runs import MISSED, OK, say, table
from trend_record import PACE
from trend_series import FIRST_SEED, LIMIT_MB_PER_MIN, Series, generated
from trend_workloads import WORKLOADS

from pytest_memleak.model import Outcome
from pytest_memleak.model_watch import Thresholds, Track
from pytest_memleak.verdict.watched import judge_track, judge_tracks

RECORDINGS: Final = Path(__file__).resolve().parent / "trend_recordings"
THRESHOLDS: Final = Thresholds(medium=LIMIT_MB_PER_MIN)
PARTS: Final = ("tuning", "held-out")

OUTCOMES: Final = ("CLEAN", "LEAK", "INCONCLUSIVE")

LEAST_ACCURACY: Final = 0.97
MOST_WRONG: Final = 0.01
LEAST_REACH: Final = 0.95


def recorded(part: str) -> list[Series]:
    """The recordings of one part: they take turns within each workload."""
    found = []
    for path in sorted(RECORDINGS.glob("*.json")):
        for one in json.loads(path.read_text()):
            if PARTS[one["seed"] % 2] != part:
                continue
            workload = WORKLOADS[one["kind"]]
            tracks = tuple(
                Track(
                    name=f"life {number}",
                    times_s=tuple(ms / 1000 * PACE for ms in life["ms"]),
                    levels=tuple(kb * 1000.0 for kb in life["kb"]),
                )
                for number, life in enumerate(one["lives"])
            )
            source = f"{one['allocator']} {one['python']}"
            kind = one["kind"].replace("_", " ")
            found.append(
                Series(kind=kind, part=part, tracks=tracks, leaks=workload.leaks, known=workload.known, source=source)
            )
    return found


def judged(series: Series) -> Outcome:
    """What the judge says."""
    if len(series.tracks) == 1:
        return judge_track(series.tracks[0], THRESHOLDS).outcome
    return judge_tracks(series.kind, series.tracks, THRESHOLDS).outcome


def truth(series: Series) -> Outcome:
    """What is right to say."""
    if not series.known:
        return Outcome.INCONCLUSIVE
    return Outcome.LEAK if series.leaks else Outcome.CLEAN


def tally(every: Sequence[Series]) -> collections.Counter[str]:
    """Judge them, and count."""
    seen: collections.Counter[str] = collections.Counter()
    for series in every:
        said, right = judged(series), truth(series)
        seen.update(all=1, right=int(said is right))
        seen.update(leaks=int(series.leaks), clean=int(not series.leaks))
        seen.update(alarms=int(said is Outcome.LEAK and not series.leaks))
        seen.update(passed=int(said is Outcome.CLEAN and series.leaks))
        if said is not right:
            seen[f"not {said.value}"] += 1
        if series.known and said is not Outcome.INCONCLUSIVE:
            seen.update(decided=1, decided_right=int(said is right))
        seen.update(known=int(series.known), answered=int(said is right and series.known))
    return seen


def rows(every: Sequence[Series]) -> tuple[list[tuple[object, ...]], collections.Counter[str]]:
    """A row for each kind, and the sums."""
    kinds: dict[tuple[str, str], list[Series]] = {}
    for series in every:
        source = "generated" if series.source == "generated" else "recorded"
        kinds.setdefault((source, series.kind), []).append(series)
    found: list[tuple[object, ...]] = []
    total: collections.Counter[str] = collections.Counter()
    for (source, kind), members in kinds.items():
        seen = tally(members)
        if members[0].counted:
            total += seen
        mark = "" if members[0].known else " (?)" if members[0].counted else " (*)"
        wrong = [seen[f"not {word}"] for word in OUTCOMES]
        found.append((source, kind + mark, truth(members[0]).value, seen["all"], seen["right"], *wrong))
    return found, total


def reach(seeds: int, part: str) -> float:
    """The share of seeds in which the leak is found within three minutes."""
    times = np.arange(36) * 5.0
    found = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed + FIRST_SEED[part], *part.encode()])
        levels = 2e8 + 5e6 / 60 * times + rng.normal(0, 2e6, times.size)
        track = Track(name="reach", times_s=tuple(times.tolist()), levels=tuple(levels.tolist()))
        found += judge_track(track, THRESHOLDS).outcome is Outcome.LEAK
    return found / seeds


def main() -> int:
    """Judge one part, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="held-out")
    parser.add_argument("--each", type=int, default=40, help="generated series of each kind")
    parser.add_argument("--seeds", type=int, default=400, help="of the reach")
    options = parser.parse_args()
    begun = time.perf_counter()
    every = recorded(options.part) + generated(options.part, options.each)
    lines, seen = rows(every)
    headings = ("source", "kind", "right is", "series", "right", *(f"wrongly {word}" for word in OUTCOMES))
    say(table(headings, lines))
    accuracy, alarms = seen["right"] / seen["all"], seen["alarms"] / max(1, seen["clean"])
    passed, found = seen["passed"] / max(1, seen["leaks"]), reach(options.seeds, options.part)
    decided = seen["decided_right"] / max(1, seen["decided"])
    real = sum(series.source != "generated" for series in every)
    seconds = time.perf_counter() - begun
    say(f"{options.part}: {seen['all']} series counted, {real} of them recorded; judged in {seconds:.0f} s")
    say(
        f"accuracy {accuracy:.3f} (goal {LEAST_ACCURACY}); of the known {seen['answered'] / max(1, seen['known']):.3f}"
        f", of the decided {decided:.3f}"
    )
    say(f"false alarms: {seen['alarms']} of {seen['clean']} ({alarms:.2%}, goal at most {MOST_WRONG:.0%})")
    say(f"leaks passed: {seen['passed']} of {seen['leaks']} ({passed:.2%}, goal at most {MOST_WRONG:.0%})")
    say(f"reach: found in {found:.1%} of {options.seeds} seeds (goal {LEAST_REACH:.0%})")
    reached = accuracy >= LEAST_ACCURACY and max(alarms, passed) <= MOST_WRONG and found >= LEAST_REACH
    return OK if reached else MISSED


if __name__ == "__main__":
    sys.exit(main())
