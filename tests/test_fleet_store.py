"""What a store may answer: errors in one sentence each, questions that are too large, tenants, partial answers."""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fleet_support import Answer, answering, free_port, matrix, vector

pytest.importorskip("numpy", reason="needs the extra watch")
pytest.importorskip("scipy", reason="needs the extra watch")
pytest.importorskip("httpx", reason="needs the extra watch")

from pytest_memleak.fleet.act import judge_fleet
from pytest_memleak.fleet.plan import FleetError, Plan
from pytest_memleak.fleet.store import Store
from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import FleetResult

NOW = 1_000_000.0
MEMORY = "process_resident_memory_bytes"


def judged(url: str, **values: Any) -> FleetResult:
    return judge_fleet(Plan(**{"url": url, "span_s": 3600.0, "timeout_s": 20.0, **values}), clock=lambda: NOW)


def error(status: int, words: str) -> Callable[[str, Mapping[str, str]], Answer]:
    body = json.dumps({"status": "error", "errorType": "execution", "error": words})
    return lambda path, asked: (status, "application/json", body)


def plain(status: int, body: str) -> Callable[[str, Mapping[str, str]], Answer]:
    return lambda path, asked: (status, "text/html", body)


def fleet_of(*slopes: float, noise: float = 1e5) -> Callable[[str, Mapping[str, str]], Answer]:
    """Pods of one deployment that grow so many bytes a second."""

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if path != "/api/v1/query_range" or asked["query"] != MEMORY:
            return 200, "application/json", matrix([]) if path.endswith("range") else vector([])
        return (
            200,
            "application/json",
            matrix(
                [
                    ({"pod": f"api-6d4cf56db6-x2x4{'bcdf'[number]}"}, grown(slope, number, asked, noise))
                    for number, slope in enumerate(slopes)
                ]
            ),
        )

    return answer


def grown(slope: float, number: int, asked: Mapping[str, str], noise: float) -> list[tuple[float, Any]]:
    start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
    chance = random.Random(f"{number} {start}")
    times = [start + at * step for at in range(round((end - start) / step) + 1)]
    return [(when, round(6e8 + slope * (when - NOW) + chance.gauss(0, noise))) for when in times]


