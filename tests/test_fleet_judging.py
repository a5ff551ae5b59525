"""What a store's answers come to: leaks that are killed, workers that take turns, answers with gaps or not whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fleet_stores import MEMORY, NOW, Answer, answering, fleet_of, grown, matrix, vector

pytest.importorskip("numpy", reason="needs the extra watch")
pytest.importorskip("scipy", reason="needs the extra watch")
pytest.importorskip("httpx", reason="needs the extra watch")

from pytest_memleak.fleet.act import judge_fleet
from pytest_memleak.fleet.plan import Plan
from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import FleetResult


def judged(url: str, **values: Any) -> FleetResult:
    return judge_fleet(Plan(**{"url": url, "span_s": 3600.0, "timeout_s": 20.0, **values}), clock=lambda: NOW)


def test_an_answer_that_is_not_whole_is_no_pass_and_a_leak_in_it_is_one() -> None:
    def partial(*slopes: float) -> Callable[[str, Mapping[str, str]], Answer]:
        def answer(path: str, asked: Mapping[str, str]) -> Answer:
            status, kind, body = fleet_of(*slopes)(path, asked)
            return status, kind, json.dumps({**json.loads(body), "warnings": ["store-2 did not answer"]})

        return answer

    with answering(partial(0)) as url:
        result = judged(url)
        assert result.outcome is Outcome.INCONCLUSIVE
        assert result.why == "no leak in what the store answered, but its answer is not whole"
        assert "the store warns, and a part of the fleet may be missing: store-2 did not answer" in result.notes
    with answering(partial(1e5)) as url:
        assert judged(url).outcome is Outcome.LEAK
    with answering(lambda path, asked: (200, "", fleet_of(0)(path, asked)[2][:-1] + ', "isPartial": true}')) as url:
        assert judged(url).outcome is Outcome.INCONCLUSIVE


def test_the_containers_are_asked_for_where_no_process_tells_and_their_limits_are_met() -> None:
    place = {"namespace": "shop", "pod": "db-0", "container": "db"}

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        query = asked.get("query", "")
        if path.endswith("range") and query.startswith("container_memory_working_set_bytes{"):
            return 200, "", matrix([({**place, "id": "/kubepods/1"}, grown(1e5, 0, asked, 1e5))])
        if query.startswith("max_over_time(container_spec_memory_limit_bytes"):
            return 200, "", vector([(place, 12e8), ({**place, "container": "x"}, 2.0**63)])
        return 200, "", matrix([]) if path.endswith("range") else vector([])

    with answering(answer) as url:
        result = judged(url)
    assert result.query == 'container_memory_working_set_bytes{container!="",container!="POD"}'
    forecast = result.deployments[0].forecast
    assert forecast is not None
    assert forecast.limit_bytes == 12e8
    assert forecast.seconds == pytest.approx(6000, rel=0.05)


def test_containers_of_which_no_process_tells_are_mentioned() -> None:
    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if asked.get("query", "").startswith("count(container"):
            return 200, "", vector([({}, 212)])
        return fleet_of(0)(path, asked)

    with answering(answer) as url:
        (note,) = judged(url).notes
        assert note.startswith("the store knows 212 containers, too: --selector 'container_memory_working_set_bytes{")
        assert judged(url, query=MEMORY).notes == ()


def grown_anew(asked: Mapping[str, str], life_s: float, slope: float) -> list[tuple[float, Any]]:
    """A leak that is killed and started again every so many seconds."""
    return [
        (when, 1e8 + slope * ((when - NOW) % life_s) + (value - 6e8) % 1e5) for when, value in grown(0, 0, asked, 1e5)
    ]


@pytest.mark.parametrize("tells_start", [True, False])
def test_a_leak_that_is_killed_again_and_again_is_one(tells_start: bool) -> None:
    """What the kernel's OOM killer makes of a leak: its level rises and falls, and each life grows."""

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        query = asked.get("query", "")
        if path.endswith("range") and query == MEMORY:
            return 200, "", matrix([({"pod": "db-0"}, grown_anew(asked, 2700, 1e5))])
        if path.endswith("range") and query == "process_start_time_seconds" and tells_start:
            begun = [(when, when - (when - NOW) % 2700) for when, _ in grown(0, 0, asked, 0)]
            return 200, "", matrix([({"pod": "db-0"}, begun)])
        return 200, "", matrix([]) if path.endswith("range") else vector([])

    with answering(answer) as url:
        (replica,) = judged(url, span_s=6 * 3600.0).deployments[0].replicas
    assert replica.verdict.outcome is Outcome.LEAK
    # The first reading is the last of a life.
    assert replica.restarts == 8
    assert replica.verdict.rate.value == pytest.approx(6, rel=0.25)


def test_workers_that_answer_by_turns_are_judged_each_by_its_own_readings() -> None:
    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        query = asked.get("query", "")
        if not path.endswith("range"):
            return 200, "", vector([])
        turns = [(when, value, at % 2) for at, (when, value) in enumerate(grown(1e5, 0, asked, 1e5))]
        if query == MEMORY:
            return 200, "", matrix([({"instance": "web:8000"}, [(t, v if odd else 1e8) for t, v, odd in turns])])
        if query == "process_start_time_seconds":
            return 200, "", matrix([({"instance": "web:8000"}, [(t, 1000.5 + odd * 0.25) for t, _, odd in turns])])
        return 200, "", matrix([])

    with answering(answer) as url:
        result = judged(url)
    (replica,) = result.deployments[0].replicas
    assert (replica.verdict.outcome, replica.verdict.lives, replica.restarts) == (Outcome.LEAK, 2, 0)
    assert replica.level == pytest.approx(7e8, rel=0.01)
    assert result.notes == ("several processes answer by turns at web:8000: each is judged by its own readings",)


def test_points_lost_between_two_scrapes_do_not_matter() -> None:
    """Stale markers and failed scrapes are gaps, some stores give NaN."""

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if not path.endswith("range") or asked["query"] != MEMORY:
            return fleet_of()(path, asked)
        kept = [point for number, point in enumerate(grown(1e5, 0, asked, 1e5)) if number % 7 and not 50 < number < 80]
        return 200, "", matrix([({"pod": "a"}, [(t, math.nan if n % 9 == 0 else v) for n, (t, v) in enumerate(kept)])])

    with answering(answer) as url:
        result = judged(url)
    assert result.outcome is Outcome.LEAK
    assert result.deployments[0].rate.value == pytest.approx(6, rel=0.1)
    assert any("points were no number: left out" in note for note in result.notes)
