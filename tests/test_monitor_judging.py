"""The verdict: what it says, that it comes by itself, and what it costs the process that is judged."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from fastapi import FastAPI
from monitor_support import ask, scope_of
from waiting import until

from pytest_memleak.model import Outcome
from pytest_memleak.model_monitor import Judged, Reading
from pytest_memleak.model_watch import Severity, Thresholds
from pytest_memleak.monitor import judging, setup_memory_monitoring, teardown, verdicts
from pytest_memleak.monitor.ring import Ring
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor


def reading(t: float, live: int = 0) -> Reading:
    return Reading(t=t, rss_bytes=live + 1, vms_bytes=live + 2, live_bytes=live, in_flight=0)


def lives(levels: Callable[[int], float], counts: dict[str, Callable[[int], int]], size: int = 240) -> Ring:
    """A ring of readings every five seconds."""
    ring = Ring(size)
    for at in range(size):
        finished = {name: count(at) for name, count in counts.items()}
        ring.add(reading(1_000_000 + 5.0 * at, live=int(levels(at))), finished)
    return ring


def wobble(at: int) -> int:
    """Some noise that is the same in each run, 0 to 96."""
    return at * 7_919 % 97


def test_growth_is_a_leak_of_the_endpoint_that_keeps() -> None:
    requests = {
        "GET /leaky": lambda at: 20 * at + wobble(at),
        "GET /light": lambda at: 30 * at + 3 * wobble(at + 5),
        "GET /slow": lambda at: 25 * at + 2 * wobble(at + 11),
    }
    ring = lives(lambda at: 50e6 + 20_000 * requests["GET /leaky"](at) + 100 * wobble(at + 3), requests)
    judged = judging.judge(ring, Thresholds())
    assert judged.verdict.outcome is Outcome.LEAK
    assert judged.verdict.name == "live heap"
    assert judged.verdict.severity is Severity.MEDIUM
    assert [growth.endpoints for growth in judged.endpoints if growth.leaks] == [("GET /leaky",)]
    whole = judged.verdict.rate.value
    assert judged.endpoints[0].mb_per_min.value + judged.unattributed_mb_per_min >= 0.9 * whole
    assert sum(growth.mb_per_min.value for growth in judged.endpoints[1:]) == 0


def leaky(at: int) -> int:
    """Requests of an endpoint until the 160th reading, none after that."""
    return 20 * min(at, 160) + (wobble(at) if at < 160 else wobble(160))


def test_a_leak_is_one_still_when_nobody_calls_it_any_more() -> None:
    requests = {"GET /leaky": leaky, "GET /light": lambda at: 30 * at + 3 * wobble(at + 5)}
    judged = judging.judge(lives(lambda at: 50e6 + 20_000 * leaky(at) + 100 * wobble(at + 3), requests), Thresholds())
    assert judged.verdict.outcome is Outcome.LEAK
    assert [growth.endpoints for growth in judged.endpoints if growth.leaks] == [("GET /leaky",)]
    assert judged.notes[0] == (
        "The growth goes with the requests of GET /leaky, not with time; the last one ended 6 min 35 s ago."
    )


def test_what_has_been_given_back_since_the_requests_ended_is_no_leak() -> None:
    requests = {"GET /leaky": leaky, "GET /light": lambda at: 30 * at + 3 * wobble(at + 5)}

    def level(at: int) -> float:
        return 50e6 + (20_000 * leaky(at) if at < 200 else 0) + 100 * wobble(at + 3)

    judged = judging.judge(lives(level, requests), Thresholds())
    assert judged.verdict.outcome is not Outcome.LEAK
    assert not any(growth.leaks for growth in judged.endpoints)
    assert not any("The growth goes with" in note for note in judged.notes)


def collected(at: int, *, early: int, late: int) -> int:
    """Full collections until a reading: one early, one late; 0 for none of them."""
    return int(0 < early <= at) + int(0 < late <= at)


@pytest.mark.parametrize(
    "early, late, stays, words",
    [
        (0, 0, 1.0, "no full garbage collection shows that it stays: collect garbage (POST gc-collect"),
        (20, 60, 1.0, "no full garbage collection shows that it stays"),
        (0, 230, 1.0, ""),
        (20, 230, 1.0, ""),
        (20, 238, 0.1, "most of it was garbage, as a full garbage collection showed"),
    ],
    ids=["never collected", "long ago", "late", "twice", "all of it collected"],
)
def test_only_what_outlives_a_full_collection_is_a_leak(early: int, late: int, stays: float, words: str) -> None:
    ring = Ring(240)
    for at in range(240):
        grown = 400_000 * at * (stays if at >= late > 0 else 1) + 100 * wobble(at)
        full = collected(at, early=early, late=late)
        kept = Reading(
            t=5.0 * at, rss_bytes=1, vms_bytes=1, live_bytes=int(50e6 + grown), in_flight=0, full_collections=full
        )
        ring.add(kept, {"GET /a": 20 * at + wobble(at)})
    verdict = judging.judge(ring, Thresholds()).verdict
    if words:
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert words in verdict.why
    else:
        assert verdict.outcome is Outcome.LEAK


def test_what_a_full_collection_took_is_no_leak_though_it_grows_again() -> None:
    ring = Ring(240)
    for at in range(240):
        grown = 400_000 * at + 100 * wobble(at) - (29_000_000 if at == 100 else 0)
        ring.add(
            Reading(
                t=5.0 * at, rss_bytes=1, vms_bytes=1, live_bytes=int(50e6 + grown), in_flight=0,
                full_collections=int(at >= 100),
            ),
            {"GET /a": 20 * at + wobble(at)},
        )  # fmt: skip
    verdict = judging.judge(ring, Thresholds()).verdict
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "most of it was garbage, as a full garbage collection showed" in verdict.why


def test_what_more_requests_hold_while_they_are_inside_is_no_leak() -> None:
    ring = Ring(240)
    for at in range(240):
        inside = at // 4 + at * 31 % 3
        live = int(50e6 + 2_000_000 * inside + 100 * wobble(at))
        finished = {"GET /a": 20 * at + wobble(at)}
        ring.add(Reading(t=5.0 * at, rss_bytes=1, vms_bytes=1, live_bytes=live, in_flight=inside), finished)
    judged = judging.judge(ring, Thresholds())
    assert judged.verdict.outcome is Outcome.INCONCLUSIVE
    assert "the requests that were inside held it" in judged.verdict.why
    assert not any(growth.leaks for growth in judged.endpoints)


def test_a_level_is_clean() -> None:
    ring = lives(lambda at: 50e6 + 100 * wobble(at), {"GET /light": lambda at: 30 * at + wobble(at + 5)})
    judged = judging.judge(ring, Thresholds())
    assert judged.verdict.outcome is Outcome.CLEAN
    assert not any(growth.leaks for growth in judged.endpoints)


@pytest.mark.parametrize(
    "levels, basis, words",
    [([], "RSS", "no reading"), ([5] * 3, "live heap", "too few"), ([-1] * 30, "RSS", "")],
)
def test_too_little_to_judge(levels: list[int], basis: str, words: str) -> None:
    ring = Ring(100)
    for at, level in enumerate(levels):
        ring.add(reading(at, live=level), {})
    judged = judging.judge(ring, Thresholds())
    assert judged.verdict.name == basis
    assert words in judged.verdict.why
    assert judged.endpoints == ()


@pytest.mark.parametrize("cost_s, pause_s", [(0.0, 60.0), (0.05, 60.0), (0.3, 60.0), (1.0, 200.0)])
def test_verdicts_take_a_small_share_of_a_core(cost_s: float, pause_s: float) -> None:
    assert judging.pause_s(cost_s) == pytest.approx(pause_s)
    assert cost_s / judging.pause_s(cost_s) <= 0.005


@pytest.mark.parametrize(
    "process, cost_s",
    [([10.0, 10.0, 12.0], 2.0), ([10.0, 60.0, 63.0], 2.0), ([10.0, 110.0, 112.0], 0.0)],
    ids=["an idle program", "one that uses half a core", "one that uses a core"],
)
def test_the_cost_is_that_of_all_threads_without_the_programs(process: list[float], cost_s: float) -> None:
    wall, used = iter([0.0, 100.0, 102.0]), iter(process)
    cost = judging.Cost(lambda: next(wall), lambda: next(used))
    assert cost.of(lambda: None) == pytest.approx(cost_s, abs=0.01)


def test_a_verdict_comes_by_itself_in_the_collectors_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "pause_s", lambda _cost_s: 0.1)
    app = FastAPI()
    monitor = setup_memory_monitoring(app, interval_s=0.02, history_minutes=1)
    heard: list[tuple[str, Judged]] = []
    monitor.on_judged.append(lambda judged: heard.append((threading.current_thread().name, judged)))
    try:
        ask(app, scope_of("/none"))
        until(lambda: len(heard) >= 2, "a second verdict")
    finally:
        teardown(app)
    assert {name for name, _ in heard} == {"memleak-monitor"}
    assert monitor.judged is heard[-1][1]


def test_a_judge_that_fails_is_asked_no_sooner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def fail(*_found: Any) -> Judged:
        asked.append(1)
        raise ArithmeticError("singular")

    monitor = Monitor(Settings())
    monkeypatch.setattr(judging, "judge", fail)
    monitor._judge_at_s = 0.0
    for _ in range(3):
        monitor._read_and_judge()
    assert (len(asked), len(monitor.ring)) == (1, 3)
    assert capsys.readouterr().err.count("singular") == 1


def test_no_sample_is_taken_while_a_verdict_is_made() -> None:
    monitor = Monitor(Settings(interval_s=60))
    monitor.start()
    try:
        until(lambda: len(monitor.ring), "the first reading")
        assert monitor._weigh() > 0
        with monitor._judging, pytest.raises(OSError, match="verdict"):
            monitor._weigh()
    finally:
        monitor.stop()


PREPARED = """
    from pytest_memleak.monitor.settings import Settings
    from pytest_memleak.monitor.state import Monitor
    from waiting import until
    from test_monitor_judging import lives, wobble

    monitor = Monitor(Settings(interval_s=0.05))
    seen = []
    monitor.on_reading.append(lambda reading: seen.append((reading.live_bytes, "numpy" in sys.modules)))
    monitor.start()
    until(lambda: len(seen) >= 3, "readings")
    monitor.stop()
    assert all(known for _, known in seen), seen
    assert seen[-1][0] - seen[0][0] < 1_000_000, seen
    monitor.ring = lives(lambda at: 50e6 + 400_000 * at + wobble(at), {"GET /a": lambda at: 20 * at + wobble(at)})
    before = monitor.live()
    assert monitor.judge().verdict.outcome.value == "LEAK"
    assert monitor.live() - before < 1_000_000, monitor.live() - before
