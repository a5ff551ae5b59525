"""What a store may answer: errors in one sentence each, questions that are too large, tenants, partial answers."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fleet_stores import MEMORY, NOW, Answer, answering, error, fleet_of, matrix, plain, vector
from fleet_support import free_port

pytest.importorskip("numpy", reason="needs the extra watch")
pytest.importorskip("scipy", reason="needs the extra watch")
pytest.importorskip("httpx", reason="needs the extra watch")

from pytest_memleak.fleet.act import judge_fleet
from pytest_memleak.fleet.plan import FleetError, Plan
from pytest_memleak.fleet.store import Store
from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import FleetResult


def judged(url: str, **values: Any) -> FleetResult:
    return judge_fleet(Plan(**{"url": url, "span_s": 3600.0, "timeout_s": 20.0, **values}), clock=lambda: NOW)


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
        with pytest.raises(
            FleetError,
            match=r"broke off or speaks no HTTP .*: is it the URL of a Prometheus\? \(memleak explain no-answer-.*\)$",
        ):
            judged(f"http://127.0.0.1:{listening.getsockname()[1]}")
