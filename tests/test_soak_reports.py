"""Whole reports of soaks and verifications as a person reads them."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest
from soak_results import CACHE, LEAKY, NATIVE, UNKNOWN, about, at_most, endpoint, resource, soaked

from pytest_memleak.model import Outcome, Resource
from pytest_memleak.model_soak import Curve, Estimate, SoakResult
from pytest_memleak.reports import soak_text, verification_text
from pytest_memleak.verdict.verification import verify

FIXED = soaked(
    endpoints=(
        endpoint("GET /search", at_most(3.21)),
        endpoint("POST /upload", about(12_000.0), requests=540),
        endpoint(("GET /a/page/of/its/own/{page_id}/details", "GET /static/{path:path}"), at_most(1.234), 90_000),
        endpoint("GET /new", about(4.0)),
    )
)


def shown(text: str) -> str:
    """An expected text as it stands in these tests."""
    return textwrap.dedent(text).strip("\n")


LEAKY_80 = """\
LEAK shop.main:app: live heap at rest grew 2.6 MB/min, between 2.47 and 2.73
(99 %); limit 1

failed: the server ended with code 1 under load; its log ends:
    File 'shop/main.py', line 3
  ValueError: no

  soak  20 min 0 s of 30 min 0 s under load, 4 workers, 1,234 readings of live
        heap at rest; the first 45 s were warm-up
  load  126,543 requests, 70/s, 10 users, 17 failed
        17 times: GET /search: 500
  pause 4 ms in the median, 31 ms at most, 0.2 % of the time
  grew  2.6 [2.47, 2.73] MB/min
  grew  12 [11.4, 12.6] file descriptors a minute: POST /upload 0.25 per request
  RSS   2.81 MB/min, seen from outside; USS from 100 MB to 152 MB

  live heap at rest: 52 MB to 104 MB
  ▁▁▁▁▁▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
  RSS from outside: 120 MB to 180 MB
  ▁▁█

  endpoint                            requests            per request    MB/min
  GET /search                           36,000                1.08 kB       1.3
                                                   1.03 kB to 1.13 kB     leaks
  POST /upload                             540               65.54 kB      1.18
                                                 62.26 kB to 68.81 kB     leaks
  GET /a/page/of/its/own/{page_id}/…    90,000            below 1.3 B         -
  GET /seldom                                3              not known         -

leak 1 of 2: unbounded_cache (HIGH), in GET /search
  what  shop.catalogue.Page: +1, 1.08 kB per request
  where shop/catalogue.py:17 in search: 1.08 kB in 3 allocations per request
            PAGES[query] = Page(query)
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 36,000 entries
        now, about 39 MB
        shop.catalogue.PAGES['q']
                      ~~~~~~
  fix   bound it, by functools.lru_cache(maxsize=…) or an eviction of your own

leak 2 of 2, of the whole load
  what  memory of the C heap: 65.54 kB per request

  note  17 requests failed (12 %): what they should have reached is unjudged
  event 5 min 12 s: worker 4711 has ended
  event 20 min 0 s: the server ended with code 1 under load
  kept  /data/memleak-soak-20260101-120000 (memleak report, memleak verify)
"""

LEAKY_120 = """\
LEAK shop.main:app: live heap at rest grew 2.6 MB/min, between 2.47 and 2.73 (99 %); limit 1

failed: the server ended with code 1 under load; its log ends:
    File 'shop/main.py', line 3
  ValueError: no

  soak  20 min 0 s of 30 min 0 s under load, 4 workers, 1,234 readings of live heap at rest; the first 45 s were warm-up
  load  126,543 requests, 70/s, 10 users, 17 failed
        17 times: GET /search: 500
  pause 4 ms in the median, 31 ms at most, 0.2 % of the time
  grew  2.6 [2.47, 2.73] MB/min
  grew  12 [11.4, 12.6] file descriptors a minute: POST /upload 0.25 per request
  RSS   2.81 MB/min, seen from outside; USS from 100 MB to 152 MB

  live heap at rest: 52 MB to 104 MB
  ▁▁▁▁▁▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
  RSS from outside: 120 MB to 180 MB
  ▁▁█

  endpoint                                                            requests            per request    MB/min
  GET /search                                                           36,000                1.08 kB       1.3
                                                                                   1.03 kB to 1.13 kB     leaks
  POST /upload                                                             540               65.54 kB      1.18
                                                                                 62.26 kB to 68.81 kB     leaks
  GET /a/page/of/its/own/{page_id}/details + GET /static/{path:path}    90,000            below 1.3 B         -
  GET /seldom                                                                3              not known         -

