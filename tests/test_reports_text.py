"""Whole reports as a person reads them, at the width of a terminal and of a wide one."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest

from pytest_memleak.model import (
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
from pytest_memleak.reports import table, text
from pytest_memleak.settings import Settings


def judged(
    resource: Resource, per_call: float, outcome: Outcome = Outcome.LEAK, *, limit: float | None = 0.0
) -> Judgement:
    growth = Growth(per_call=per_call, low=0.99 * per_call, high=1.01 * per_call)
    return Judgement(
        resource=resource, outcome=outcome, growth=growth, limit=limit, why="grew steadily over 1,500 calls"
    )


CACHE = Leak(
    what="shop.catalogue.Page",
    count_per_call=1.0,
    bytes_per_call=980.0,
    resource=Resource.MEMORY,
    sites=(
        Site(
            frame=Frame(
                path="shop/catalogue.py",
                line=17,
                function="render",
                source="PAGES[query] = Page(query, rows)",
            ),
            bytes_per_call=512.0,
            count_per_call=4.0,
        ),
        Site(
            frame=Frame(
                path="shop/database.py",
                line=42,
                function="fetch",
                source="return [dict(row) for row in cursor]",
            ),
            inner=Frame(path="sqlite3/dbapi2.py", line=8, function="row"),
            bytes_per_call=468.0,
        ),
    ),
    holder=Holder(
        name="shop.catalogue.PAGES",
        kind="dict",
        entries_per_call=1.0,
        length=2_048,
        retained_bytes=2_010_000,
        path=("shop.catalogue", ".PAGES", "['q-2047']"),
        suspect=1,
    ),
    pattern="unbounded_cache",
    fix="bound it: cachetools.TTLCache(maxsize=…, ttl=…), functools.lru_cache(maxsize=…)",
)

AUDIT = Leak(
    what="dict",
    count_per_call=2.0,
    resource=Resource.MEMORY,
    holder=Holder(name="shop.orders.AUDIT", kind="list", entries_per_call=2.0),
    pattern="global_accumulation",
    fix="bound it with collections.deque(maxlen=…), or empty it periodically",
)

PAGES = Result(
    name="GET /pages",
    outcome=Outcome.LEAK,
    budget=Budget(bytes_per_request=333.33, objects_per_request=None, max_mb_per_min=1.0),
    calls=3_012,
    rounds=19,
    seconds=4.2,
    judgements=(judged(Resource.MEMORY, 980.0, limit=333.33),),
    leaks=(CACHE,),
    notes=("caplog kept 3,012 records and was emptied",),
    missing_probes=("tasks: trio has no asyncio tasks",),
    rss=RssAccount(rss_bytes=3_200_000, uss_bytes=3_100_000, native_bytes=96_000),
    table=(
        Round(calls=0, blocks=0, objects=0, native_bytes=0, rss_bytes=0),
        Round(calls=100, blocks=800, objects=200, native_bytes=6_400, rss_bytes=0),
        Round(calls=1_500, blocks=12_000, objects=3_000, native_bytes=96_000, rss_bytes=123_000),
    ),
)

SHORT = dataclasses.replace(PAGES, notes=(), missing_probes=(), rss=None, table=())

ORDERS = dataclasses.replace(
    SHORT,
    name="POST /orders",
    budget=Budget(),
    judgements=(judged(Resource.MEMORY, 1_100.0), judged(Resource.OBJECTS, 3.0)),
    leaks=(CACHE, AUDIT),
)

SEARCH = dataclasses.replace(
    SHORT,
    name="test_search",
    outcome=Outcome.INCONCLUSIVE,
    judgements=(judged(Resource.MEMORY, 12.0, Outcome.INCONCLUSIVE),),
    leaks=(),
    rss=RssAccount(rss_bytes=-8_000, uss_bytes=None, native_bytes=None),
    why="grows by 0.4 objects per call, but ever slower over 4,000 calls: a cache that fills?",
)

LISTING = dataclasses.replace(
    SHORT,
    name="test_products_by_category_and_price[a category with a long name]",
    outcome=Outcome.CLEAN,
    judgements=(
        Judgement(
            resource=Resource.MEMORY,
            outcome=Outcome.CLEAN,
            growth=Growth(per_call=0, low=0, high=36),
            limit=0.0,
            why="flat over 900 calls",
        ),
        Judgement(
            resource=Resource.OBJECTS,
            outcome=Outcome.CLEAN,
            growth=Growth(per_call=0.001, low=-0.01, high=0.014),
            limit=0.0,
            why="flat over 900 calls",
        ),
    ),
    leaks=(),
    sensitivity="no leak above 0.014 objects or 36 B per call (99 %)",
)

AGAIN = "pytest --memleak tests/test_shop.py::test_pages"


def expected(block: str) -> str:
    return textwrap.dedent(block).strip("\n")


LEAK_80 = """
GET /pages grew 980 B per request over 19 rounds (2.94 MB/min at 50 requests/s,
limit 1); allocated at shop/catalogue.py:17, held by shop.catalogue.PAGES (dict,
+1 entry per request)

