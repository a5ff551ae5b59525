"""A fleet's report: whole expected texts at 80 columns, and the sentences for each way a leak can be spread."""

from __future__ import annotations

import dataclasses
import math
from textwrap import dedent

import pytest

from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import Deployment, FleetResult, Replica, Spread
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Forecast, Severity, TrackVerdict
from pytest_memleak.reports.fleet_text import explain, rate_words, span_words

ENDLESS = Estimate(value=0, low=-math.inf, high=math.inf)


def rate(mb_per_hour: float, half: float) -> Estimate:
    return Estimate(value=mb_per_hour, low=mb_per_hour - half, high=mb_per_hour + half).times(1 / 60)


def replica(
    name: str, outcome: Outcome = Outcome.CLEAN, mb_per_hour: float = 0, *, shape: str = "linear", limit_s: float = 0
) -> Replica:
    severity = Severity.MEDIUM if outcome is Outcome.LEAK else Severity.NONE
    return Replica(
        name=name,
        labels=(("namespace", "shop"), ("pod", name)),
        verdict=TrackVerdict(
            name=name, outcome=outcome, severity=severity, rate=rate(mb_per_hour, 2), gained=mb_per_hour * 6e6,
            shape=shape, why="the scatter hides whether the growth goes on", readings=240, seconds=21_600,
        ),
        limit_mb_per_min=1 / 6,
        level=312e6,
        forecast=Forecast(limit_bytes=1 << 30, whose="the container's limit", seconds=limit_s) if limit_s else None,
    )  # fmt: skip


def deployment(name: str, spread: Spread, mean: Estimate, *replicas: Replica) -> Deployment:
    outcomes = [one.verdict.outcome for one in replicas]
    worst = next((one for one in (Outcome.LEAK, Outcome.INCONCLUSIVE) if one in outcomes), Outcome.CLEAN)
    severity = Severity.MEDIUM if worst is Outcome.LEAK else Severity.NONE
    return Deployment(name=name, outcome=worst, severity=severity, spread=spread, rate=mean, replicas=replicas)


API = deployment(
    "shop/api", Spread.SAME, rate(31, 1),
    *(replica(f"api-{end}", Outcome.LEAK, 31, limit_s=82_800 + number) for number, end in enumerate("abcd")),
)  # fmt: skip
QUEUE = deployment(
    "shop/queue", Spread.SOME, rate(20, 2), replica("queue-0", Outcome.LEAK, 20), replica("queue-1", mb_per_hour=0.1)
)
WEB = deployment("shop/web", Spread.NONE, rate(0.2, 2), replica("web-a"), replica("web-b", Outcome.CLEAN, 0.2))
NEW = deployment("shop/new", Spread.NONE, ENDLESS, replica("new-0", Outcome.INCONCLUSIVE, shape="too short"))

LEAKING = FleetResult(
    store="http://prometheus:9090",
    query="process_resident_memory_bytes",
    outcome=Outcome.LEAK,
    why="5 of 8 replicas leak, in 2 of 4 deployments",
    limit_mb_per_min=1 / 6,
    span_s=21_600,
    step_s=90,
    series=9,
    deployments=(API, QUEUE, WEB, NEW),
    notes=("3 points were no number: left out",),
)


def text(words: str) -> str:
    return dedent(words).strip("\n")


def test_the_whole_report_at_80_columns() -> None:
    assert explain(LEAKING, width=80, top=20) == text("""
        LEAK DETECTED in http://prometheus:9090
          5 of 8 replicas leak, in 2 of 4 deployments.

          deployment pods leaking     MB/h    level severity       verdict limit in
          shop/api      4       4       31   312 MB   medium LEAK DETECTED     23 h
          shop/queue    2       1       20   312 MB   medium LEAK DETECTED        -
          shop/web      2       0      0.2   312 MB     none       NO LEAK        -
          shop/new      1       0        -   312 MB     none     too short        -

        All 4 replicas of shop/api leak at the same rate, 31 MB/h [30, 32]: the leak
        follows the code and not a replica's traffic; api-a meets its limit of 1 GiB in
        23 h 0 min.

        1 of 2 replicas of shop/queue leaks, queue-0, at up to 20 MB/h [18, 22]: the
        leak follows what these do and the others do not.

          asked process_resident_memory_bytes
          over  the last 6 h, a reading each 90 s, 9 series; limit 10 MB/h a replica
          note  1 replica was left out, with too few readings: new-0; a --step below 90s
                gives more
          note  3 points were no number: left out
          next  memleak detect or track-objects on the machine of one that leaks,
                memleak scan-code on its code
    """)


def test_the_whole_report_of_a_fleet_that_passes() -> None:
    again = dataclasses.replace(WEB.replicas[0], restarts=3, limit_mb_per_min=0.5)
    web = dataclasses.replace(WEB, replicas=(again, WEB.replicas[1]))
    passed = FleetResult(
        store="http://prometheus:9090", query="process_resident_memory_bytes", outcome=Outcome.CLEAN,
        why="none of 2 replicas leaks", limit_mb_per_min=1 / 6, span_s=21_600, step_s=90, series=2, deployments=(web,),
    )  # fmt: skip
    assert explain(passed, width=80, top=20) == text("""
        NO LEAK in http://prometheus:9090
          none of 2 replicas leaks.

          deployment pods leaking     MB/h    level severity       verdict
          shop/web      2       0      0.2   312 MB     none       NO LEAK

          asked process_resident_memory_bytes
          over  the last 6 h, a reading each 90 s, 2 series; limit 10 MB/h a replica,
                more where one was there for less of it
          note  restarts seen, each a new life and no fall: shop/web 3
    """)