leak 1 of 2: unbounded_cache (HIGH), in GET /search
  what  shop.catalogue.Page: +1, 1.08 kB per request
  where shop/catalogue.py:17 in search: 1.08 kB in 3 allocations per request
            PAGES[query] = Page(query)
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 36,000 entries now, about 39 MB
        shop.catalogue.PAGES['q']
                      ~~~~~~
  fix   bound it, by functools.lru_cache(maxsize=…) or an eviction of your own

leak 2 of 2, of the whole load
  what  memory of the C heap: 65.54 kB per request

  note  17 requests failed (12 %): what they should have reached is unjudged
  event 5 min 12 s: worker 4711 has ended
  event 20 min 0 s: the server ended with code 1 under load
  kept  /data/memleak-soak-20260101-120000 (memleak report, memleak verify)
"""

FIXED_80 = """\
FIXED: it grew 2.6 MB/min, and now no faster than 0.023 (99 %); limit 1

  was   2.6 MB/min [2.47, 2.73]
  is    0.0059 MB/min [0, 0.023]

  growth per request                           before       after
  GET /new                                 not called         4 B  leaks now
  GET /search                                 1.08 kB below 3.3 B  leaks no more
  POST /upload                               65.54 kB       12 kB  leaks less
  GET /a/page/of/its/own/{page_id}/detai… below 1.3 B below 1.3 B  clean
  GET /seldom                               not known  not called  clean

  note  the load was lighter (60 requests/s after, 70 before): the growth after
        is given at the load before
  note  within the limit, and yet not zero: GET /new, POST /upload
"""

FIXED_120 = """\
FIXED: it grew 2.6 MB/min, and now no faster than 0.023 (99 %); limit 1

  was   2.6 MB/min [2.47, 2.73]
  is    0.0059 MB/min [0, 0.023]

  growth per request                                                      before                    after
  GET /new                                                            not called       4 B [3.8 B, 4.2 B]  leaks now
  GET /search                                         1.08 kB [1.03 kB, 1.13 kB]              below 3.3 B  leaks no more
  POST /upload                                     65.54 kB [62.26 kB, 68.81 kB] 12 kB [11.4 kB, 12.6 kB]  leaks less
  GET /a/page/of/its/own/{page_id}/details + GET …                   below 1.3 B              below 1.3 B  clean
  GET /seldom                                                          not known               not called  clean

  note  the load was lighter (60 requests/s after, 70 before): the growth after is given at the load before
  note  within the limit, and yet not zero: GET /new, POST /upload
"""

NOT_FIXED_80 = """\
NOT FIXED: it grows 2.6 MB/min, between 2.47 and 2.73; limit 1

  was   2.6 MB/min [2.47, 2.73]
  is    2.6 MB/min [2.47, 2.73]

  growth per request                             before       after
  GET /search                                   1.08 kB     1.08 kB  still leaks
  POST /upload                                 65.54 kB    65.54 kB  still leaks
  GET /a/page/of/its/own/{page_id}/details… below 1.3 B below 1.3 B  clean
  GET /seldom                                 not known   not known  clean
"""

BUDGET_80 = """\
FIXED: it grows no faster than 0.02 MB/min (99 %); limit 1

  is    0.005 MB/min [0, 0.02]

  endpoint                                                    per request
  POST /upload                                   12 kB [11.4 kB, 12.6 kB]  leaks
  GET /new                                             4 B [3.8 B, 4.2 B]  leaks
  GET /search                                                 below 3.3 B  clean
  GET /a/page/of/its/own/{page_id}/details + G…               below 1.3 B  clean

  note  within the limit, and yet not zero: POST /upload, GET /new
