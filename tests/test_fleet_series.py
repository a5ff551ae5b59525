"""Whose memory a series is, which readings belong to one life, and who runs the same code: tables."""

from __future__ import annotations

import importlib.util
import math

import pytest

from pytest_memleak.fleet.naming import deployment_names, owner_of_pod, replica_names
from pytest_memleak.fleet.plan import FleetError, Plan, checked, default_limit, default_step
from pytest_memleak.fleet.questions import alike, scrapes, start_times
from pytest_memleak.fleet.series import Labels, Place, Points, labels_of, places, without_doubles, without_name

needs_scipy = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("numpy", "scipy")), reason="needs the extra watch"
)


def points(*values: float, start: float = 100.0) -> Points:
    """A reading a second."""
    made = Points()
    made.add((start + number, value) for number, value in enumerate(values))
    return made


def labels(**values: str) -> Labels:
    return labels_of(values)


def lives(place: Place) -> list[tuple[float, ...]]:
    return [life.levels for life in place.lives]


def test_a_fall_of_more_than_half_begins_a_new_life() -> None:
    (place,) = places({labels(pod="a"): points(10, 20, 11, 5.4, 6, 7)}, {}, 100)
    assert lives(place) == [(10, 20, 11), (5.4, 6, 7)]
    assert place.lives[1].times_s == (3, 4, 5)
    assert place.restarts == 1


@pytest.mark.parametrize(
    "begun, expected, restarts, takes_turns",
    [
        ((1, 1, 1, 1, 1, 1), [(10, 20, 11, 5, 6, 7)], 0, False),
        ((1, 1, 9, 9, 9, 9), [(10, 20), (11, 5, 6, 7)], 1, False),
        ((1.25, 2.25, 1.25, 1.25, 2.25, 1.25), [(10, 20, 11, 5, 6, 7)], 0, False),
        ((1, 2.5, 1, 2.5, 1, 2.5), [(10, 11, 6), (20, 5, 7)], 0, True),
    ],
    ids=["no restart where memory fell", "a restart", "a boot time corrected by a second", "two workers by turns"],
)
def test_a_start_time_says_which_process_was_read(
    begun: tuple[float, ...], expected: list[tuple[float, ...]], restarts: int, takes_turns: bool
) -> None:
    series, starts = {labels(pod="a"): points(10, 20, 11, 5, 6, 7)}, {labels(pod="a"): points(*begun)}
    (place,) = places(series, starts, 100)
    assert (lives(place), place.restarts, place.takes_turns) == (expected, restarts, takes_turns)


def test_a_container_that_was_restarted_is_the_same_place_and_one_beside_it_is_not() -> None:
    series = {
        labels(namespace="shop", pod="a", container="web", id="/first"): points(1, 2, start=0),
        labels(namespace="shop", pod="a", container="web", id="/second"): points(1, 2, start=50),
        labels(namespace="shop", pod="a", container="web", stage="main"): points(7, 8, 9, start=1),
        labels(namespace="shop", pod="a", container="proxy"): points(3, start=0),
    }
    found = places(series, {}, 0)
    assert [lives(place) for place in found] == [[(1, 2), (1, 2)], [(7, 8, 9)], [(3,)]]
    assert [place.restarts for place in found] == [1, 0, 0]


def test_series_without_a_place_are_places_of_their_own() -> None:
    """`sum by (service) (...)`: one that ends before another begins is not its life before."""
    series = {labels(service="a", job="j"): points(1, 2, start=0), labels(service="b", job="j"): points(3, start=50)}
    assert [(place.labels["service"], lives(place)) for place in places(series, {}, 0)] == [
        ("a", [(1, 2)]), ("b", [(3,)]),
    ]  # fmt: skip


def test_metrics_of_several_names_are_not_mixed() -> None:
    one, other = labels(__name__="a_bytes", pod="x"), labels(__name__="b_bytes", pod="x")
    assert list(without_name({one: points(1)})) == [labels(pod="x")]
    assert list(without_name({one: points(1), other: points(2)})) == [one, other]
    assert len(places({one: points(1), other: points(2)}, {}, 0)) == 2
    assert replica_names([dict(one), dict(other)]) == ["x (__name__=a_bytes)", "x (__name__=b_bytes)"]


def test_points_that_are_no_numbers_or_come_again_are_dropped() -> None:
    made = Points()
    made.add([(1, 5), (2, math.nan), (3, math.inf), (4, 6)])
    made.add([(4, 6), (5, 7)])
    assert (list(made.times), list(made.values), made.dropped) == ([1, 4, 5], [5, 6, 7], 2)


def test_a_process_that_two_stores_scrape_is_taken_once_from_the_one_that_saw_more() -> None:
    series = {
        labels(pod="a", prometheus_replica="p-0"): points(1, 2),
        labels(pod="a", prometheus_replica="p-1"): points(1, 2, 3),
        labels(pod="b", prometheus_replica="p-0"): points(4),
    }
    kept, doubles = without_doubles(series)
    assert doubles == 1
    assert [list(one.values) for one in kept.values()] == [[1, 2, 3], [4]]


