"""Which endpoint, which line: the diagnosis joined to the endpoints, and the live heap freed of the mix."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from soak_results import CACHE, NATIVE, about, at_most, endpoint
from soak_traces import Service, recorded, window
from trace_support import LENIENT

from pytest_memleak.diagnosis import causes
from pytest_memleak.model import Frame, Holder, Leak, Outcome, Resource, Site, plain
from pytest_memleak.model_soak import EndpointGrowth
from pytest_memleak.soak.blame import Blame, blame, leaks, unexplained
from pytest_memleak.soak.judge import judge
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan
from pytest_memleak.soak.steady import steadied
from pytest_memleak.soak.stretches import stretches

SEARCH, UPLOAD, HOME = "GET /search", "POST /upload", "GET /"
CATALOGUE = "/srv/shop/catalogue.py"


def site(line: int, *, path: str = CATALOGUE, bytes_per_call: float = 100.0) -> Site:
    return Site(
        frame=Frame(path=path, line=line), bytes_per_call=bytes_per_call, count_per_call=1.0, place=(path, line)
    )


def leak(line: int, bytes_per_call: float = 100.0, **values: Any) -> Leak:
    """What the diagnosis found, per request of the whole mix."""
    made = Leak(
        what="shop.Page",
        resource=Resource.MEMORY,
        count_per_call=1.0,
        bytes_per_call=bytes_per_call,
        sites=(site(line, bytes_per_call=bytes_per_call),),
        holder=Holder(name=f"shop.PAGES_{line}", kind="dict", entries_per_call=1.0),
    )
    return dataclasses.replace(made, **values)


def diagnosed(*found: Leak, requests: dict[str, int] | None = None, **values: Any) -> dict[str, Any]:
    """As an agent says it: the search is in lines 10 to 19, the upload in 20 to 29, the home page elsewhere."""
    return {
        "kind": "diagnosis",
        "leaks": [plain(dataclasses.asdict(leak)) for leak in found],
        "notes": [],
        "requests": requests if requests is not None else {SEARCH: 250, UPLOAD: 50, HOME: 700},
        "handlers": {SEARCH: [CATALOGUE, 10, 19], UPLOAD: [CATALOGUE, 20, 29], HOME: ["/srv/shop/home.py", 1, 9]},
        **values,
    }


def told(
    *diagnoses: dict[str, Any], attributed: tuple[EndpointGrowth, ...] = (endpoint(SEARCH, about(400.0)),)
) -> tuple[tuple[Leak, ...], tuple[str, ...], tuple[str, ...]]:
    return leaks(recorded(list(diagnoses)), attributed)


def test_a_leak_is_the_endpoints_in_whose_handler_its_line_is() -> None:
    for line, name in ((10, SEARCH), (19, SEARCH), (20, UPLOAD), (29, UPLOAD)):
        assert told(diagnosed(leak(line)), attributed=())[1] == (name,)


def test_figures_are_per_request_of_that_endpoint() -> None:
    # A quarter of all requests are searches: each of them keeps four times what one of the mix does.
    ((found,), _, remarks) = told(diagnosed(leak(12)))
    assert (found.bytes_per_call, found.count_per_call) == (400.0, 4.0)
    assert (found.sites[0].bytes_per_call, found.sites[0].count_per_call) == (400.0, 4.0)
    assert found.holder is not None
    assert found.holder.entries_per_call == 4.0
    assert remarks == ()


def test_a_leak_outside_every_handler_is_the_only_endpoints_of_its_file() -> None:
    assert told(diagnosed(leak(0, sites=(site(77, path="/srv/shop/home.py"),))))[1] == (HOME,)


def test_a_leak_outside_every_handler_is_the_only_guilty_endpoints_of_its_file() -> None:
    assert told(diagnosed(leak(77)))[1] == (SEARCH,)
    both = (endpoint(SEARCH, about(400.0)), endpoint(UPLOAD, about(400.0)))
    assert told(diagnosed(leak(77)), attributed=both)[1] == ("",)


def test_a_leak_of_nobodys_file_is_the_whole_loads() -> None:
    ((found,), culprits, _) = told(diagnosed(leak(0, sites=(site(3, path="/srv/shop/orm.py"),))))
    assert culprits == ("",)
    assert found.bytes_per_call == 100.0


def test_an_endpoint_that_the_second_load_never_called_is_not_accused() -> None:
    assert told(diagnosed(leak(12), requests={UPLOAD: 100}), attributed=())[1] == (UPLOAD,)
    assert told(diagnosed(leak(12), requests={HOME: 100}), attributed=())[1] == ("",)


def test_the_fastest_endpoint_comes_first() -> None:
    attributed = (endpoint(SEARCH, about(400.0), requests=100), endpoint(UPLOAD, about(2_000.0), requests=5_000))
    assert told(diagnosed(leak(12), leak(22)), attributed=attributed)[1] == (UPLOAD, SEARCH)


def test_a_bounded_cache_that_still_fills_is_remarked_and_not_told() -> None:
    # The diagnosis saw 400 B per search; over the whole soak a search kept less than 3 B.
    for attributed in ((endpoint(SEARCH, at_most(3.0)),), (endpoint(SEARCH, at_most(199.0)),)):
        found, culprits, remarks = told(diagnosed(leak(12)), attributed=attributed)
        assert (found, culprits) == ((), ())
        assert remarks == (f"shop.PAGES_12 still fills, but {SEARCH} keeps less than that: not told as a leak",)


def test_a_leak_that_weighs_half_of_what_was_seen_is_told() -> None:
    assert told(diagnosed(leak(12)), attributed=(endpoint(SEARCH, at_most(200.0)),))[1] == (SEARCH,)


def test_descriptors_are_not_weighed_by_an_endpoints_bytes() -> None:
    fds = leak(12, resource=Resource.FDS, holder=None, what="open files")
    assert told(diagnosed(fds), attributed=(endpoint(SEARCH, at_most(3.0)),))[1] == (SEARCH,)


def native(line: int, bytes_per_call: float) -> Leak:
    return dataclasses.replace(
        NATIVE, what=causes.NATIVE, bytes_per_call=bytes_per_call, sites=(site(line, bytes_per_call=bytes_per_call),)
    )


def test_growth_of_the_c_heap_is_one_leak_of_each_endpoint() -> None:
    found, culprits, _ = told(
        diagnosed(*(native(line, size) for line, size in ((12, 10.0), (13, 40.0), (14, 20.0), (15, 30.0), (22, 5.0)))),
        attributed=(),
    )
    assert sorted(culprits) == [SEARCH, UPLOAD]
    whole = found[culprits.index(SEARCH)]
    assert whole.bytes_per_call == pytest.approx(400.0)
    assert [entry.frame.line for entry in whole.sites] == [13, 15, 14]
    assert len(found[culprits.index(UPLOAD)].sites) == 1


def test_two_containers_of_one_endpoint_are_two_leaks() -> None:
    assert told(diagnosed(leak(12), leak(13)), attributed=())[1] == (SEARCH, SEARCH)


def test_a_second_look_is_for_what_the_first_did_not_explain() -> None:
    attributed = (endpoint(SEARCH, about(400.0)), endpoint(UPLOAD, about(2_000.0)))
    first, second = diagnosed(leak(12)), diagnosed(native(12, 100.0), native(22, 100.0))
    found, culprits, _ = told(first, second, attributed=attributed)
    assert sorted(culprits) == [SEARCH, UPLOAD]
    assert found[culprits.index(SEARCH)].what == "shop.Page"
    assert found[culprits.index(UPLOAD)].what == causes.NATIVE
    assert unexplained(recorded([first]), attributed) == [UPLOAD]
    assert unexplained(recorded([first, second]), attributed) == []


def test_a_diagnosis_that_failed_and_its_remarks_are_told() -> None:
    failed = {"kind": "diagnosis", "error": "the load made no request for 20 s during the diagnosis", "seconds": 21.0}
    found, culprits, remarks = told(failed, diagnosed(notes=["memray is not installed"]))
    assert (found, culprits) == ((), ())
    assert remarks == (
        "the diagnosis failed: the load made no request for 20 s during the diagnosis",
        "memray is not installed",
    )


def test_what_the_diagnosis_says_comes_through_json_whole() -> None:
    ((found,), _, _) = told(
        diagnosed(CACHE, requests={SEARCH: 100}, handlers={SEARCH: ["/srv/shop/catalogue.py", 10, 19]}), attributed=()
    )
    assert found == CACHE


def test_the_result_has_the_leaks_and_their_endpoints() -> None:
    service = Service(keeps={SEARCH: 2_000.0, UPLOAD: 0.0, HOME: 0.0})
    records = window(0, 600, service.life(1, 0, 600, after_s=6))
    result = judge(recorded([*records, diagnosed(leak(12, 500.0))]), Plan(app="shop:app", duration_s=600.0))
    assert result.outcome is Outcome.LEAK
    assert [found.bytes_per_call for found in result.leaks] == [2_000.0]
    assert result.culprits == (SEARCH,)


# --- the live heap less the mix's ups and downs ---


def lived(service: Service) -> Recorded:
    return recorded(window(0, 600, service.life(1, 0, 600)))


def scatter(times: npt.NDArray[Any], levels: npt.NDArray[Any]) -> float:
    return float(np.std(levels - np.polyval(np.polyfit(times, levels, 1), times)))


def test_the_mix_and_the_gate_make_less_scatter_once_they_are_known() -> None:
    for held_bytes in (0.0, 20_000.0):
        service = Service(keeps={SEARCH: 5_000.0, HOME: 0.0}, mix=0.9, held_bytes=held_bytes)
        (part,) = stretches(lived(service), ("live_bytes",))
        blamed = blame([part], 0.0)
        assert blamed.held_bytes == pytest.approx(held_bytes, rel=0.05, abs=200)
        steady = steadied(part, blamed)
        before, after = (scatter(one.times_s, one.levels["live_bytes"]) for one in (part, steady))
        assert after < before / 20
        gained = part.levels["live_bytes"][-1] - part.levels["live_bytes"][0]
        kept = steady.levels["live_bytes"][-1] - steady.levels["live_bytes"][0]
        assert kept == pytest.approx(gained, abs=10 * held_bytes + 1_000)


PART = stretches(lived(Service(keeps={SEARCH: 5_000.0, UPLOAD: 100.0, HOME: 0.0}, mix=0.9)), ("live_bytes", "fds"))[0]


@LENIENT
@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_whatever_the_attribution_says_both_ends_stay(each: list[float]) -> None:
    names = (SEARCH, UPLOAD, HOME)
    endpoints = tuple(endpoint(name, about(value)) for name, value in zip(names, each, strict=True))
    steady = steadied(PART, Blame(endpoints=endpoints))
    for row in (0, -1):
        assert steady.levels["live_bytes"][row] == pytest.approx(PART.levels["live_bytes"][row], rel=1e-9)
    assert steady.levels["fds"] is PART.levels["fds"]
    assert steady.times_s is PART.times_s


def test_without_an_attribution_nothing_is_taken_out() -> None:
    assert np.array_equal(steadied(PART, Blame()).levels["live_bytes"], PART.levels["live_bytes"])


def test_endpoints_that_are_told_together_are_taken_out_together() -> None:
    both = endpoint((SEARCH, UPLOAD), about(100.0))
    apart = (endpoint(SEARCH, about(100.0)), endpoint(UPLOAD, about(100.0)))
    one, other = (steadied(PART, Blame(endpoints=found)) for found in ((both,), apart))
    assert np.allclose(one.levels["live_bytes"], other.levels["live_bytes"])