@pytest.mark.parametrize(
    "answer, words",
    [
        (error(400, "1:5: parse error: unclosed"), "refuses the query 'sum(': 1:5: parse error: unclosed (HTTP 400)"),
        (error(422, "no such function"), "refuses the query 'sum(': no such function (HTTP 422)"),
        (
            plain(401, "no org id"),
            (
                "refuses strangers (HTTP 401: no org id): give a token by --token, "
                "or a tenant by --header X-Scope-OrgID:TENANT"
            ),
        ),
        (
            plain(403, "<html>Forbidden</html>"),
            "refuses strangers (HTTP 403): give a token by --token, or a tenant by --header X-Scope-OrgID:TENANT",
        ),
        (
            plain(404, "404 page not found"),
            "has no /api/v1: is it the URL of a Prometheus, with its path prefix if it has one?",
        ),
        (plain(502, "<html>bad gateway</html>"), "answers with HTTP 502"),
        (plain(500, "no ring"), "answers with HTTP 500: no ring"),
        (
            plain(200, "<!DOCTYPE html><html>log in</html>"),
            "answers with a web page: it is no Prometheus, or a login stands before it; give its token by --token",
        ),
        (plain(200, '{"hello": 1}'), "answers, but not as Prometheus' HTTP API does"),
        (plain(200, '{"status": "success", "data": nonsense'), "answers, but not as Prometheus' HTTP API does"),
        (plain(200, ""), "answers, but not as Prometheus' HTTP API does"),
        (plain(200, '{"status": "success", "data": 7}'), "answers, but not as Prometheus' HTTP API does"),
        (
            plain(200, '{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": 7}]}}'),
            "answers, but not as Prometheus' HTTP API does",
        ),
        (
            plain(200, matrix([({}, [(1, "many")])])),
            "answers, but not as Prometheus' HTTP API does",
        ),
        (
            error(422, "too many samples"),
            "finds the query too large: too many samples: narrow it by --selector, or take a longer --step",
        ),
        (plain(200, matrix([])), "has no series of sum( in the last 1 h: name one by --selector, or look further "),
        (plain(200, matrix([({"pod": "a"}, [(NOW, math.nan)])])), "no value of sum( is a number: it takes an expres"),
    ],
)
def test_what_is_no_answer_is_said_in_one_sentence(
    answer: Callable[[str, Mapping[str, str]], Answer], words: str
) -> None:
    with answering(answer) as url, pytest.raises(FleetError) as caught:
        judged(url, query="sum(")
    assert str(caught.value).startswith(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_does_not_answer_is_named_and_the_password_is_not() -> None:
    with pytest.raises(FleetError, match=r"^http://127.0.0.1:\d+ does not answer \(.*refused.*\): is Prometheus runn"):
        judged(f"http://me:secret@127.0.0.1:{free_port()}")


def test_a_silent_store_is_given_up_on() -> None:
    gone = threading.Event()

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        gone.wait(30)
        return 200, "", ""

    with answering(answer) as url:
        try:
            with pytest.raises(FleetError, match=r"did not answer within 0\.3 s: is it reachable\?"):
                judged(url, timeout_s=0.3)
        finally:
            gone.set()


def test_http_where_tls_was_asked_for_is_said() -> None:
    with answering(plain(200, "")) as url, pytest.raises(FleetError, match=r"cannot be trusted or speaks no TLS"):
        judged(url.replace("http", "https"))


def test_a_token_a_tenant_and_a_password_are_sent() -> None:
    seen: list[Mapping[str, str]] = []

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        seen.append(asked)
        return fleet_of(0)(path, asked)

    with answering(answer) as url:
        judged(url, token="abc", headers=(("X-Scope-OrgID", "shop"),))
        assert {one["header authorization"] for one in seen} == {"Bearer abc"}
        assert {one["header x-scope-orgid"] for one in seen} == {"shop"}
        seen.clear()
        judged(url.replace("//", "//me:secret@"))
        assert {one["header authorization"] for one in seen} == {"Basic bWU6c2VjcmV0"}


@pytest.mark.parametrize("suffix", ["", "/", "/graph", "/api/v1", "/api/v1/"])
def test_a_url_out_of_the_address_bar_will_do(suffix: str) -> None:
    with answering(fleet_of(0)) as url:
        assert judged(f"{url}{suffix}").store == url


def test_a_path_prefix_stays() -> None:
    answer = fleet_of(0)
    with answering(lambda path, asked: answer(path.removeprefix("/prefix"), asked)) as url:
        assert judged(f"{url}/prefix/graph").store == f"{url}/prefix"


@pytest.mark.parametrize(
    "refusal",
    [
        error(422, "query processing would load too many samples into memory in query execution"),
        error(422, "the query time range exceeds the limit (query length: 1h, limit: 20m)"),
        error(503, "query timed out in query execution"),
        plain(504, "<html>gateway timeout</html>"),
        plain(413, ""),
    ],
)
def test_a_query_that_is_too_large_is_asked_in_shorter_spans(
    refusal: Callable[[str, Mapping[str, str]], Answer],
) -> None:
    spans: list[tuple[float, float]] = []

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if path.endswith("range") and asked["query"] == MEMORY:
            if float(asked["end"]) - float(asked["start"]) > 1200:
                return refusal(path, asked)
            spans.append((float(asked["start"]), float(asked["end"])))
        return fleet_of(1e5, 0)(path, asked)

    with answering(answer) as url:
        result = judged(url)
    assert len(spans) == 4
    assert [start - end for (_, end), (start, _) in itertools.pairwise(spans)] == [15, 15, 15]
    (deployment,) = result.deployments
    assert [replica.verdict.readings for replica in deployment.replicas] == [241, 241]
    assert [replica.verdict.outcome for replica in deployment.replicas] == [Outcome.LEAK, Outcome.CLEAN]


def test_an_answer_that_is_too_large_for_us_is_asked_in_shorter_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_memleak.fleet.store._MOST_BYTES", 8_000)
    with answering(fleet_of(0, 0)) as url:
        (deployment,) = judged(url).deployments
        assert [replica.verdict.readings for replica in deployment.replicas] == [241, 241]
        monkeypatch.setattr("pytest_memleak.fleet.store._MOST_BYTES", 40)
        with pytest.raises(FleetError, match=r"answers with more than .* narrow it by --selector"):
            judged(url)


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


def test_no_series_names_those_that_look_like_memory() -> None:
    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        if path.endswith("/label/__name__/values"):
            return 200, "", json.dumps({"status": "success", "data": ["up", "process_rss_bytes"]})
        return 200, "", matrix([]) if path.endswith("range") else vector([])

    with answering(answer) as url, pytest.raises(FleetError, match=r"by --selector; it has process_rss_bytes$"):
        judged(url)


def test_the_step_follows_the_scrapes_and_a_long_query_goes_by_post() -> None:
    asked_for: list[str] = []

    def answer(path: str, asked: Mapping[str, str]) -> Answer:
        asked_for.append(asked.get("query", ""))
        if asked.get("query", "").startswith("quantile"):
            return 200, "", vector([({}, 10)])
        return fleet_of(0)(path, {**asked, "query": asked.get("query", "").partition("{")[0]})

    long = MEMORY + '{job=~"' + "|".join(["shop"] * 600) + '"}'
    with answering(answer) as url:
        assert judged(url, query=long).step_s == 60
    assert long in asked_for


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


def test_an_answer_of_another_kind_has_no_series() -> None:
    with answering(plain(200, '{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}')) as url:
        with Store(Plan(url=url)) as store:
            assert store.instant("1") == []
        with pytest.raises(FleetError, match="has no series of 1"):
            judged(url, query="1")


def test_a_header_that_cannot_be_sent_is_said() -> None:
    with answering(fleet_of(0)) as url, pytest.raises(FleetError, match=r"^--token or --header cannot be sent to http"):
        judged(url, headers=(("not a name", "x"),))


def test_a_store_that_breaks_off_is_said() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            time.sleep(0.1)
            connection.close()

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(FleetError, match=r"broke off or speaks no HTTP .*: is it the URL of a Prometheus\?$"):
            judged(f"http://127.0.0.1:{listening.getsockname()[1]}")
