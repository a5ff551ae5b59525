"""From records to a result: scripted services, and what has to be said of them."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
from soak_traces import Record, Service, event, load, outside, recorded, window

from pytest_memleak.model import Outcome, Resource
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.soak.judge import LIVE, OUTSIDE, glance, judge
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan

PLAN = Plan(app="shop.main:app", duration_s=600.0)
NAMES = ("GET /a", "GET /b", "GET /c")
CLEAN = Service(keeps=dict.fromkeys(NAMES, 0.0))
LEAKY = Service(keeps={**CLEAN.keeps, "GET /a": 2_000.0})
"""2,000 B of each of 10 requests a second: 1.2 MB/min of each worker."""


def served(service: Service, workers: int = 1, *, complete: bool = True) -> list[Record]:
    """Ten minutes of so many workers, and a deep rest after them."""
    lives = [record for pid in range(1, workers + 1) for record in service.life(pid, 0, 600, after_s=10)]
    return window(0, 600, lives, complete=complete)


def judged(*segments: list[Record], plan: Plan = PLAN) -> SoakResult:
    return judge(recorded(*segments), plan)


def accused(result: SoakResult) -> list[str]:
    return [growth.name for growth in result.endpoints if growth.leaks]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("mix", [0.3, 0.9])
def test_a_leak_in_one_endpoint_accuses_that_endpoint_alone(workers: int, mix: float) -> None:
    result = judged(served(dataclasses.replace(LEAKY, mix=mix), workers))
    assert (result.outcome, result.basis, result.workers) == (Outcome.LEAK, LIVE, workers)
    assert result.growth.value == pytest.approx(1.2 * workers, rel=0.15)
    assert accused(result) == ["GET /a"]
    guilty = result.endpoints[0]
    assert guilty.bytes_per_request.low <= 2_000 <= guilty.bytes_per_request.high
    assert guilty.bytes_per_request.value == pytest.approx(2_000, rel=0.02)
    assert guilty.mb_per_min.value == pytest.approx(result.growth.value, rel=0.1)
    assert result.why.startswith("live heap at rest grew ")
    assert result.why.endswith("(99 %); limit 1")


@pytest.mark.parametrize("workers", [1, 4])
def test_a_clean_service_is_clean_and_accuses_nobody(workers: int) -> None:
    result = judged(served(CLEAN, workers))
    assert result.outcome is Outcome.CLEAN
    assert accused(result) == []
    assert result.notes == ()
    assert [growth.outcome for growth in result.resources] == [Outcome.CLEAN] * 4
    assert (result.seconds, result.readings) == (600.0, 301)
    assert result.failure == ""


def test_growth_within_the_limit_is_clean_and_its_endpoint_is_told() -> None:
    result = judged(served(LEAKY), plan=dataclasses.replace(PLAN, max_mb_per_min=5.0))
    assert result.outcome is Outcome.CLEAN
    assert accused(result) == ["GET /a"]
    assert result.notes == ("within the limit, and yet not zero: GET /a",)


def test_a_leak_in_every_endpoint_accuses_every_endpoint() -> None:
    result = judged(served(Service(keeps={"GET /a": 4_000.0, "GET /b": 2_000.0, "GET /c": 1_000.0})))
    assert accused(result) == ["GET /a", "GET /b", "GET /c"]
    for growth, keeps in zip(result.endpoints, (4_000, 2_000, 1_000), strict=True):
        assert growth.bytes_per_request.low <= keeps <= growth.bytes_per_request.high


@pytest.mark.parametrize("service, outcome", [(CLEAN, Outcome.INCONCLUSIVE), (LEAKY, Outcome.LEAK)])
def test_a_run_that_ended_early_is_never_clean_and_a_leak_stays_one(service: Service, outcome: Outcome) -> None:
    result = judged(served(service, complete=False))
    assert result.outcome is outcome
    if outcome is Outcome.INCONCLUSIVE:
        assert result.why.startswith("it ended early, and no leak was seen until then: live heap at rest grew no ")


@pytest.mark.parametrize("cut", range(0, 305, 13))
def test_a_run_that_was_killed_at_any_time_is_never_clean(cut: int) -> None:
    assert judged(served(CLEAN)[:cut]).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("end", [0.0, 1.0, 2.0, 4.0, 7.0])
def test_a_run_of_a_few_readings_of_workers_that_read_at_different_times_is_judged(end: float) -> None:
    lives = [
        record
        for pid, (begin, interval_s) in enumerate([(0.05, 1.9), (0.2, 1.7), (0.1, 1.0)], start=1)
        for record in dataclasses.replace(CLEAN, interval_s=interval_s).life(pid, begin, end)
    ]
    result = judged(window(0, end, lives, complete=False))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.why.startswith("it ended early: ")


def test_nothing_recorded_is_inconclusive_in_words() -> None:
    for nothing in (Recorded(), recorded([event(0, "started"), event(0.1, "load_started"), event(600, "complete")])):
        result = judge(nothing, PLAN)
        assert result.outcome is Outcome.INCONCLUSIVE
        assert "no reading was taken under load" in result.why


def test_descriptors_that_run_out_are_a_leak_though_they_grow_no_more() -> None:
    result = judged(served(dataclasses.replace(CLEAN, fds=lambda t: min(1_020.0, 20 + 20 * t))))
    assert result.outcome is Outcome.LEAK
    assert "they ran out: 1020 of the 1024 that the process may have" in result.why
    assert [growth.resource for growth in result.resources if growth.outcome is Outcome.LEAK] == [Resource.FDS]


@pytest.mark.parametrize(
    "limit, most, outcome",
    [
        (1_024, 900.0, Outcome.CLEAN),  # below nine tenths
        (1_024, 930.0, Outcome.LEAK),
        (0, 930.0, Outcome.CLEAN),  # no limit is known
        (40, 39.0, Outcome.CLEAN),  # it began above half of it
    ],
)
def test_a_plateau_of_descriptors_is_a_leak_only_at_the_limit(limit: int, most: float, outcome: Outcome) -> None:
    service = dataclasses.replace(CLEAN, fds=lambda t: min(most, 22 + 40 * t), fd_limit=limit)
    assert judged(served(service)).outcome is outcome


def test_descriptors_that_grow_for_ever_are_a_leak() -> None:
    result = judged(served(dataclasses.replace(CLEAN, fds=lambda t: 20 + math.floor(t / 5))))
    assert result.outcome is Outcome.LEAK
    assert result.why.startswith("file descriptors grew by 11.9 a minute (grew in every quarter of ")


@pytest.mark.parametrize("fds", [lambda t: 20.0 + (t > 100) * 8, lambda t: 20.0 + 6 * math.sin(t), lambda t: 20.0])
def test_descriptors_of_pools_are_no_leak(fds: object) -> None:
    assert judged(served(dataclasses.replace(CLEAN, fds=fds))).outcome is Outcome.CLEAN  # type: ignore[arg-type]


def given_back(share: float) -> Service:
    """Grows by 12 MB under load, and gives so much of it back when that is over."""
    return dataclasses.replace(
        LEAKY, keeps={**CLEAN.keeps}, extra=lambda t: 2e4 * t if t <= 600 else 12e6 * (1 - share)
    )


def test_growth_that_is_given_back_at_deep_rest_is_no_proven_leak() -> None:
    result = judged(served(given_back(0.9)))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "of what grew was given back when the load was over: no leak is proven" in result.why


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_growth_that_stays_at_deep_rest_is_a_leak(share: float) -> None:
    assert judged(served(given_back(share))).outcome is Outcome.LEAK


def test_without_a_deep_reading_of_every_worker_nothing_counts_as_given_back() -> None:
    lives = given_back(0.9).life(1, 0, 600, after_s=10) + LEAKY.life(2, 0, 600)
    assert judged(window(0, 600, lives)).outcome is Outcome.LEAK


def test_rss_that_grows_while_the_live_heap_does_not_is_inconclusive() -> None:
    records = [*CLEAN.life(1, 0, 600, after_s=10), *outside(0, 610, lambda t: 100e6 + 5e4 * t)]
    result = judged(window(0, 600, records))
    assert (result.outcome, result.basis) == (Outcome.INCONCLUSIVE, LIVE)
    assert result.why.startswith("RSS grew 3 MB/min while the live heap grew ")
    assert "fragmentation, or memory that neither Python's allocator nor the C heap has handed out" in result.why
    assert result.rss_mb_per_min == pytest.approx(3.0, rel=0.01)


def test_rss_that_is_flat_while_the_live_heap_grows_is_a_leak() -> None:
    records = [*LEAKY.life(1, 0, 600, after_s=10), *outside(0, 610, lambda t: 100e6)]
    assert judged(window(0, 600, records)).outcome is Outcome.LEAK


@pytest.mark.parametrize("grows, outcome", [(5e4, Outcome.LEAK), (0.0, Outcome.CLEAN)])
def test_without_an_agent_rss_from_outside_is_judged(grows: float, outcome: Outcome) -> None:
    result = judged(window(0, 600, outside(0, 610, lambda t: 100e6 + grows * t)))
    assert (result.outcome, result.basis, result.endpoints) == (outcome, OUTSIDE, ())
    assert result.notes[0].startswith("no agent spoke from inside the server: RSS from outside is all there is")
    foreign = judged(
        window(0, 600, outside(0, 610, lambda t: 100e6 + grows * t)), plan=Plan(url="http://h:1", duration_s=600.0)
    )
    assert foreign.notes == (
        "the server was not started here: it is seen from outside only, without endpoints or lines",
    )


@pytest.mark.parametrize("service, outcome", [(CLEAN, Outcome.CLEAN), (LEAKY, Outcome.LEAK)])
def test_workers_that_are_restarted_are_judged_life_by_life(service: Service, outcome: Outcome) -> None:
    lives = [record for number in range(4) for record in service.life(100 + number, number * 150, number * 150 + 149)]
    result = judged(window(0, 600, lives))
    assert result.outcome is outcome
    assert accused(result) == (["GET /a"] if service is LEAKY else [])
    if service is LEAKY:
        assert result.growth.value == pytest.approx(1.2, rel=0.25)


def test_many_lives_of_seconds_are_too_short_to_tell() -> None:
    lives = [record for number in range(60) for record in LEAKY.life(100 + number, number * 10, number * 10 + 9)]
    result = judged(window(0, 600, lives))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "are too short to tell; let workers live longer (max_requests)" in result.why


@pytest.mark.parametrize("service, outcome", [(CLEAN, Outcome.CLEAN), (LEAKY, Outcome.LEAK)])
def test_one_worker_that_is_replaced_is_no_fall_and_no_growth(service: Service, outcome: Outcome) -> None:
    lives = [record for pid in (1, 2, 3) for record in service.life(pid, 0, 600, after_s=6)]
    lives += [*service.life(4, 0, 200), *service.life(5, 205, 600, after_s=6)]
    result = judged(window(0, 600, lives))
    assert result.outcome is outcome
    assert accused(result) == (["GET /a"] if service is LEAKY else [])


@pytest.mark.parametrize("service, outcome", [(CLEAN, Outcome.CLEAN), (LEAKY, Outcome.LEAK)])
def test_a_resumed_run_is_judged_with_what_came_before(service: Service, outcome: Outcome) -> None:
    # The second worker has the pid of the first.
    first = window(0, 300, service.life(1, 0, 300), complete=False)
    second = window(310, 610, service.life(1, 310, 610, after_s=6))
    result = judged(first, second)
    assert (result.outcome, result.seconds) == (outcome, 600.0)
    assert result.load is not None
    assert result.load.requests == 20 * 300 + 20 * 610
    assert result.load.requests_per_s == pytest.approx(result.load.requests / 600)
    assert accused(result) == (["GET /a"] if service is LEAKY else [])


def test_a_run_that_was_killed_before_it_was_resumed_is_complete_after() -> None:
    killed = window(0, 300, CLEAN.life(1, 0, 300), complete=False)[:-1]
    assert judged(killed).outcome is Outcome.INCONCLUSIVE
    result = judged(killed, window(310, 610, CLEAN.life(1, 310, 610, after_s=6)))
    assert result.outcome is Outcome.CLEAN
    assert result.seconds == pytest.approx(610, abs=12)


def test_a_server_that_died_of_its_memory_is_a_leak_with_that_reason() -> None:
    died = event(300, "died_of_memory", "the server was killed by signal 9 under load")
    result = judged([*served(CLEAN, complete=False)[:150], died])
    assert (result.outcome, result.why) == (Outcome.LEAK, "the server was killed by signal 9 under load")
    result = judged([*served(LEAKY, complete=False), {**died, "t": 610.0}])
    assert result.outcome is Outcome.LEAK
    assert result.why.endswith("; the server was killed by signal 9 under load")


def test_a_failure_is_passed_on_and_proves_nothing() -> None:
    failed = event(600.0005, "failed", "80 of 100 requests failed: GET /a: 500")
    records = sorted([*served(CLEAN), failed], key=lambda record: record["t"])
    result = judged(records)
    assert result.failure == "80 of 100 requests failed: GET /a: 500"
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "it failed, and proves nothing" in result.why
    assert result.events[-1] == "10 min 0 s: 80 of 100 requests failed: GET /a: 500"
    leaky = judged(sorted([*served(LEAKY), failed], key=lambda record: record["t"]))
    assert (leaky.outcome, leaky.failure) == (Outcome.LEAK, result.failure)


def test_a_failure_before_the_run_was_resumed_is_forgotten() -> None:
    failed = [*window(0, 300, CLEAN.life(1, 0, 300), complete=False), event(301, "failed", "the server died")]
    assert judged(failed, window(310, 610, CLEAN.life(2, 310, 610, after_s=6))).failure == ""


def test_curves_are_as_wide_as_a_terminal_and_end_with_the_load() -> None:
    records = [*LEAKY.life(1, 0, 600, after_s=60), *outside(0, 660, lambda t: 100e6)]
    live, rss = judged(window(0, 600, records)).curves
    assert [live.name, rss.name] == [LIVE, OUTSIDE]
    for curve in (live, rss):
        assert len(curve.times_s) == len(curve.levels) == 120
        assert curve.times_s[0] == pytest.approx(0, abs=2)
        assert curve.times_s[-1] == pytest.approx(600, abs=2)
        assert all(early < late for early, late in pairwise(curve.times_s))
    assert live.levels[-1] - live.levels[0] == pytest.approx(12e6, rel=0.1)


def test_only_the_pauses_under_load_count() -> None:
    records = CLEAN.life(1, 0, 600, after_s=60)
    for record in records:
        if record["kind"] == "reading":
            record["pause_ms"] = 500.0 if record["t"] > 600 else 4.0
    pauses = judged(window(0, 600, records)).pauses
    assert pauses is not None
    assert (pauses.count, pauses.median_ms, pauses.longest_ms) == (301, 4.0, 4.0)
    assert pauses.share == pytest.approx(301 * 0.004 / 600)


def test_a_background_task_that_keeps_memory_is_told() -> None:
    service = dataclasses.replace(CLEAN, extra=lambda t: max(0.0, t - 600) * 100_000)
    result = judged(window(0, 600, service.life(1, 0, 600, after_s=20)))
    assert result.notes == ("1.8 MB more were live after a rest without requests: a background task keeps memory too",)


def test_requests_that_fail_and_what_is_not_read_are_told() -> None:
    records = CLEAN.life(1, 0, 600, after_s=6)
    records[0]["missing"] = ["the C heap: musl"]
    many = load(599.9, 12_000, 1_200, **{"GET /a: 500": 1_200})
    result = judged(sorted([*window(0, 600, records), many], key=lambda record: record["t"]))
    assert result.notes == (
        "1,200 requests failed (10%): what they should have reached is unjudged",
        "not read here: the C heap: musl",
    )
    assert result.load is not None
    assert result.load.errors == ("1,200 times: GET /a: 500",)


def test_the_warm_up_is_left_out() -> None:
    service = dataclasses.replace(CLEAN, extra=lambda t: 8e6 * (1 - math.exp(-t / 20)))
    result = judged(served(service))
    assert result.outcome is Outcome.CLEAN
    assert 30 < result.warm_up_s < 300


def test_a_glance_agrees_with_the_verdict() -> None:
    for service in (CLEAN, LEAKY):
        records = recorded(served(service))
        outcome, rate = glance(records, PLAN)
        result = judge(records, PLAN)
        assert outcome is result.outcome
        assert rate == result.growth


def test_an_agent_that_fell_silent_proves_nothing() -> None:
    result = judged(window(0, 600, CLEAN.life(1, 0, 200)))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "the agents' readings cover only 3 min 20 s of 10 min 0 s" in result.why


def test_what_a_replaced_worker_kept_counts_for_the_service() -> None:
    slow = Service(keeps={"GET /a": 400.0})  # 0.24 MB/min of each worker
    steady = [record for pid in range(1, 5) for record in slow.life(pid, 0, 600, after_s=10)]
    replaced = [*slow.life(5, 0, 300), *slow.life(6, 302, 600, after_s=10)]
    result = judged(window(0, 600, [*steady, *replaced]))
    assert result.growth.value == pytest.approx(1.2, rel=0.1)


def test_connections_that_close_with_the_load_did_not_run_out() -> None:
    service = dataclasses.replace(CLEAN, fds=lambda t: 20.0 if t < 3 or t > 600 else 950.0)
    assert judged(served(service)).outcome is Outcome.INCONCLUSIVE


def test_a_death_by_memory_outlives_the_resume() -> None:
    died = event(300, "died_of_memory", "the server was killed by SIGKILL under load")
    first = [*window(0, 300, CLEAN.life(1, 0, 300), complete=False), died]
    second = window(310, 610, CLEAN.life(2, 310, 610, after_s=10))
    assert judged(first, second).outcome is Outcome.LEAK