@pytest.mark.parametrize(
    "pod, owner",
    [
        ("api-6d4cf56db6-x2x4z", "api"),
        ("api-gateway-7bf5c8d54-m7wvt", "api-gateway"),
        ("web-https-x7k2p", "web-https"),
        ("db-0", "db"),
        ("db-12", "db"),
        ("report-28391820-lq2nn", "report"),
        ("node-exporter-8zk5q", "node-exporter"),
        ("redis-primary", "redis-primary"),
        ("api", "api"),
        ("-0", "-0"),
    ],
)
def test_a_pods_owner_is_its_name_without_what_kubernetes_appends(pod: str, owner: str) -> None:
    assert owner_of_pod(pod) == owner


def test_deployments_are_named_by_their_owner_else_by_pod_else_by_job() -> None:
    replicas = [
        {"namespace": "shop", "deployment": "api", "pod": "x-0"},
        {"namespace": "shop", "pod": "web-6d4cf56db6-x2x4z", "container": "web"},
        {"namespace": "shop", "pod": "web-6d4cf56db6-x2x4z", "container": "proxy"},
        {"job": "node", "instance": "a:9100"},
        {"instance": "b:9100"},
        {},
    ]
    expected = ["shop/api", "shop/web:web", "shop/web:proxy", "node", "b:9100", "the only series"]
    assert deployment_names(replicas) == expected
    assert deployment_names(replicas, ("namespace", "container")) == [
        "shop/-", "shop/web", "shop/proxy", "-/-", "-/-", "-/-",
    ]  # fmt: skip


def test_replicas_of_one_name_are_told_apart_by_what_differs() -> None:
    replicas = [
        {"pod": "a", "stage": "x", "job": "j"},
        {"pod": "a", "stage": "y", "job": "j"},
        {"pod": "b", "job": "j"},
    ]
    assert replica_names(replicas) == ["a (stage=x)", "a (stage=y)", "b"]


@pytest.mark.parametrize(
    "seconds, limit",
    [(0, 1), (60, 1), (3600, 1), (7200, 0.5), (6 * 3600, 1 / 6), (86_400, 1 / 24), (7 * 86_400, 1 / 60)],
)
def test_the_limit_is_a_megabyte_a_minute_up_to_an_hour_and_then_60_in_all(seconds: float, limit: float) -> None:
    assert default_limit(seconds) == pytest.approx(limit)


@pytest.mark.parametrize(
    "span, scraped, step", [(60, 0, 15), (3600, 0, 15), (3600, 60, 60), (21_600, 15, 90), (604_800, 30, 2520)]
)
def test_the_step_gives_240_points_and_none_between_two_scrapes(span: float, scraped: float, step: float) -> None:
    assert default_step(span, scraped) == step


@pytest.mark.parametrize(
    "values, words",
    [
        ({"url": "localhost:9090"}, "--prometheus: expects http://HOST:PORT, got 'localhost:9090'"),
        ({"url": "http://host:x"}, "--prometheus: expects http://HOST:PORT, got 'http://host:x'"),
        (
            {"span_s": 604_800, "step_s": 15},
            (
                "--step: 7 d in steps of 15 s are 40,320 points of each series, and Prometheus gives 11,000: "
                "take --step 55s or longer"
            ),
        ),
        ({"step_s": 90_000}, "--step: expects from 0.001 s to the --range of 6 h, got 90000 s"),
        (
            {"limit_mb_per_min": 3, "high": 1},
            "--max-mb-per-min, --high and --critical have to be numbers that rise, got 3, 1, 20",
        ),
        (
            {"limit_mb_per_min": math.nan},
            "--max-mb-per-min, --high and --critical have to be numbers that rise, got nan, 5, 20",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(values: dict[str, object], words: str) -> None:
    with pytest.raises(FleetError) as caught:
        checked(Plan(**{"url": "http://localhost:9090", **values}))  # type: ignore[arg-type]
    assert str(caught.value) == words


def test_a_limit_above_the_usual_thresholds_lifts_them() -> None:
    thresholds = checked(Plan(url="http://localhost:9090", limit_mb_per_min=10)).thresholds(60)
    assert (thresholds.medium, thresholds.high, thresholds.critical) == (10, 10, 20)


@pytest.mark.parametrize(
    "query, started, scraped",
    [
        (
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "quantile(0.5, count_over_time(process_resident_memory_bytes[600s]))",
        ),
        (
            'process_resident_memory_bytes{job="a"}',
            'process_start_time_seconds{job="a"}',
            'quantile(0.5, count_over_time(process_resident_memory_bytes{job="a"}[600s]))',
        ),
        (
            'container_memory_rss{pod!=""}',
            'container_start_time_seconds{pod!=""}',
            'quantile(0.5, count_over_time(container_memory_rss{pod!=""}[600s]))',
        ),
        ("go_memstats_bytes", "", "quantile(0.5, count_over_time(go_memstats_bytes[600s]))"),
        ("sum by (pod) (process_resident_memory_bytes)", "", ""),
        ("", "", ""),
    ],
)
def test_what_is_asked_beside_the_memory(query: str, started: str, scraped: str) -> None:
    assert start_times(query) == started
    assert scrapes(query) == scraped


def test_metrics_that_look_like_memory_are_offered() -> None:
    names = ["up", "go_gc_seconds", "process_rss_bytes", "container_memory_rss_bytes", "http_bytes"]
    assert alike(names) == ["container_memory_rss_bytes", "process_rss_bytes"]
