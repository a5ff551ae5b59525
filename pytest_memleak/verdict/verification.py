"""Did the fix work? Two soaks compared, or one held against a budget. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import EndpointChange, EndpointGrowth, Estimate, SoakResult, Verification
from pytest_memleak.units import format_rate

# A load that was lighter by less than this says as much: Locust's own rates differ by a few per cent.
_AS_MUCH: Final = 0.9

# A watch from outside sees no requests. A process that uses less of the processor than this share of what it used
# before was not called as often: a fix of a leak seldom makes the work itself three times as cheap.
_AS_BUSY: Final = 1 / 3


def verify(before: SoakResult | None, after: SoakResult, limit_mb_per_min: float) -> Verification:
    """Fixed when the run after stays within the limit, at the load of the run before, and proves it.

    Without a run before, the run is held against the budget alone.
    """
    scale, notes = _scale(before, after)
    growth = after.growth.times(scale)
    changes = _changes(before, after)
    answer, why = _answer(before, after, growth, limit_mb_per_min, changes)
    still = [change.endpoint for change in changes if change.words in ("still leaks", "leaks now", "leaks less")]
    if answer == "fixed" and still:
        notes.append(f"within the limit, and yet not zero: {', '.join(still)}")
    return Verification(
        answer=answer,  # type: ignore[arg-type]  # one of the three literals below
        why=why,
        limit_mb_per_min=limit_mb_per_min,
        before=before.growth if before else None,
        after=growth,
        endpoints=tuple(changes),
        notes=tuple(notes),
    )


def _scale(before: SoakResult | None, after: SoakResult) -> tuple[float, list[str]]:
    """How much faster the run after would have grown at the load of the run before."""
    if before is None or before.load is None or after.load is None or not after.load.requests_per_s:
        return 1.0, []
    ratio = before.load.requests_per_s / after.load.requests_per_s
    if ratio * _AS_MUCH <= 1:
        return 1.0, []
    rates = f"{after.load.requests_per_s:.0f} requests/s after, {before.load.requests_per_s:.0f} before"
    return ratio, [f"the load was lighter ({rates}): the growth after is given at the load before"]


def _answer(
    before: SoakResult | None,
    after: SoakResult,
    growth: Estimate,
    limit: float,
    changes: Sequence[EndpointChange],
) -> tuple[str, str]:
    rate = f"{format_rate(growth.value)} MB/min, between {format_rate(growth.low)} and {format_rate(growth.high)}"
    rule = f"limit {format_rate(limit)}"
    if growth.low > limit:
        return "not fixed", f"it grows {rate}; {rule}"
    handles = [found for found in after.resources[1:] if found.outcome is Outcome.LEAK]
    if handles:
        return "not fixed", f"{handles[0].resource.value} leak: {handles[0].why}"
    if after.outcome is Outcome.LEAK and after.resources and after.resources[0].outcome is not Outcome.LEAK:
        # It grew too fast to be measured: the server died of it.
        return "not fixed", after.why
    if after.failure:
        return "can't tell", f"the run after failed: {after.failure}"
    # Also what is CLEAN because its growth faded: a fix is proven by a run that does not grow.
    if after.outcome is Outcome.INCONCLUSIVE or growth.high > limit:
        doubt = after.why if after.outcome is Outcome.INCONCLUSIVE else f"it grows {rate}; {rule}"
        return "can't tell", f"{doubt}; soak for longer"
    if before is not None:
        missed = [change.endpoint for change in changes if change.words == "not called after"]
        if missed:
            return "can't tell", f"the run after never called {', '.join(missed)}, which leaked before"
        if before.outcome is not Outcome.LEAK:
            return "can't tell", f"the run before shows no leak that could be fixed ({before.outcome.value})"
        if _is_idle(before, after):
            return "can't tell", (
                f"the process used {after.cores:.1%} of a core after, {before.cores:.1%} before:"
                " it may not have been called as often; watch it under the same traffic"
            )
        was = f"it grew {format_rate(before.growth.value)} MB/min"
        return "fixed", f"{was}, and now no faster than {format_rate(max(0.0, growth.high))} (99 %); {rule}"
    return "fixed", f"it grows no faster than {format_rate(max(0.0, growth.high))} MB/min (99 %); {rule}"


def _is_idle(before: SoakResult, after: SoakResult) -> bool:
    """Whether a watch after the fix saw much less work than the one before it."""
    return before.cores is not None and after.cores is not None and after.cores < _AS_BUSY * before.cores


def _changes(before: SoakResult | None, after: SoakResult) -> list[EndpointChange]:
    """Every endpoint of either run; those that leaked, or do, come first."""
    early = _by_endpoint(before.endpoints if before else ())
    late = _by_endpoint(after.endpoints)
    changes = []
    called = {endpoint for growth in after.endpoints if growth.requests for endpoint in growth.endpoints}
    for name in dict.fromkeys((*early, *late)):
        was, now = early.get(name), late.get(name)
        if was is not None and now is None and called & set(was.endpoints):
            # They could not be told apart before, and can now: each has a line of its own.
            continue
        changes.append(
            EndpointChange(
                endpoint=name,
                before=was.bytes_per_request if was else None,
                after=now.bytes_per_request if now else None,
                words=_words(was, now),
            )
        )
    order = ("still leaks", "leaks now", "not called after", "leaks no more", "leaks less")
    ranks = {words: rank for rank, words in enumerate(order)}
    return sorted(changes, key=lambda change: ranks.get(change.words, len(order)))


def _by_endpoint(growths: Sequence[EndpointGrowth]) -> dict[str, EndpointGrowth]:
    return {growth.name: growth for growth in growths if growth.requests}


def _words(was: EndpointGrowth | None, now: EndpointGrowth | None) -> str:
    leaked = was is not None and was.leaks
    leaks = now is not None and now.leaks
    if leaked and now is None:
        return "not called after"
    if leaked and not leaks and was is not None and now is not None and not _is_less(was, now):
        return "not shown"
    if leaked and leaks and was is not None and now is not None:
        return "leaks less" if _is_less(was, now) else "still leaks"
    if leaked:
        return "leaks no more"
    return "leaks now" if leaks else "clean"


def _is_less(was: EndpointGrowth, now: EndpointGrowth) -> bool:
    """Whether what it keeps now is told from what it kept."""
    return now.bytes_per_request.high < was.bytes_per_request.low
