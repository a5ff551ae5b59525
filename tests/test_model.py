"""The frozen words: a result is plain values, and says the same thing in each of its views."""

from __future__ import annotations

import dataclasses
import gc
import json

import pytest

from pytest_memleak import model, model_soak, units
from pytest_memleak.model import (
    NO_GROWTH,
    Budget,
    Frame,
    Growth,
    Holder,
    Judgement,
    Leak,
    Outcome,
    Resource,
    Result,
    Round,
    RssAccount,
    Site,
)

FRAME = Frame(path="app/cache.py", line=17, function="read", source="SEEN[key] = value")
LEAK = Leak(
    what="dict",
    count_per_call=1.0,
    resource=Resource.MEMORY,
    sites=(Site(frame=FRAME, bytes_per_call=512.0, count_per_call=1.0),),
    holder=Holder(name="app.cache.SEEN", kind="dict", entries_per_call=1.0, length=1_000),
)


def judgement(resource: Resource, per_call: float) -> Judgement:
    growth = Growth(per_call=per_call, low=per_call, high=per_call)
    return Judgement(resource=resource, outcome=Outcome.LEAK, growth=growth, limit=0.0, why="grew steadily")


RESULT = Result(
    name="GET /items",
    outcome=Outcome.LEAK,
    budget=Budget(),
    calls=1_000,
    rounds=7,
    seconds=1.5,
    judgements=(judgement(Resource.MEMORY, 980.0), judgement(Resource.OBJECTS, 2.0)),
    leaks=(LEAK,),
    notes=("caplog was emptied",),
    missing_probes=("native: not here",),
    rss=RssAccount(rss_bytes=4_096, uss_bytes=None, native_bytes=0),
    table=(Round(calls=100, blocks=1, objects=2, native_bytes=3, rss_bytes=4),),
)


def words() -> list[type]:
    every = {**vars(model), **vars(model_soak)}.values()
    return [word for word in every if dataclasses.is_dataclass(word) and isinstance(word, type)]


@pytest.mark.parametrize("word", words(), ids=lambda word: str(word.__name__))
def test_every_word_is_frozen_slotted_and_keyword_only(word: type) -> None:
    assert word.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not hasattr(word, "__dict__") or "__slots__" in vars(word)
    assert all(field.kw_only for field in dataclasses.fields(word))


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.calls = 2  # type: ignore[misc]


def test_growth_without_a_part_that_has_another_cause() -> None:
    assert Growth(per_call=3, low=2, high=4).minus(1) == Growth(per_call=2, low=1, high=3)


def test_a_result_tells_the_growth_of_a_resource_and_zero_for_one_that_was_not_judged() -> None:
    assert RESULT.growth(Resource.OBJECTS).per_call == 2.0
    assert RESULT.growth(Resource.FDS) == NO_GROWTH


def test_rates_of_a_result_agree_with_its_judgements() -> None:
    assert (RESULT.bytes_per_request, RESULT.objects_per_request) == (980.0, 2.0)
    assert RESULT.mb_per_min == pytest.approx(2.94)
    assert RESULT.mb_per_min == pytest.approx(units.mb_per_min(980.0, RESULT.budget.requests_per_s))


def test_a_result_becomes_json_and_comes_back_the_same() -> None:
    plain = RESULT.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_json_shows_the_words_of_outcomes_and_resources() -> None:
    plain = RESULT.to_dict()
    assert plain["outcome"] == "LEAK"
    assert type(plain["outcome"]) is str
    assert [found["resource"] for found in plain["judgements"]] == ["memory", "objects"]
    assert plain["leaks"][0]["sites"][0]["frame"]["path"] == "app/cache.py"
    assert plain["rss"] == {"rss_bytes": 4_096, "uss_bytes": None, "native_bytes": 0, "trimmed_bytes": None}


def test_json_has_every_field_of_a_result() -> None:
    assert set(RESULT.to_dict()) == {field.name for field in dataclasses.fields(Result)}


def test_a_result_refers_to_text_and_numbers_only() -> None:
    allowed: tuple[type, ...] = (str, int, float, bool, type(None), tuple, type, *words())
    waiting: list[object] = [RESULT]
    while waiting:
        found = waiting.pop()
        assert isinstance(found, allowed)
        if not isinstance(found, (type, Outcome, Resource)):
            waiting += gc.get_referents(found)


def test_a_frame_is_written_as_a_place() -> None:
    assert str(FRAME) == "app/cache.py:17"


def test_one_leak_shown_by_two_endpoints_has_one_fingerprint() -> None:
    elsewhere = dataclasses.replace(LEAK, count_per_call=3.0, bytes_per_call=7.0, details=("more",))
    assert elsewhere.fingerprint == LEAK.fingerprint == ("dict", "app/cache.py:17", "app.cache.SEEN")


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(LEAK, what="list"),
        dataclasses.replace(LEAK, sites=()),
        dataclasses.replace(LEAK, sites=(Site(frame=dataclasses.replace(FRAME, line=18)),)),
        dataclasses.replace(LEAK, holder=None),
        dataclasses.replace(LEAK, holder=Holder(name="app.cache.OTHER", kind="dict")),
    ],
    ids=["type", "no site", "line", "no holder", "holder"],
)
def test_another_type_site_or_holder_is_another_leak(other: Leak) -> None:
    assert other.fingerprint != LEAK.fingerprint
