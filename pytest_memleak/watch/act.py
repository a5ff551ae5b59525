"""The acts of a watch: carry one out, and judge a recorded one again.

snapshots of the tree ─► tracks, one per life ─► trend judge ─► WatchResult
        └─► readings.jsonl, where it is recorded
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import pytest_memleak.soak.one_thread as one_thread  # noqa: F401  (first: it decides how numpy computes)
from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.model_watch import Thresholds, TrackVerdict, WatchResult
from pytest_memleak.reports import watch_text
from pytest_memleak.soak.folder import RUN, FolderError, RunFolder, read_plan, records
from pytest_memleak.verdict.watched import judge_tracks
from pytest_memleak.watch import seen as record_of
from pytest_memleak.watch.composition import changes, composition
from pytest_memleak.watch.judging import judge
from pytest_memleak.watch.limits import Limit, limit_of
from pytest_memleak.watch.plan import Plan, WatchError
from pytest_memleak.watch.sampling import Gone, Snapshot
from pytest_memleak.watch.seen import Seen

WATCH: Final = "watch"
"""The kind of run that `run.json` names."""

# A judgement costs 10 ms for a few processes and a second for hundreds: it is made every tenth second, or as seldom as
# keeps it below half a hundredth of a core.
_JUDGE_EACH_S: Final = 10.0
_JUDGE_SHARE: Final = 0.005

# One reading is a size and no growth.
_LEAST_READINGS: Final = 2

_WIDTH: Final = 100
"""Columns of the report that is kept."""


class Sampler(Protocol):
    """What gives snapshots: a process tree, or a monitor that answers for one. `read` raises Gone."""

    def read(self) -> Snapshot: ...
    def pids(self) -> list[int]:
        """The processes of this machine that it reads; empty where they are elsewhere."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a watch is; `verdict` is the last one, None before the first."""

    elapsed_s: float
    wanted_s: float
    rss_bytes: float
    processes: int
    verdict: TrackVerdict | None


