"""A watch of real processes: what it reads, what it makes of lives that come and go, and how it ends."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import until
from watch_support import keeping

pytest.importorskip("scipy")

from pytest_memleak.model import Outcome
from pytest_memleak.model_watch import Thresholds, WatchResult
from pytest_memleak.reports import watch_text
from pytest_memleak.soak.folder import FolderError
from pytest_memleak.soak.results import load_result
from pytest_memleak.watch import act, sources, target
from pytest_memleak.watch.composition import KINDS, changes, composition
from pytest_memleak.watch.judging import forecast, judge
from pytest_memleak.watch.limits import Limit
from pytest_memleak.watch.plan import Plan, WatchError, checked
from pytest_memleak.watch.sampling import Gone, Reading, Snapshot, TreeSampler
from pytest_memleak.watch.seen import Seen, record, replayed

MIB = 1 << 20


def one(pid: int, rss: float, *, created_s: float = 0.0) -> Reading:
    return Reading(pid=pid, created_s=created_s, name="python", rss=int(rss), vms=0, threads=1, fds=3)


def seen_of(levels: list[dict[int, float]], *, step_s: float = 5.0) -> Seen:
    """A watch in which process `pid` had so many MiB at each step."""
    found = Seen(1)
    for at, row in enumerate(levels):
        readings = tuple(one(pid, level * MIB) for pid, level in row.items())
        found.add(Snapshot(t=1_000 + at * step_s, readings=readings))
    return found


class Scripted:
    """A sampler that gives what it is told, 5 s apart on its own clock."""

    def __init__(self, rows: list[dict[int, float]], end: BaseException | None = None) -> None:
        self._rows = iter(rows)
        self._end = end
        self._t = 0.0

    def read(self) -> Snapshot:
        self._t += 5
        for row in self._rows:
            return Snapshot(t=self._t, readings=tuple(one(pid, level * MIB) for pid, level in row.items()))
        assert self._end is not None
        raise self._end

    def pids(self) -> list[int]:
        return []


def busy(seconds: list[dict[int, float]], *, step_s: float = 5.0) -> Seen:
    """A flat watch in which process `pid` had used so much processor time at each step; -1 where it is not known."""
    found = Seen(1)
    for at, row in enumerate(seconds):
        readings = tuple(dataclasses.replace(one(pid, 50 * MIB), cpu_s=used) for pid, used in row.items())
        found.add(Snapshot(t=1_000 + at * step_s, readings=readings))
    return found


def test_the_processor_time_of_all_processes_is_told_by_the_second() -> None:
    # What a process used before it was seen does not count; one that ended used what it had.
    assert busy([{1: 7.0, 2: 100.0}, {1: 8.0, 2: 101.0}, {1: 9.0, 3: 5.0}]).cores == pytest.approx(0.3)
    assert busy([{1: -1.0}, {1: -1.0}]).cores is None
    assert busy([{1: 7.0}]).cores is None
    again = busy([{1: 7.0}, {1: 8.006}])
    snapshot = Snapshot(t=5.0, readings=(dataclasses.replace(one(1, MIB), cpu_s=8.006),))
    assert replayed(record(snapshot)).readings[0].cpu_s == 8.01
    early = {"t": 5.0, "processes": [[1, 0.0, "python", MIB, 0]]}
    assert replayed(early).readings[0].cpu_s == -1
    assert again.cores == pytest.approx(0.2012)


@pytest.mark.parametrize("used_s, is_told", [(0.4, True), (0.6, False), (-1.0, False)])
def test_a_process_without_growth_that_did_nothing_is_told(used_s: float, is_told: bool) -> None:
    plan = Plan(duration_s=100.0, interval_s=1.0)
    found = judge(
        busy([{1: used_s * at / 100 if used_s >= 0 else -1.0} for at in range(101)], step_s=1.0), plan, target="1"
    )
    assert found.verdict.outcome is Outcome.CLEAN
    assert any("of a core meanwhile" in note for note in found.notes) is is_told


def watch(rows: list[dict[int, float]], end: BaseException | None = None, **values: Any) -> WatchResult:
    plan = Plan(**{"duration_s": 5.0 * (len(rows) - 1 or 1), "interval_s": 5.0, **values})
    return follow(Scripted(rows, end), plan)


def follow(sampler: Scripted, plan: Plan, progress: Callable[[act.Progress], None] = lambda _: None) -> WatchResult:
    """A watch whose time passes in its own sleep only."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    return act.watch(sampler, plan, target="1 (shop)", root_pid=1, progress=progress, sleep=sleep, clock=lambda: now)


LEAK = [{1: 100 + 0.5 * at} for at in range(60)]
FLAT = [{1: 100 + 0.05 * (at % 3)} for at in range(60)]


