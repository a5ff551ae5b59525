"""Did the fix work: each rule from both sides of its boundary."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from soak_results import CACHE, LEAKY, UNKNOWN, about, at_most, endpoint, resource, soaked

from pytest_memleak.model import Outcome, Resource
from pytest_memleak.model_soak import Estimate, Load, SoakResult
from pytest_memleak.verdict.verification import verify

SEARCH = "GET /search"


def before(**values: Any) -> SoakResult:
    """A run that leaks 2.6 MB/min by its search, at 60 requests/s."""
    given: dict[str, Any] = {"endpoints": (endpoint(SEARCH, about(1_080.0)), endpoint("GET /", at_most(2.0)))}
    return soaked(Outcome.LEAK, about(2.6), **{**given, **values})


def after(growth: Estimate | None = None, outcome: Outcome = Outcome.CLEAN, **values: Any) -> SoakResult:
    """A run whose search leaks no more."""
    given: dict[str, Any] = {"endpoints": (endpoint(SEARCH, at_most(2.0)), endpoint("GET /", at_most(2.0)))}
    return soaked(outcome, growth, **{**given, **values})


def under(requests_per_s: float) -> Load:
    return Load(requests=int(1800 * requests_per_s), failures=0, requests_per_s=requests_per_s, users=10)


def between(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high)


def test_a_run_that_stays_within_the_limit_is_fixed() -> None:
    found = verify(before(), after(), 1.0)
    assert (found.answer, found.why) == (
        "fixed",
        "it grew 2.6 MB/min, and now no faster than 0.02 (99 %); limit 1",
    )
    assert found.before == about(2.6)
    assert found.after == at_most(0.02)
    assert found.notes == ()


@pytest.mark.parametrize(
    "low, high, answer",
    [
        (0.0, 1.0, "fixed"),
        (0.0, 1.000001, "can't tell"),
        (0.999, 1.5, "can't tell"),
        (1.0, 1.5, "can't tell"),
        (1.000001, 1.5, "not fixed"),
        (-0.5, 0.0, "fixed"),
    ],
)
def test_the_whole_interval_has_to_be_on_one_side_of_the_limit(low: float, high: float, answer: str) -> None:
    for run_before in (before(), None):
        assert verify(run_before, after(between(low, high)), 1.0).answer == answer


def test_growth_that_may_be_above_the_limit_asks_for_a_longer_run() -> None:
    assert verify(before(), after(between(0.5, 1.5)), 1.0).why == (
        "it grows 1 MB/min, between 0.5 and 1.5; limit 1; soak for longer"
    )


def test_growth_above_the_limit_is_not_fixed_even_where_the_run_failed_or_ended_early() -> None:
    for values in ({"failure": "the server died"}, {"seconds": 3.0}):
        found = verify(before(), after(between(2.0, 3.0), Outcome.LEAK, **values), 1.0)
        assert (found.answer, found.why) == ("not fixed", "it grows 2.5 MB/min, between 2 and 3; limit 1")


@pytest.mark.parametrize(
    "cores_before, cores_after, answer",
    [
        (0.3, 0.1, "fixed"),
        (0.3, 0.0999, "can't tell"),
        (0.3, 0.9, "fixed"),
        (None, 0.001, "fixed"),
        (0.3, None, "fixed"),
        (0.0, 0.0, "fixed"),
    ],
)
def test_a_watch_of_a_process_that_did_much_less_proves_no_fix(
    cores_before: float | None, cores_after: float | None, answer: str
) -> None:
    found = verify(before(cores=cores_before), after(cores=cores_after), 1.0)
    assert found.answer == answer
    if answer != "fixed":
        assert found.why.startswith("the process used 10.0% of a core after, 30.0% before: ")
    # Growth is growth, however little was done.
    assert verify(before(cores=0.3), after(between(2.0, 3.0), cores=0.0), 1.0).answer == "not fixed"


def test_an_inconclusive_run_cannot_tell_however_little_it_grew() -> None:
    found = verify(before(), after(outcome=Outcome.INCONCLUSIVE, why="it ended early"), 1.0)
    assert (found.answer, found.why) == ("can't tell", "it ended early; soak for longer")


def test_a_run_that_knows_nothing_cannot_tell() -> None:
    run = after(UNKNOWN, Outcome.INCONCLUSIVE, why="no reading was taken under load")
    for run_before in (before(), None):
        assert verify(run_before, run, 1.0).answer == "can't tell"


def test_a_failed_run_cannot_tell() -> None:
    found = verify(before(), after(failure="Locust made no request"), 1.0)
    assert (found.answer, found.why) == ("can't tell", "the run after failed: Locust made no request")


def test_a_server_that_died_of_its_memory_is_not_fixed_however_little_was_measured() -> None:
    why = "the server was killed by signal 9 under load; its RSS went from 100 to 4000 MB"
    for growth, memory in ((UNKNOWN, Outcome.INCONCLUSIVE), (at_most(0.02), Outcome.CLEAN)):
        run = after(growth, Outcome.LEAK, why=why, resources=(resource(Resource.MEMORY, memory, growth),))
        found = verify(before(), run, 1.0)
        assert (found.answer, found.why) == ("not fixed", why)


def test_a_limit_of_ones_own_counts_and_not_that_of_the_run() -> None:
    run = after(between(1.5, 2.0), Outcome.LEAK)
    assert verify(before(), run, 2.0).answer == "fixed"
    assert verify(before(), run, 1.0).answer == "not fixed"
    assert verify(before(), run, 2.0).limit_mb_per_min == 2.0


def test_descriptors_that_leak_are_not_fixed_though_memory_is() -> None:
    run = after(
        outcome=Outcome.LEAK,
        resources=(
            resource(Resource.MEMORY, Outcome.CLEAN, at_most(0.02)),
            resource(Resource.FDS, Outcome.LEAK, about(12.0), why="grew in every quarter of 1700 s"),
        ),
    )
    found = verify(before(), run, 1.0)
    assert (found.answer, found.why) == ("not fixed", "file descriptors leak: grew in every quarter of 1700 s")


@pytest.mark.parametrize(
    "was, now, factor",
    [
        (60.0, 60.0, 1.0),
        (60.0, 120.0, 1.0),
        (60.0, 54.0, 1.0),
        (60.0, 53.9, 60.0 / 53.9),
        (60.0, 6.0, 10.0),
        (60.0, 0.0, 1.0),
    ],
)
def test_a_lighter_load_is_made_up_for(was: float, now: float, factor: float) -> None:
    found = verify(before(load=under(was)), after(between(0.1, 0.3), load=under(now)), 10.0)
    assert found.after.value == pytest.approx(0.2 * factor)
    assert found.after.high == pytest.approx(0.3 * factor)
    assert any("the load was lighter" in note for note in found.notes) == (factor != 1.0)


def test_growth_within_the_limit_only_because_the_load_was_lighter_is_not_fixed() -> None:
    run = after(between(0.3, 0.4), load=under(6.0))
    assert verify(before(), run, 1.0).answer == "not fixed"
    assert verify(None, run, 1.0).answer == "fixed"
    found = verify(before(), run, 1.0)
    assert found.notes == (
        "the load was lighter (6 requests/s after, 60 before): the growth after is given at the load before",
    )


@pytest.mark.parametrize("which", ["before", "after", "both"])
def test_without_a_load_there_is_nothing_to_scale_by(which: str) -> None:
    run_before = before(load=None) if which in ("before", "both") else before()
    run_after = after(load=None) if which in ("after", "both") else after()
    assert verify(run_before, run_after, 1.0).after == at_most(0.02)


def test_an_endpoint_that_leaked_and_was_never_called_after_cannot_be_told() -> None:
    found = verify(before(), after(endpoints=(endpoint("GET /", at_most(2.0)),)), 1.0)
    assert (found.answer, found.why) == ("can't tell", "the run after never called GET /search, which leaked before")
    none = endpoint(SEARCH, at_most(0.0), requests=0)
    assert verify(before(), after(endpoints=(none,)), 1.0).answer == "can't tell"


def test_an_innocent_endpoint_may_be_left_out_after() -> None:
    assert verify(before(), after(endpoints=(endpoint(SEARCH, at_most(2.0)),)), 1.0).answer == "fixed"


@pytest.mark.parametrize("outcome", [Outcome.CLEAN, Outcome.INCONCLUSIVE])
def test_a_run_before_without_a_leak_proves_no_fix(outcome: Outcome) -> None:
    found = verify(dataclasses.replace(before(), outcome=outcome), after(), 1.0)
    assert (found.answer, found.why) == (
        "can't tell",
        f"the run before shows no leak that could be fixed ({outcome.value})",
    )


def test_against_a_budget_alone() -> None:
    found = verify(None, after(), 1.0)
    assert (found.answer, found.before) == ("fixed", None)
    assert found.why == "it grows no faster than 0.02 MB/min (99 %); limit 1"
    assert [change.before for change in found.endpoints] == [None, None]


@pytest.mark.parametrize(
    "was, now, words",
    [
        (about(100.0), about(100.0), "still leaks"),
        (about(100.0), about(91.0), "still leaks"),  # their intervals touch: 95 to 105, 86 to 96
        (about(100.0), about(90.0), "leaks less"),  # 85.5 to 94.5
        (about(100.0), at_most(3.0), "leaks no more"),
        (about(100.0), None, "not called after"),
        (at_most(3.0), about(100.0), "leaks now"),
        (None, about(100.0), "leaks now"),
        (at_most(3.0), at_most(3.0), "clean"),
        (at_most(3.0), None, "clean"),
        (None, at_most(3.0), "clean"),
    ],
)
def test_each_endpoint_is_compared(was: Estimate | None, now: Estimate | None, words: str) -> None:
    found = verify(
        before(endpoints=(endpoint(SEARCH, was),) if was else ()),
        after(endpoints=(endpoint(SEARCH, now),) if now else ()),
        1.0,
    )
    assert [(change.words, change.before, change.after) for change in found.endpoints] == [(words, was, now)]


def test_what_leaks_comes_first() -> None:
    names = ("clean", "less", "more", "new", "gone")
    leaking, clean = about(100.0), at_most(3.0)
    run_before = before(
        endpoints=tuple(map(endpoint, names, (clean, leaking, leaking, clean, leaking))),
    )
    run_after = after(endpoints=tuple(map(endpoint, names[:4], (clean, about(50.0), leaking, leaking))))
    found = verify(run_before, run_after, 1.0)
    assert [change.endpoint for change in found.endpoints] == ["more", "new", "gone", "less", "clean"]


def test_what_leaks_within_the_limit_is_fixed_and_told() -> None:
    run = after(endpoints=(endpoint(SEARCH, about(4.0)), endpoint("GET /new", about(2.0))))
    for run_before in (before(), None):
        found = verify(run_before, run, 1.0)
        assert found.answer == "fixed"
        (note,) = found.notes
        said, _, names = note.partition(": ")
        assert said == "within the limit, and yet not zero"
        assert set(names.split(", ")) == {SEARCH, "GET /new"}


def test_an_answer_is_plain_values() -> None:
    found = verify(LEAKY, after(), 1.0).to_dict()
    assert found["version"] == 1
    assert json.loads(json.dumps(found)) == found
    assert CACHE.what not in json.dumps(found)


def test_what_was_told_as_one_before_may_be_told_apart_after() -> None:
    together = before(endpoints=(endpoint(("GET /a", "GET /b"), about(1_000.0)),))
    apart = after(endpoints=(endpoint("GET /a", at_most(2.0)), endpoint("GET /b", at_most(2.0))))
    assert verify(together, apart, 1.0).answer == "fixed"


def test_a_few_requests_do_not_show_that_an_endpoint_leaks_no_more() -> None:
    found = verify(
        before(endpoints=(endpoint(SEARCH, about(1_000.0)),)),
        after(endpoints=(endpoint(SEARCH, at_most(5_000.0)),)),
        1.0,
    )
    assert [change.words for change in found.endpoints] == ["not shown"]
