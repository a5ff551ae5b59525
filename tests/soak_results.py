"""Made-up results of soaks for the tests of what is said of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from pytest_memleak.model import Frame, Holder, Leak, Outcome, Resource, Site
from pytest_memleak.model_soak import Culprit, Curve, EndpointGrowth, Estimate, Load, Pauses, ResourceGrowth, SoakResult

UNKNOWN = Estimate(value=0.0, low=float("-inf"), high=float("inf"))


def about(value: float, share: float = 0.05) -> Estimate:
    """A figure and its interval, so much to either side."""
    return Estimate(value=value, low=value * (1 - share), high=value * (1 + share))


def at_most(high: float) -> Estimate:
    """A figure that is not told from zero."""
    return Estimate(value=high / 4, low=0.0, high=high)


def endpoint(name: str | tuple[str, ...], per_request: Estimate, requests: int = 36_000) -> EndpointGrowth:
    """In a soak of half an hour."""
    names = (name,) if isinstance(name, str) else name
    factor = requests / 30 / 1e6
    return EndpointGrowth(
        endpoints=names,
        requests=requests,
        bytes_per_request=per_request,
        mb_per_min=Estimate(
            value=per_request.value * factor, low=per_request.low * factor, high=per_request.high * factor
        ),
    )


def resource(
    kind: Resource, outcome: Outcome, per_min: Estimate, why: str = "", culprits: tuple[Culprit, ...] = ()
) -> ResourceGrowth:
    return ResourceGrowth(
        resource=kind, outcome=outcome, per_min=per_min, gained=per_min.value * 30, why=why, endpoints=culprits
    )


def soaked(outcome: Outcome = Outcome.CLEAN, growth: Estimate | None = None, **values: Any) -> SoakResult:
    """Half an hour of two workers."""
    growth = growth or at_most(0.02)
    made = SoakResult(
        name="shop.main:app",
        outcome=outcome,
        why="live heap at rest grew no faster than 0.02 MB/min (99 %); limit 1",
        basis="live heap at rest",
        limit_mb_per_min=1.0,
        growth=growth,
        seconds=1800.0,
        wanted_seconds=1800.0,
        warm_up_s=45.0,
        workers=2,
        readings=900,
        resources=(resource(Resource.MEMORY, outcome, growth),),
        load=Load(requests=108_000, failures=0, requests_per_s=60.0, users=10),
    )
    return dataclasses.replace(made, **values)


CACHE = Leak(
    what="shop.catalogue.Page",
    resource=Resource.MEMORY,
    count_per_call=1.0,
    bytes_per_call=1_080.0,
    sites=(
        Site(
            frame=Frame(path="shop/catalogue.py", line=17, function="search", source="PAGES[query] = Page(query)"),
            bytes_per_call=1_080.0,
            count_per_call=3.0,
            place=("/srv/shop/catalogue.py", 17),
        ),
    ),
    holder=Holder(
        name="shop.catalogue.PAGES",
        kind="dict",
        entries_per_call=1.0,
        length=36_000,
        retained_bytes=39_000_000,
        path=("shop.catalogue", ".PAGES", "['q']"),
        suspect=1,
    ),
    pattern="unbounded_cache",
    fix="bound it, by functools.lru_cache(maxsize=…) or an eviction of your own",
)

NATIVE = Leak(what="memory of the C heap", resource=Resource.MEMORY, bytes_per_call=65_536.0)

LEAKY = soaked(
    Outcome.LEAK,
    about(2.6),
    why="live heap at rest grew 2.6 MB/min, between 2.47 and 2.73 (99 %); limit 1",
    seconds=1_200.0,
    workers=4,
    readings=1_234,
    resources=(
        resource(Resource.MEMORY, Outcome.LEAK, about(2.6)),
        resource(
            Resource.FDS,
            Outcome.LEAK,
            about(12.0),
            culprits=(Culprit(endpoint="POST /upload", per_request=about(0.25)),),
        ),
        resource(Resource.THREADS, Outcome.CLEAN, about(0.1)),
    ),
    endpoints=(
        endpoint("GET /search", about(1_080.0)),
        endpoint("POST /upload", about(65_536.0), requests=540),
        endpoint(("GET /a/page/of/its/own/{page_id}/details", "GET /static/{path:path}"), at_most(1.234), 90_000),
        endpoint("GET /seldom", Estimate(value=5.0, low=0.0, high=float("inf")), requests=3),
    ),
    leaks=(CACHE, NATIVE),
    culprits=("GET /search", ""),
    load=Load(requests=126_543, failures=17, requests_per_s=70.3, users=10, errors=("17 times: GET /search: 500",)),
    pauses=Pauses(count=1_234, median_ms=4.2, longest_ms=31.4, share=0.0021),
    curves=(
        Curve(
            name="live heap at rest",
            times_s=tuple(float(number) for number in range(0, 1200, 10)),
            levels=tuple(52_000_000.0 + 43_333 * number * 10 for number in range(120)),
        ),
        Curve(name="RSS from outside", times_s=(0.0, 600.0, 1200.0), levels=(120e6, 120e6, 180e6)),
    ),
    rss_mb_per_min=2.81,
    uss_bytes=(100e6, 152e6),
    notes=("17 requests failed (12 %): what they should have reached is unjudged",),
    events=(
        "5 min 12 s: worker 4711 has ended",
        "20 min 0 s: the server ended with code 1 under load; its log ends:\nTraceback\nMemoryError",
    ),
    failure="the server ended with code 1 under load; its log ends:\n  File 'shop/main.py', line 3\nValueError: no",
    folder="/data/memleak-soak-20260101-120000",
)