def test_a_snapshot_of_a_real_tree() -> None:
    with keeping(0, children=2) as process:
        sampler = TreeSampler(target.by_pid(process.pid))
        until(lambda: len(TreeSampler(target.by_pid(process.pid)).read().readings) == 3, "three readings")
        snapshot = sampler.read(details=True)
        assert {reading.pid for reading in snapshot.readings} == {process.pid, *_children(process.pid)}
        assert all(reading.rss > MIB and reading.threads >= 1 and reading.fds >= 0 for reading in snapshot.readings)
        assert snapshot.rss == sum(reading.rss for reading in snapshot.readings)
        assert sampler.pids()[0] == process.pid
        process.kill()
        process.wait()
        with pytest.raises(Gone, match=f"process {process.pid} has ended"):
            sampler.read()


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def test_a_child_that_is_killed_is_missed_at_once_and_a_new_one_is_found_soon() -> None:
    now = 0.0
    with keeping(0, children=2) as process:
        until(lambda: len(_children(process.pid)) == 2, "two children")
        sampler = TreeSampler(target.by_pid(process.pid), clock=lambda: now)
        assert len(sampler.read().readings) == 3
        victim = _children(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: psutil.Process(victim).status() == psutil.STATUS_ZOMBIE, "its death")
        assert victim not in {reading.pid for reading in sampler.read().readings}
        now = 6.0
        assert len(sampler.read().readings) == 2


def test_a_later_process_of_the_same_pid_is_another_one() -> None:
    own = target.by_pid(os.getpid())
    with pytest.raises(Gone):
        TreeSampler(dataclasses.replace(own, created_s=own.created_s - 5)).read()


def test_a_clock_that_was_set_makes_no_other_process() -> None:
    now = 0.0
    own = target.by_pid(os.getpid())
    sampler = TreeSampler(dataclasses.replace(own, created_s=own.created_s + 0.5), clock=lambda: now)
    lives = {sampler.read().readings[0].life}
    now = 6.0  # it looks for members again
    lives.add(sampler.read().readings[0].life)
    assert len(lives) == 1


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel gives no smaps_rollup")
def test_what_memory_is_made_of() -> None:
    before = composition([os.getpid()])
    # Above 32 MiB the allocator asks the system each time; below that it may have as much, and resident, in store.
    kept = bytearray(b"x") * (80 * MIB)
    after = composition([os.getpid()])
    grown = dict(changes(before, after))
    assert set(grown) == set(KINDS)
    assert 75 * MIB < grown["heap and stacks"] < 110 * MIB
    assert abs(grown["mapped files"]) < 10 * MIB
    del kept


def test_the_composition_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert composition([1], tmp_path) is None
    assert changes(None, dict.fromkeys(KINDS, 1)) == ()


def test_a_real_process_that_keeps_memory() -> None:
    with keeping(600) as process, sources.opened(sources.Wanted(pid=process.pid)) as source:
        result = source.watch(Plan(duration_s=8, interval_s=0.2), lambda _: None)
    assert result.verdict.outcome is Outcome.LEAK, result.verdict.why
    assert result.verdict.severity.value == "critical"
    assert 200 < result.verdict.rate.value < 900
    assert result.final_bytes > result.initial_bytes
    assert result.forecast is not None


def test_a_restarted_worker_is_a_new_life_and_no_growth() -> None:
    rows = [{1: 50.0, 2: 100.0} if at < 30 else {1: 50.0, 3: 60.0 + min(at - 30, 5) * 8} for at in range(90)]
    result = watch(rows)
    assert result.verdict.outcome is not Outcome.LEAK, result.verdict.why
    assert [process.name for process in result.processes] == ["1 python", "2 python", "3 python"]
    assert any("process 2 python ended" in event for event in result.events)
    assert any("process 3 began" in event for event in result.events)
    assert any("hold" in note for note in result.notes)


@pytest.mark.parametrize(
    "rows, outcome", [(LEAK, Outcome.LEAK), (FLAT, Outcome.CLEAN), (LEAK[:5], Outcome.INCONCLUSIVE)]
)
def test_the_verdict(rows: list[dict[int, float]], outcome: Outcome) -> None:
    result = watch(rows)
    assert result.verdict.outcome is outcome, result.verdict.why
    assert (result.ended_early, result.seconds) == ("", 5 * (len(rows) - 1))


def test_fail_fast_ends_as_soon_as_it_is_certain() -> None:
    result = watch(LEAK, fail_fast=True)
    assert result.verdict.outcome is Outcome.LEAK
    assert result.ended_early == "a leak was certain (--fail-fast)"
    assert result.seconds < 5 * 59


@pytest.mark.parametrize(
    "end, words", [(Gone("process 1 has ended"), "process 1 has ended"), (KeyboardInterrupt(), "it was interrupted")]
)
def test_what_was_seen_is_judged_whatever_ends_it(end: BaseException, words: str) -> None:
    result = watch(LEAK, end, duration_s=1_000.0)
    assert result.verdict.outcome is Outcome.LEAK
    assert result.ended_early == words
    assert "It ended after" in watch_text.explain(result, width=80)


def test_nothing_to_read_at_all_is_said() -> None:
    with pytest.raises(WatchError, match="before it could be read twice"):
        watch([], Gone("process 1 has ended"))