"""

MISSING = """
    sys.modules["numpy"] = None
    from pytest_memleak.monitor.settings import Settings
    from pytest_memleak.monitor.state import Monitor
    from waiting import until

    monitor = Monitor(Settings(interval_s=0.05))
    monitor.start()
    until(lambda: len(monitor.ring) >= 2, "readings")
    monitor.stop()
    verdict = monitor.judge().verdict
    assert verdict.outcome.value == "INCONCLUSIVE"
    assert verdict.why.endswith(
        "needs numpy: python -m pip install 'pytest-memleak[monitor]' (memleak explain missing-extra)"
    ), verdict.why
"""


@pytest.mark.parametrize("code", [PREPARED, MISSING], ids=["there", "missing"])
def test_what_judges_is_imported_before_the_first_reading(code: str) -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{dedent(code)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_algebra_has_one_thread_and_afterwards_as_many_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    judging.prepare()

    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]

    judged = verdicts.judged
    inside: list[list[int]] = []

    def seen(*arguments: Any) -> Judged:
        inside.append(threads())
        return judged(*arguments)

    monkeypatch.setattr(verdicts, "judged", seen)
    ring = lives(lambda at: 50e6 + wobble(at), {"GET /a": lambda at: at})
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        assert 2 in before
        assert judging.judge(ring, Thresholds()).verdict.outcome is Outcome.CLEAN
        assert threads() == before
    assert inside == [[1] * len(before)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_is_forked_during_the_import_can_import_too(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import sys; sys.modules['__main__'].BEGUN.set(); import time; time.sleep(1)\n"
    )
    program = """
        import os, signal, sys, threading
        sys.path.insert(0, FOLDER)
        from pytest_memleak.monitor import judging
        BEGUN = threading.Event()
        judging._judge_something = lambda: __import__("slow_module")
        thread = threading.Thread(target=judging.prepare)
        thread.start()
        BEGUN.wait()
        child = os.fork()
        if not child:
            signal.alarm(60)
            import slow_module
            judging.prepare()
            os._exit(7)
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """.replace("FOLDER", repr(str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(program)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