def watch(
    sampler: Sampler,
    plan: Plan,
    *,
    target: str,
    root_pid: int,
    progress: Callable[[Progress], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> WatchResult:
    """Watch for the plan's time, or until the process ends, Ctrl-C, or (fail_fast) a leak is certain.

    Raises WatchError when the process ended before there were two readings, FolderError when the folder
    cannot be written.
    """
    with _recorded(plan, target, root_pid) as folder:
        found = _Watching(
            sampler, plan, target=target, root_pid=root_pid, folder=folder, progress=progress, sleep=sleep, clock=clock
        )
        result = found.run()
        if folder is None:
            return result
        folder.append({"kind": "end", "words": result.ended_early, "made_of": result.made_of, "notes": result.notes})
        trouble = folder.write_result(result.to_dict(), watch_text.explain(result, width=_WIDTH))
    return dataclasses.replace(result, notes=(*result.notes, trouble)) if trouble else result


@contextlib.contextmanager
def _recorded(plan: Plan, target: str, root_pid: int) -> Iterator[RunFolder | None]:
    if not plan.folder:
        yield None
        return
    start = {"kind": WATCH, "target": target, "root_pid": root_pid, **plan.to_dict()}
    folder = RunFolder.create(Path(plan.folder), start)
    try:
        yield folder
    finally:
        folder.close()


class _Watching:
    """One watch while it runs."""

    def __init__(
        self,
        sampler: Sampler,
        plan: Plan,
        *,
        target: str,
        root_pid: int,
        folder: RunFolder | None,
        progress: Callable[[Progress], None],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._sampler = sampler
        self._plan = plan
        self._target = target
        self._folder = folder
        self._progress = progress
        self._sleep = sleep
        self._clock = clock
        self._seen = Seen(root_pid)
        self._limit: Limit | None = None
        self._verdict: TrackVerdict | None = None
        self._judge_next_s = _JUDGE_EACH_S
        self._notes: list[str] = []

    def run(self) -> WatchResult:
        before = after = None
        ended_early = ""
        try:
            start = self._clock()
            self._take()
            pids = self._sampler.pids()
            before = composition(pids)
            if pids:
                self._limit = limit_of(pids[0])
                self._keep_limit()
            ended_early = self._follow(start)
            after = composition(self._sampler.pids())
        except Gone as gone:
            if self._seen.count < _LEAST_READINGS:
                raise WatchError(f"{gone} before it could be read twice") from None
            ended_early = str(gone)
        except KeyboardInterrupt:
            if not self._seen.count:
                raise
            ended_early = "it was interrupted"
            after = composition(self._sampler.pids())
        return judge(
            self._seen,
            self._plan,
            target=self._target,
            limit=self._limit,
            made_of=changes(before, after),
            ended_early=ended_early,
            notes=tuple(self._notes),
        )

    def _follow(self, start: float) -> str:
        """Read at each interval; gives why it ended before its time."""
        reads = round(self._plan.duration_s / self._plan.interval_s)
        for count in range(1, reads + 1):
            due = start + count * self._plan.interval_s
            # A machine that slept, or stalls, loses readings; they are not made up for.
            wait = due - self._clock()
            if wait < -self._plan.interval_s and count < reads:
                continue
            self._sleep(max(0.0, wait))
            self._take()
            if self._plan.fail_fast and self._verdict is not None and self._verdict.outcome is Outcome.LEAK:
                return "a leak was certain (--fail-fast)"
        return ""

    def _take(self) -> Snapshot:
        snapshot = self._sampler.read()
        self._seen.add(snapshot)
        if self._folder is not None:
            self._folder.append(record_of.record(snapshot))
        if self._seen.seconds >= self._judge_next_s:
            began = time.thread_time()
            self._verdict = judge_tracks(self._target, self._seen.tracks(), self._plan.thresholds)
            cost = time.thread_time() - began
            self._judge_next_s = self._seen.seconds + max(_JUDGE_EACH_S, cost / _JUDGE_SHARE)
        self._progress(
            Progress(
                elapsed_s=self._seen.seconds,
                wanted_s=self._plan.duration_s,
                rss_bytes=float(snapshot.rss),
                processes=len(snapshot.readings),
                verdict=self._verdict,
            )
        )
        return snapshot

    def _keep_limit(self) -> None:
        if self._folder is not None and self._limit is not None:
            self._folder.append({"kind": "limit", **dataclasses.asdict(self._limit)})


def is_watch(path: Path) -> bool:
    """Whether a folder is that of a watch, not of a soak. Raises FolderError when it holds no run."""
    return read_plan(path).get("kind") == WATCH


def review(path: Path) -> WatchResult:
    """Judge a recorded watch again. Raises FolderError."""
    start = read_plan(path)
    try:
        thresholds = Thresholds(**start["thresholds"])
        plan = Plan(
            duration_s=float(start["duration_s"]), interval_s=float(start["interval_s"]),
            thresholds=thresholds, folder=str(path),
        )  # fmt: skip
        seen, target = Seen(int(start["root_pid"])), str(start["target"])
        limit: Limit | None = None
        ended = "the watch was killed"
        made_of: tuple[tuple[str, float], ...] = ()
        notes: tuple[str, ...] = ()
        for values in records(path):
            if values["kind"] == "tree":
                seen.add(record_of.replayed(values))
            elif values["kind"] == "limit":
                limit = Limit(limit_bytes=values["limit_bytes"], whose=values["whose"], used=values["used"])
            elif values["kind"] == "end":
                ended, notes = values["words"], tuple(values["notes"])
                made_of = tuple((str(kind), float(size)) for kind, size in values["made_of"])
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path / RUN} is not the record of a watch ({error!r})") from None
    if not seen.count:
        raise FolderError(f"{path} holds no reading")
    return judge(seen, plan, target=target, limit=limit, made_of=made_of, ended_early=ended, notes=notes)


def as_soak(result: WatchResult) -> SoakResult:
    """A watch in the words of a soak, so that `memleak verify` compares either with either."""
    verdict = result.verdict
    is_whole = not result.ended_early or verdict.outcome is Outcome.LEAK
    return SoakResult(
        name=result.target,
        outcome=verdict.outcome if is_whole else Outcome.INCONCLUSIVE,
        why=verdict.why if is_whole else f"it ended early ({result.ended_early}): {verdict.why}",
        basis=f"{result.basis} from outside",
        limit_mb_per_min=result.limit_mb_per_min,
        growth=verdict.rate,
        seconds=result.seconds,
        wanted_seconds=result.wanted_seconds,
        warm_up_s=0.0,
        workers=len(result.processes),
        readings=verdict.readings,
        curves=result.curves,
        cores=result.cores,
        notes=result.notes,
        events=result.events,
        folder=result.folder,
    )