def test_a_folder_keeps_every_reading_and_is_judged_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = watch(LEAK, folder=str(folder))
    lines = [json.loads(text) for text in (folder / "readings.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "tree" for line in lines) == len(LEAK)
    assert act.is_watch(folder)
    again = act.review(folder)
    assert again.verdict == result.verdict
    assert (again.initial_bytes, again.events, again.ended_early) == (result.initial_bytes, result.events, "")
    assert json.loads((folder / "result.json").read_text())["verdict"]["outcome"] == "LEAK"
    assert load_result(folder).outcome is Outcome.LEAK
    with pytest.raises(FolderError, match="holds a run already"):
        watch(LEAK, folder=str(folder))


def test_a_watch_that_was_killed_is_judged_by_what_it_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    watch(LEAK, folder=str(folder))
    path = folder / "readings.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]) + '{"kind":"tree","t":')
    again = act.review(folder)
    assert (again.verdict.outcome, again.ended_early) == (Outcome.LEAK, "the watch was killed")
    assert load_result(folder).outcome is Outcome.LEAK


@pytest.mark.parametrize("text", ["", '{"kind":"tree","t":1}\n', '{"kind":"tree","t":1,"processes":[[1]]}\n'])
def test_a_damaged_record_is_one_sentence(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run"
    watch(FLAT, folder=str(folder))
    (folder / "readings.jsonl").write_text(text)
    with pytest.raises(FolderError):
        act.review(folder)


def test_a_record_gives_back_the_snapshot() -> None:
    snapshot = Snapshot(t=5.0, readings=(one(1, 7.0, created_s=3.5), one(2, 9.0)))
    again = replayed(json.loads(json.dumps(record(snapshot))))
    assert [(reading.life, reading.rss) for reading in again.readings] == [((1, 3.5), 7), ((2, 0.0), 9)]


def test_a_long_watch_stays_small() -> None:
    found = seen_of([{1: float(at)} for at in range(20_000)])
    (track,) = found.tracks()
    assert 2_000 <= len(track.times_s) <= 4_096
    assert track.times_s[0] == 0.0
    assert all(late > early for early, late in itertools.pairwise(track.times_s))
    assert track.times_s[-1] > 0.999 * found.seconds
    assert len(found.curve().levels) <= 121


@pytest.mark.parametrize(
    "limit, level, seconds",
    [
        (Limit(limit_bytes=1060 * MIB, whose="the container's limit"), 1000 * MIB, 60 * MIB / (6 * MIB / 60)),
        (Limit(limit_bytes=1000 * MIB, whose="the container's limit"), 1000 * MIB, 0.0),
        (Limit(limit_bytes=1060 * MIB, whose="the container's limit", used=1030 * MIB), 1000 * MIB, 300.0),
        (None, 0.0, None),
        (Limit(limit_bytes=10**15, whose="the machine's memory"), 0.0, None),
    ],
)
def test_when_a_limit_is_met(limit: Limit | None, level: float, seconds: float | None) -> None:
    verdict = judge(seen_of(LEAK), Plan(), target="x").verdict
    found = forecast(verdict, level, limit)
    if seconds is None:
        assert found is None
    else:
        assert found is not None
        assert found.seconds == pytest.approx(seconds, rel=0.05)


def test_what_is_clean_meets_no_limit() -> None:
    verdict = judge(seen_of(FLAT), Plan(), target="x").verdict
    assert forecast(verdict, 0.0, Limit(limit_bytes=10, whose="the machine's memory")) is None


@pytest.mark.parametrize(
    "values, words",
    [
        ({"duration_s": 0.0}, "the duration has to be above 0 seconds, got 0"),
        ({"interval_s": 0.01}, "the interval has to be at least 0.05 seconds, got 0.01"),
        ({"duration_s": 5.0}, "an interval of 10 s leaves no reading in 5 s"),
        ({"thresholds": Thresholds(medium=6)}, "the thresholds have to rise from medium to critical, got 6, 5, 20"),
        ({"thresholds": Thresholds(medium=float("nan"))}, "the thresholds have to rise"),
    ],
)
def test_what_cannot_be_watched(values: dict[str, Any], words: str) -> None:
    with pytest.raises(WatchError) as refused:
        checked(Plan(**values))
    assert words in str(refused.value)


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits(width: int) -> None:
    rows = [{pid: 100 + 0.5 * at * (pid == 3) for pid in range(1, 40)} for at in range(40)]
    text = watch_text.explain(watch(rows), width=width)
    assert max(map(len, text.splitlines())) <= width
    for name in ("initial RSS", "final RSS", "total growth", "growth rate", "duration", "verdict", "severity"):
        assert f"  {name}:" in text
    assert "LEAK DETECTED" in text
    assert "and 27 more" in text


def test_a_watch_reads_at_its_interval_and_reports_each() -> None:
    progress: list[act.Progress] = []
    follow(Scripted(FLAT), Plan(duration_s=295.0, interval_s=5.0), progress.append)
    assert [found.elapsed_s for found in progress] == [5.0 * at for at in range(60)]
    assert progress[-1].verdict is not None