"""


@pytest.mark.parametrize("width, text", [(80, LEAKY_80), (120, LEAKY_120)])
def test_a_leak_with_all_that_can_be_said_of_it(width: int, text: str) -> None:
    assert soak_text.explain(LEAKY, width=width) + "\n" == text


def test_a_clean_soak_is_told_in_a_few_lines() -> None:
    assert soak_text.explain(soaked(), width=80) == shown(
        """
        CLEAN shop.main:app: live heap at rest grew no faster than 0.02 MB/min (99 %);
        limit 1

          soak  30 min 0 s under load, 2 workers, 900 readings of live heap at rest; the
                first 45 s were warm-up
          load  108,000 requests, 60/s, 10 users
          grew  0.005 [0, 0.02] MB/min
        """
    )


def test_a_soak_that_saw_nothing_says_so() -> None:
    result = soaked(
        Outcome.INCONCLUSIVE,
        UNKNOWN,
        why="no reading was taken under load",
        basis="nothing",
        readings=0,
        seconds=3.0,
        warm_up_s=0.0,
        workers=1,
        load=None,
    )
    assert soak_text.explain(result, width=80) == shown(
        """
        INCONCLUSIVE shop.main:app: no reading was taken under load

          soak  3 s of 30 min 0 s under load, 1 worker, no reading
        """
    )


@pytest.mark.parametrize("width", [66, 72, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    names = [f"GET /{'segment/' * 12}{number}" for number in range(30)]
    result = dataclasses.replace(
        LEAKY,
        endpoints=tuple(endpoint(name, about(123_456.0), 123_456) for name in names),
        leaks=(CACHE, NATIVE) * 10,
        culprits=tuple(name[:50] for name in names[:20]),
        folder="",
    )
    for line_ in soak_text.explain(result, width=width).splitlines():
        assert len(line_) <= width


def test_many_endpoints_and_leaks_are_cut_and_counted() -> None:
    result = soaked(
        Outcome.LEAK,
        endpoints=tuple(endpoint(f"GET /{number}", about(100.0)) for number in range(25)),
        leaks=(NATIVE,) * 15,
        culprits=("",) * 15,
    )
    text = soak_text.explain(result, width=80)
    assert "  and 5 more (result.json has them all)\n" in text
    assert "leak 12 of 15, of the whole load\n" in text
    assert "leak 13 of 15" not in text
    assert "\nand 3 more (result.json has them all)" in text


def test_a_leak_without_a_line_says_that_none_was_found() -> None:
    result = soaked(Outcome.LEAK, endpoints=(endpoint("GET /search", about(100.0)),))
    assert "  note  no line was found that explains the growth" in soak_text.explain(result, width=80)


def test_a_resource_that_is_clean_is_not_told() -> None:
    result = soaked(
        resources=(
            resource(Resource.MEMORY, Outcome.CLEAN, at_most(0.02)),
            resource(Resource.FDS, Outcome.CLEAN, about(3.0)),
            resource(Resource.TASKS, Outcome.LEAK, about(7.0)),
        )
    )
    text = soak_text.explain(result, width=80)
    assert "file descriptors" not in text
    assert "  grew  7 [6.65, 7.35] asyncio tasks a minute\n" in text + "\n"


@pytest.mark.parametrize("levels", [(), (5.0,)])
def test_a_curve_of_less_than_two_points_is_not_drawn(levels: tuple[float, ...]) -> None:
    curve = Curve(name="RSS from outside", times_s=tuple(map(float, range(len(levels)))), levels=levels)
    assert "RSS from outside" not in soak_text.explain(soaked(curves=(curve,)), width=80)


def test_a_curve_that_does_not_move_is_a_flat_line() -> None:
    curve = Curve(name="live heap at rest", times_s=tuple(map(float, range(300))), levels=(50e6,) * 300)
    assert f"  live heap at rest: 50 MB to 50 MB\n  {'▁' * 60}" in soak_text.explain(soaked(curves=(curve,)), width=80)


def test_the_verdict_in_one_sentence() -> None:
    assert soak_text.sentence(LEAKY) == (
        "LEAK shop.main:app: live heap at rest grew 2.6 MB/min, between 2.47 and 2.73 (99 %); limit 1"
    )


@pytest.mark.parametrize(
    "before, after, width, text",
    [
        (LEAKY, FIXED, 80, FIXED_80),
        (LEAKY, FIXED, 120, FIXED_120),
        (LEAKY, LEAKY, 80, NOT_FIXED_80),
        (None, FIXED, 80, BUDGET_80),
    ],
    ids=["fixed", "fixed-wide", "not-fixed", "budget"],
)
def test_a_verification(before: SoakResult | None, after: SoakResult, width: int, text: str) -> None:
    assert verification_text.explain(verify(before, after, 1.0), width=width) + "\n" == text


def test_a_verification_that_cannot_tell() -> None:
    after = soaked(Outcome.INCONCLUSIVE, UNKNOWN, why="the run's 2 parts of 4 s on average are too short to tell")
    assert verification_text.explain(verify(soaked(Outcome.LEAK, about(2.6)), after, 1.0), width=80) == shown(
        """
        CAN'T TELL: the run's 2 parts of 4 s on average are too short to tell; soak for
        longer

          was   2.6 MB/min [2.47, 2.73]
          is    not known
        """
    )


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_no_line_of_a_verification_is_wider_than_the_terminal(width: int) -> None:
    before = soaked(
        Outcome.LEAK, about(2.6), endpoints=tuple(endpoint(f"GET /{'a/' * size}", about(99_950.0)) for size in (1, 25))
    )
    for after in (before, FIXED):
        for line_ in verification_text.explain(verify(before, after, 1.0), width=width).splitlines():
            assert len(line_) <= width


def test_an_interval_without_an_end_is_not_told_as_a_number() -> None:
    unknown = Estimate(value=5.0, low=0.0, high=float("inf"))
    result = soaked(endpoints=(endpoint("GET /seldom", unknown, requests=3),))
    for text in (
        soak_text.explain(result, width=80),
        verification_text.explain(verify(result, result, 1.0), width=80),
    ):
        assert "not known" in text
        assert "inf" not in text