FAST, SLOW = replica("x", Outcome.LEAK, 60), replica("y", Outcome.LEAK, 30)


@pytest.mark.parametrize(
    "found, words",
    [
        (
            deployment("a", Spread.DIFFERENT, rate(60, 2), FAST, SLOW),
            """Both replicas of a leak, from 30 MB/h [28, 32] to 60 MB/h [58, 62]: the rates differ beyond chance, so
            that the leak follows a replica's traffic or task.""",
        ),
        (
            deployment("a", Spread.UNTOLD, rate(60, 2), FAST, SLOW),
            "Both replicas of a leak, from 30 MB/h [28, 32] to 60 MB/h [58, 62].",
        ),
        (
            deployment("a", Spread.ONE, rate(60, 2), FAST),
            "x, the only replica of a, leaks 60 MB/h [58, 62].",
        ),
        (
            deployment("a", Spread.ONE, rate(60, 2), replica("x", Outcome.LEAK, 60, limit_s=90), *NEW.replicas),
            """x, the only replica of a that could be judged, leaks 60 MB/h [58, 62]; x meets its limit of 1 GiB in
            90 s.""",
        ),
        (
            deployment("a", Spread.SAME, rate(30, 1), *(replica(f"x-{at}", Outcome.LEAK, 30) for at in range(3))),
            """All 3 replicas of a leak at the same rate, 30 MB/h [29, 31]: the leak follows the code and not a
            replica's traffic.""",
        ),
        (
            deployment(
                "a", Spread.SOME, rate(30, 1), *(replica(f"x-{at}", Outcome.LEAK, 30) for at in range(5)), replica("y")
            ),
            """5 of 6 replicas of a leak, x-0, x-1, x-2 and 2 more, at up to 30 MB/h [29, 31]: the leak follows what
            these do and the others do not.""",
        ),
    ],
    ids=["different", "untold", "one", "one judged", "same", "some"],
)
def test_how_a_leak_lies_among_the_replicas_is_a_sentence(found: Deployment, words: str) -> None:
    shown = explain(dataclasses.replace(LEAKING, deployments=(found,)), width=120, top=20)
    assert " ".join(words.split()) in " ".join(shown.split())


def test_what_leaks_in_all_replicas_is_told_first_and_the_rest_is_counted() -> None:
    many = [dataclasses.replace(QUEUE, name=f"shop/queue-{number}") for number in range(12)]
    shown = explain(dataclasses.replace(LEAKING, deployments=(*many, API)), width=80, top=3)
    assert shown.index("All 4 replicas of shop/api") < shown.index("1 of 2 replicas of shop/queue-0 leaks")
    assert "  and 10 more (--top, or --json has them)" in shown
    assert "and 3 more deployments of which to tell (--json)" in shown


def test_growth_without_a_verdict_is_named_with_its_reason() -> None:
    doubtful = deployment("shop/a", Spread.NONE, rate(50, 90), replica("a-0", Outcome.INCONCLUSIVE, 50))
    shown = explain(
        dataclasses.replace(LEAKING, outcome=Outcome.INCONCLUSIVE, deployments=(doubtful,)), width=120, top=20
    )
    assert "note  grew by more than the limit, without a verdict: shop/a a-0 (the scatter hides whether" in shown
    assert "next  ask for a longer time (--range 24h)" in shown


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = dataclasses.replace(API, name="production-eu-west-1/a-service-with-a-very-long-name")
    shown = explain(dataclasses.replace(LEAKING, deployments=(long, QUEUE, WEB, NEW)), width=width, top=20)
    assert max(len(line) for line in shown.splitlines()) <= width


@pytest.mark.parametrize(
    "seconds, words",
    [(60, "1 min"), (90, "90 s"), (3600, "1 h"), (5400, "90 min"), (86_400, "1 d"), (604_800, "7 d"), (0.5, "0.5 s")],
)
def test_a_span_is_told_as_it_was_asked_for(seconds: float, words: str) -> None:
    assert span_words(seconds) == words


def test_a_rate_has_its_interval_where_that_is_known() -> None:
    assert rate_words(rate(30, 1), per_hour=False) == "0.5 MB/min [0.48, 0.52]"
    assert rate_words(ENDLESS, per_hour=True) == "0 MB/h"


def test_json_has_plain_values_and_no_infinity() -> None:
    found = LEAKING.to_dict()
    assert found["version"] == 1
    assert found["too_short"] == 1
    assert found["deployments"][0]["spread"] == "all leak at the same rate"
    assert found["deployments"][0]["replicas"][0]["labels"] == {"namespace": "shop", "pod": "api-a"}
    assert found["deployments"][3]["rate"]["high"] is None