leak: unbounded_cache (HIGH)
  what  shop.catalogue.Page: +1, 980 B per request
  where shop/catalogue.py:17 in render: 512 B in 4 allocations per request
            PAGES[query] = Page(query, rows)
        shop/database.py:42 in fetch: 468 B per request
            return [dict(row) for row in cursor]
        inside sqlite3/dbapi2.py:8 in row
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 2,048 entries now,
        about 2.01 MB
        shop.catalogue.PAGES['q-2047']
                      ~~~~~~
  fix   bound it: cachetools.TTLCache(maxsize=…, ttl=…),
        functools.lru_cache(maxsize=…)

      calls    blocks   objects     C heap        RSS   since the first round
          0        +0        +0        0 B        0 B
        100      +800      +200     6.4 kB        0 B
      1,500   +12,000    +3,000      96 kB     123 kB

  RSS   grew 3.2 MB, USS 3.1 MB, the C heap 96 kB
  note  caplog kept 3,012 records and was emptied
  note  not read here: tasks: trio has no asyncio tasks
  again pytest --memleak tests/test_shop.py::test_pages
"""

LEAK_120 = """
GET /pages grew 980 B per request over 19 rounds (2.94 MB/min at 50 requests/s, limit 1); allocated at
shop/catalogue.py:17, held by shop.catalogue.PAGES (dict, +1 entry per request)

leak: unbounded_cache (HIGH)
  what  shop.catalogue.Page: +1, 980 B per request
  where shop/catalogue.py:17 in render: 512 B in 4 allocations per request
            PAGES[query] = Page(query, rows)
        shop/database.py:42 in fetch: 468 B per request
            return [dict(row) for row in cursor]
        inside sqlite3/dbapi2.py:8 in row
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 2,048 entries now, about 2.01 MB
        shop.catalogue.PAGES['q-2047']
                      ~~~~~~
  fix   bound it: cachetools.TTLCache(maxsize=…, ttl=…), functools.lru_cache(maxsize=…)

      calls    blocks   objects     C heap        RSS   since the first round
          0        +0        +0        0 B        0 B
        100      +800      +200     6.4 kB        0 B
      1,500   +12,000    +3,000      96 kB     123 kB

  RSS   grew 3.2 MB, USS 3.1 MB, the C heap 96 kB
  note  caplog kept 3,012 records and was emptied
  note  not read here: tasks: trio has no asyncio tasks
  again pytest --memleak tests/test_shop.py::test_pages
"""


@pytest.mark.parametrize("width, block", [(80, LEAK_80), (120, LEAK_120)])
def test_a_leak_is_told_with_its_line_its_holder_its_fix_and_its_rounds(width: int, block: str) -> None:
    assert text.explain(PAGES, width=width, again=AGAIN) == expected(block)


def test_a_terminal_wider_than_120_columns_makes_no_longer_lines() -> None:
    assert text.explain(PAGES, width=400, again=AGAIN) == expected(LEAK_120)


ENDPOINTS_80 = """
GET /pages grew 980 B per request over 19 rounds (2.94 MB/min at 50 requests/s,
limit 1); allocated at shop/catalogue.py:17, held by shop.catalogue.PAGES (dict,
+1 entry per request)

leak: unbounded_cache (HIGH)
  what  shop.catalogue.Page: +1, 980 B per request
  where shop/catalogue.py:17 in render: 512 B in 4 allocations per request
            PAGES[query] = Page(query, rows)
        shop/database.py:42 in fetch: 468 B per request
            return [dict(row) for row in cursor]
        inside sqlite3/dbapi2.py:8 in row
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 2,048 entries now,
        about 2.01 MB
        shop.catalogue.PAGES['q-2047']
                      ~~~~~~
  fix   bound it: cachetools.TTLCache(maxsize=…, ttl=…),
        functools.lru_cache(maxsize=…)

POST /orders grew 1.1 kB and 3 objects per request over 19 rounds (budget 0);
allocated at shop/catalogue.py:17, held by shop.catalogue.PAGES (dict, +1 entry
per request)

  same leak as in GET /pages

leak: global_accumulation (HIGH)
  what  dict: +2 per request
  held  by shop.orders.AUDIT (list, +2 entries per request)
  fix   bound it with collections.deque(maxlen=…), or empty it periodically

  again pytest --memleak tests/test_shop.py::test_pages
"""

ENDPOINTS_120 = """
GET /pages grew 980 B per request over 19 rounds (2.94 MB/min at 50 requests/s, limit 1); allocated at
shop/catalogue.py:17, held by shop.catalogue.PAGES (dict, +1 entry per request)

leak: unbounded_cache (HIGH)
  what  shop.catalogue.Page: +1, 980 B per request
  where shop/catalogue.py:17 in render: 512 B in 4 allocations per request
            PAGES[query] = Page(query, rows)
        shop/database.py:42 in fetch: 468 B per request
            return [dict(row) for row in cursor]
        inside sqlite3/dbapi2.py:8 in row
  held  by shop.catalogue.PAGES (dict, +1 entry per request); 2,048 entries now, about 2.01 MB
        shop.catalogue.PAGES['q-2047']
                      ~~~~~~
  fix   bound it: cachetools.TTLCache(maxsize=…, ttl=…), functools.lru_cache(maxsize=…)

POST /orders grew 1.1 kB and 3 objects per request over 19 rounds (budget 0); allocated at shop/catalogue.py:17, held by
shop.catalogue.PAGES (dict, +1 entry per request)

  same leak as in GET /pages

leak: global_accumulation (HIGH)
  what  dict: +2 per request
  held  by shop.orders.AUDIT (list, +2 entries per request)
  fix   bound it with collections.deque(maxlen=…), or empty it periodically

  again pytest --memleak tests/test_shop.py::test_pages
"""


@pytest.mark.parametrize("width, block", [(80, ENDPOINTS_80), (120, ENDPOINTS_120)])
def test_a_leak_that_endpoints_share_is_told_once(width: int, block: str) -> None:
    assert text.explain_all([SHORT, ORDERS], width=width, again=AGAIN) == expected(block)


INCONCLUSIVE_80 = """
test_search is inconclusive: grows by 0.4 objects per call, but ever slower over
4,000 calls: a cache that fills?

  RSS   grew -8 kB
  again pytest --memleak tests/test_shop.py::test_pages
"""

INCONCLUSIVE_120 = """
test_search is inconclusive: grows by 0.4 objects per call, but ever slower over 4,000 calls: a cache that fills?

  RSS   grew -8 kB
  again pytest --memleak tests/test_shop.py::test_pages
"""


@pytest.mark.parametrize("width, block", [(80, INCONCLUSIVE_80), (120, INCONCLUSIVE_120)])
def test_a_doubt_is_told_with_its_reason(width: int, block: str) -> None:
    assert text.explain(SEARCH, width=width, again=AGAIN) == expected(block)


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_no_line_of_prose_is_wider_than_the_terminal(width: int) -> None:
    prose = dataclasses.replace(PAGES, table=(), leaks=(AUDIT,))
    lines = text.explain_all([prose, ORDERS, SEARCH], width=width, again="pytest").splitlines()
    assert max(map(len, lines)) <= max(width, len("        shop.catalogue.PAGES['q-2047']"), 76)


def test_the_command_that_repeats_a_test_survives_the_shell() -> None:
    assert text.command_again("tests/test_shop.py::test_pages") == AGAIN
    assert text.command_again("t.py::test[a b]") == "pytest --memleak 't.py::test[a b]'"


def test_a_report_shows_four_leaks_and_counts_the_rest() -> None:
    leaks = tuple(dataclasses.replace(AUDIT, what=f"kind{number}", holder=None) for number in range(6))
    lines = text.explain(dataclasses.replace(SHORT, leaks=leaks), width=80, again=AGAIN).splitlines()
    assert [line for line in lines if line.startswith(("leak", "and"))] == [
        "leak 1 of 6: global_accumulation (HIGH)",
        "leak 2 of 6: global_accumulation (HIGH)",
        "leak 3 of 6: global_accumulation (HIGH)",
        "leak 4 of 6: global_accumulation (HIGH)",
        "and 2 more (--memleak-json has them all)",
    ]


def test_a_leak_without_line_or_holder_is_told_by_what_it_is() -> None:
    loose = Leak(what="memory outside Python", resource=Resource.MEMORY, details=("a C library keeps it",))
    result = dataclasses.replace(ORDERS, leaks=(loose,))
    assert text.explain(result, width=120, again=AGAIN) == expected(
        """
        POST /orders grew 1.1 kB and 3 objects per request over 19 rounds (budget 0); memory outside Python

        leak
          what  memory outside Python
                a C library keeps it

          again pytest --memleak tests/test_shop.py::test_pages
        """
    )


@pytest.mark.parametrize(
    "judgements, words",
    [
        ((judged(Resource.MEMORY, 980),), "980 B per request"),
        ((judged(Resource.MEMORY, 980, Outcome.CLEAN), judged(Resource.OBJECTS, 2)), "2 objects per request"),
        (
            (judged(Resource.FDS, 2), judged(Resource.CHILDREN, 3)),
            "2 file descriptors and 3 child processes per request",
        ),
        (
            (judged(Resource.OBJECTS, 1), judged(Resource.FDS, 1), judged(Resource.THREADS, 1.001)),
            "1 object, 1 file descriptor and 1 thread per request",
        ),
        ((judged(Resource.TASKS, 1), judged(Resource.CHILDREN, 1)), "1 asyncio task and 1 child process per request"),
        (
            (judged(Resource.OBJECTS, 0.5), judged(Resource.TASKS, 1.01)),
            "0.5 objects and 1.01 asyncio tasks per request",
        ),
        (
            (judged(Resource.MEMORY, 0, Outcome.CLEAN), judged(Resource.OBJECTS, 0, Outcome.CLEAN)),
            "0 B per request",
        ),
        ((), "nothing per request"),
    ],
)
def test_growth_is_told_for_what_is_guilty(judgements: tuple[Judgement, ...], words: str) -> None:
    assert text.growth_words(dataclasses.replace(SHORT, judgements=judgements)) == words


@pytest.mark.parametrize(
    "allowed, words",
    [
        (Settings(), "(budget 0)"),
        (Settings(max_bytes_per_request=0), "(budget 0)"),
        (Settings(max_bytes_per_request=64), "(budget 64 B)"),
        (Settings(max_mb_per_min=1), "(2.94 MB/min at 50 requests/s, limit 1)"),
        (Settings(max_mb_per_min=0.5, rps=250), "(14.7 MB/min at 250 requests/s, limit 0.5)"),
        (Settings(max_mb_per_min=1, max_bytes_per_request=100), "(2.94 MB/min at 50 requests/s, limit 0.3)"),
    ],
)
def test_the_budget_of_memory_is_told_as_it_was_set(allowed: Settings, words: str) -> None:
    budget = allowed.budget()
    memory = judged(Resource.MEMORY, 980.0, limit=budget.bytes_per_request)
    told = text.sentence(dataclasses.replace(SHORT, budget=budget, judgements=(memory,)))
    assert f" over 19 rounds {words}; " in told


@pytest.mark.parametrize(
    "guilty, words",
    [
        (judged(Resource.OBJECTS, 3, limit=2.5), "(budget 2.5 objects)"),
        (judged(Resource.FDS, 1, limit=8), "(budget 8 file descriptors in all)"),
        (judged(Resource.TASKS, 1, limit=12), "(budget 12 asyncio tasks in all)"),
        (judged(Resource.THREADS, 1, limit=0), "(budget 0)"),
    ],
)
def test_the_budget_that_is_told_is_the_one_that_was_broken(guilty: Judgement, words: str) -> None:
    kept_to = judged(Resource.MEMORY, 20, Outcome.CLEAN, limit=64)
    result = dataclasses.replace(SHORT, budget=Budget(bytes_per_request=64), judgements=(kept_to, guilty))
    assert f" over 19 rounds {words}; " in text.sentence(result)


def test_what_cannot_be_read_is_a_dash_in_the_table_of_rounds() -> None:
    rounds = (
        Round(calls=0, blocks=0, objects=0, native_bytes=None, rss_bytes=0),
        Round(calls=1_500, blocks=12_000, objects=-3, native_bytes=None, rss_bytes=None),
    )
    result = dataclasses.replace(SEARCH, rss=None, table=rounds, why="the readings scatter")
    assert text.explain(result, width=120, again=AGAIN) == expected(
        """
        test_search is inconclusive: the readings scatter

              calls    blocks   objects     C heap        RSS   since the first round
                  0        +0        +0          -        0 B
              1,500   +12,000        -3          -          -

          again pytest --memleak tests/test_shop.py::test_pages
        """
    )


def test_a_canary_that_was_missed_says_what_to_change() -> None:
    assert text.canary_missed(SEARCH) == (
        f"test_search: a planted leak of the budget's size was not convicted (INCONCLUSIVE: {SEARCH.why}); "
        "give the test more time (max_time), a budget that its noise allows, or a narrower ignore"
    )


# The table at the end of a run.

RUN = [result.to_dict() for result in (PAGES, ORDERS, SEARCH, LISTING)]

TABLE_80 = """
test or endpoint                calls     memory  objects   MB/min      verdict
GET /pages                      3,012      980 B        -     2.94         LEAK
POST /orders                    3,012     1.1 kB        3      3.3         LEAK
test_search                     3,012       12 B        -    0.036 INCONCLUSIVE
test_pro… with a long name]     3,012        0 B        0        0        CLEAN
"""

TABLE_120 = """
test or endpoint                                                     calls     memory  objects   MB/min      verdict
GET /pages                                                           3,012      980 B        -     2.94         LEAK
POST /orders                                                         3,012     1.1 kB        3      3.3         LEAK
test_search                                                          3,012       12 B        -    0.036 INCONCLUSIVE
test_products_by_category_and_price[a category with a long name]     3,012        0 B        0        0        CLEAN
"""


@pytest.mark.parametrize("width, block", [(80, TABLE_80), (120, TABLE_120)])
def test_the_table_fits_the_terminal_and_cuts_names_in_their_middle(width: int, block: str) -> None:
    lines = [line for line, _ in table.rows(RUN, width=width, verbose=False)]
    assert "\n".join(lines) == block.strip("\n")
    assert max(map(len, lines)) <= width


def test_each_line_of_the_table_comes_with_its_outcome() -> None:
    outcomes = [outcome for _, outcome in table.rows(RUN, width=80, verbose=False)]
    assert outcomes == ["", "LEAK", "LEAK", "INCONCLUSIVE", "CLEAN"]


def test_a_resource_that_was_not_judged_is_a_dash() -> None:
    (_, (line, _)) = table.rows([dataclasses.replace(SHORT, judgements=()).to_dict()], width=80, verbose=False)
    assert line.split() == ["GET", "/pages", "3,012", "-", "-", "-", "LEAK"]


def test_footnotes_say_what_the_table_cannot() -> None:
    assert list(table.footnotes(RUN, width=200, fails=False, verbose=False)) == [
        "growth is per call; MB/min at 50 requests/s",
        "GET /pages: caplog kept 3,012 records and was emptied",
        f"INCONCLUSIVE test_search: {SEARCH.why} (--memleak-inconclusive=fail makes this a failure)",
        "not read here: tasks: trio has no asyncio tasks",
    ]


def test_verbose_footnotes_say_what_a_pass_excludes() -> None:
    assert f"{LISTING.name}: {LISTING.sensitivity}" in list(table.footnotes(RUN, width=200, fails=False, verbose=True))


def test_a_doubt_that_fails_its_test_needs_no_advice() -> None:
    lines = table.footnotes(RUN, width=200, fails=True, verbose=False)
    (doubt,) = [line for line in lines if line.startswith("INCONCLUSIVE")]
    assert doubt == f"INCONCLUSIVE test_search: {SEARCH.why}"


def test_footnotes_name_each_rate_and_each_missing_probe_once() -> None:
    results = [
        dataclasses.replace(PAGES, notes=(), budget=Budget(requests_per_s=rate)).to_dict() for rate in (250, 50, 50)
    ]
    assert list(table.footnotes(results, width=200, fails=False, verbose=False)) == [
        "growth is per call; MB/min at 50, 250 requests/s",
        "not read here: tasks: trio has no asyncio tasks",
    ]
