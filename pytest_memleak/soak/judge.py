"""From a run's records to its result. No effects: the same for a run that goes on, ended, or was killed.

live heap at rest, all workers ─► drift ─► warm-up
the workers' lives after it    ─► attribution ─► bytes per request of each endpoint
live heap less the mix's ups and downs ─► drift ─► verdict        first
RSS from outside               ─► drift ─► verdict        where no agent spoke, and as a second opinion
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pytest_memleak.model import Outcome, Resource
from pytest_memleak.model_soak import Culprit, Curve, Estimate, Pauses, ResourceGrowth, SoakResult
from pytest_memleak.soak import blame, evidence
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan
from pytest_memleak.soak.steady import steadied
from pytest_memleak.soak.stretches import Stretch, inside, stretches
from pytest_memleak.units import MB, format_bytes, format_rate, format_seconds
from pytest_memleak.verdict import drift

LIVE: Final = "live heap at rest"
OUTSIDE: Final = "RSS from outside"
_NOTHING: Final = "nothing"

# What a service may gain while it is measured without that being a leak: pools open a few connections and start
# threads (asyncio's and anyio's default pools: up to 40 threads, in the warm-up).
_SPARE_HANDLES: Final = 10

# A process that reaches nine tenths of its limit, and began below half of that, fails soon if it does not already.
_ALMOST: Final = 0.9

# Less than this has not seen what a leak does: an agent that fell silent, a worker that came late.
_COVERED: Final = 0.6

# Half of what grew has to be there when the load is over and the heap was collected whole.
_REMAINS: Final = 0.5

# A chart of a terminal's width.
_CURVE_POINTS: Final = 120

_COLUMNS: Final = {Resource.FDS: "fds", Resource.THREADS: "threads", Resource.TASKS: "tasks"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The verdict on one series of the service, in its unit per second."""

    outcome: Outcome
    rate: Estimate
    gained: float
    settled_s: float
    why: str


def judge(recorded: Recorded, plan: Plan, *, folder: str = "") -> SoakResult:
    """The result of what was recorded; a run that did not run its whole time is never CLEAN."""
    parts = stretches(recorded, ("live_bytes", *_COLUMNS.values()))
    limit = plan.max_mb_per_min * MB / 60
    memory, basis, blamed = _memory(recorded, parts, limit)
    outside = _outside(recorded, limit)
    resources = [_growth_of(Resource.MEMORY, memory, 60 / MB), *_handles(parts)]
    resources = [_remaining(growth, parts) for growth in resources]
    outcome, why = _overall(resources, plan, basis)
    if outcome is Outcome.CLEAN and basis == LIVE and outside is not None and outside.outcome is Outcome.LEAK:
        outcome, why = Outcome.INCONCLUSIVE, _unseen(outside, memory)
    covered_s = sum(part.length_s * part.share for part in parts)
    if outcome is Outcome.CLEAN and basis == LIVE and covered_s < _COVERED * recorded.measured_s:
        span = f"{format_seconds(covered_s)} of {format_seconds(recorded.measured_s)}"
        outcome, why = Outcome.INCONCLUSIVE, f"the agents' readings cover only {span}: {why}"
    if outcome is not Outcome.LEAK and not recorded.is_complete:
        seen = ", and no leak was seen until then" if outcome is Outcome.CLEAN else ""
        outcome, why = Outcome.INCONCLUSIVE, f"it ended early{seen}: {why}"
    if outcome is Outcome.CLEAN and recorded.failure:
        outcome, why = Outcome.INCONCLUSIVE, f"it failed, and proves nothing: {why}"
    if recorded.died_of_memory:
        died = recorded.died_of_memory
        outcome, why = Outcome.LEAK, f"{why}; {died}" if outcome is Outcome.LEAK else died
    leaks, culprits, remarks = blame.leaks(recorded, blamed.endpoints)
    return SoakResult(
        name=plan.name,
        outcome=outcome,
        why=why,
        basis=basis,
        limit_mb_per_min=plan.max_mb_per_min,
        growth=memory.rate.times(60 / MB),
        seconds=recorded.measured_s,
        wanted_seconds=plan.duration_s,
        warm_up_s=_warm_up_s(recorded, memory.settled_s),
        workers=len({life.pid for part in parts for life in part.lives}) or recorded.processes,
        readings=sum(len(part.times_s) for part in parts) if basis == LIVE else len(recorded.outside_times_s),
        resources=tuple(resources),
        endpoints=blamed.endpoints,
        leaks=leaks,
        culprits=culprits,
        load=evidence.load(recorded),
        pauses=_pauses(recorded),
        curves=tuple(_curves(recorded, parts)),
        uss_bytes=(recorded.uss[0], recorded.uss[-1]) if len(recorded.uss) > 1 else (),
        rss_mb_per_min=outside.rate.value * 60 / MB if outside else None,
        notes=(*blamed.notes, *remarks, *evidence.notes(recorded, plan, blamed.endpoints)),
        events=tuple(f"{format_seconds(t)}: {words}" for t, _, words in recorded.events),
        failure=recorded.failure,
        folder=folder,
    )


def _warm_up_s(recorded: Recorded, settled_s: float) -> float:
    """From the beginning of the load, the last one of a resumed run, to the settled time."""
    begins = [begin for begin, _ in recorded.windows if begin <= settled_s]
    return settled_s - begins[-1] if begins else 0.0


def _memory(recorded: Recorded, parts: Sequence[Stretch], limit: float) -> tuple[Trend, str, blame.Blame]:
    """The trend of the service's memory, the series that it is of, and what each endpoint has in it."""
    if parts:
        raw = _combined([_judged(part, "live_bytes", limit) for part in parts], parts)
        blamed = blame.blame(parts, raw.settled_s)
        steady = [_judged(steadied(part, blamed), "live_bytes", limit) for part in parts]
        return _combined(steady, parts), LIVE, blamed
    outside = _outside(recorded, limit)
    if outside is not None:
        return outside, OUTSIDE, blame.Blame()
    nothing = Estimate(value=0.0, low=float("-inf"), high=float("inf"))
    why = "no reading was taken under load"
    return (
        Trend(outcome=Outcome.INCONCLUSIVE, rate=nothing, gained=0.0, settled_s=0.0, why=why),
        _NOTHING,
        blame.Blame(),
    )


def _judged(part: Stretch, column: str, limit: float, least: float = 0.0) -> Trend:
    """One stretch against its share of the limit, scaled to the whole service."""
    found = drift.judge(part.times_s.tolist(), part.levels[column].tolist(), limit * part.share, least=least)
    return Trend(
        outcome=found.outcome,
        rate=found.rate.times(1 / part.share),
        gained=found.gained,
        settled_s=found.settled_s,
        why=found.why,
    )


def _combined(trends: Sequence[Trend], parts: Sequence[Stretch]) -> Trend:
    """A leak in one stretch is a leak; to be clean, most of the time has to be."""
    if len(trends) == 1:
        return trends[0]
    weights = [max(part.length_s, 1e-9) for part in parts]
    total = sum(weights)
    guilty = [trend for trend in trends if trend.outcome is Outcome.LEAK]
    clean_s = sum(w for trend, w in zip(trends, weights, strict=True) if trend.outcome is Outcome.CLEAN)
    if guilty:
        outcome, why = Outcome.LEAK, guilty[0].why
    elif clean_s > total / 2:
        outcome, why = Outcome.CLEAN, next(trend.why for trend in trends if trend.outcome is Outcome.CLEAN)
    else:
        outcome, why = Outcome.INCONCLUSIVE, _too_short(parts, total / len(parts))
    counted = guilty or [trend for trend in trends if np.isfinite(trend.rate.high - trend.rate.low)] or list(trends)
    longest = max(range(len(parts)), key=lambda number: weights[number])
    shares = [w for trend, w in zip(trends, weights, strict=True) if trend in counted]
    return Trend(
        outcome=outcome,
        rate=Estimate(
            value=float(np.average([trend.rate.value for trend in counted], weights=shares)),
            low=min(trend.rate.low for trend in counted),
            high=max(trend.rate.high for trend in counted),
        ),
        gained=max(trend.gained for trend in trends),
        settled_s=trends[longest].settled_s if len(parts) < 3 else parts[0].times_s[0],
        why=why,
    )


def _too_short(parts: Sequence[Stretch], length_s: float) -> str:
    segments = {life.segment for part in parts for life in part.lives}
    if len(segments) in (0, len(parts)):
        return f"the run's {len(parts)} parts of {length_s:.0f} s on average are too short to tell"
    lives = f"the workers' {len(parts)} lives of {length_s:.0f} s on average"
    return f"{lives} are too short to tell; let workers live longer (max_requests)"


def _outside(recorded: Recorded, limit: float) -> Trend | None:
    times, sizes = np.asarray(recorded.outside_times_s), np.asarray(recorded.outside_rss)
    found = []
    for begin, end in recorded.windows:
        rows = (times >= begin) & (times <= (recorded.latest_s if end is None else end))
        if rows.sum() > 1:
            part = Stretch(times_s=times[rows], levels={"rss_bytes": sizes[rows]}, share=1.0, lives=())
            found.append((_judged(part, "rss_bytes", limit), part))
    return _combined([trend for trend, _ in found], [part for _, part in found]) if found else None


def _handles(parts: Sequence[Stretch]) -> list[ResourceGrowth]:
    growths = []
    for resource, column in _COLUMNS.items():
        if not parts or not any(part.levels[column].any() for part in parts):
            continue
        length = max(1.0, *(part.length_s for part in parts))
        limit = _SPARE_HANDLES / length
        raw = _combined([_judged(part, column, limit) for part in parts], parts)
        blamed = blame.blame(parts, raw.settled_s, column)
        steady = [_judged(steadied(part, blamed, column), column, limit, least=_SPARE_HANDLES) for part in parts]
        growth = _growth_of(resource, _combined(steady, parts), 60.0)
        growth = dataclasses.replace(growth, endpoints=_culprits(blamed))
        if growth.outcome is not Outcome.LEAK:
            # Threads and descriptors come and go by a few; only a lasting growth says something.
            growth = dataclasses.replace(growth, outcome=Outcome.CLEAN)
        if resource is Resource.FDS:
            growth = _at_the_limit(growth, parts)
        growths.append(growth)
    return growths


def _culprits(blamed: blame.Blame) -> tuple[Culprit, ...]:
    """The endpoints that keep some of a resource, most per request first."""
    found = [
        Culprit(endpoint=growth.name, per_request=growth.bytes_per_request)
        for growth in blamed.endpoints
        if growth.leaks
    ]
    return tuple(sorted(found, key=lambda culprit: -culprit.per_request.value))


def _at_the_limit(growth: ResourceGrowth, parts: Sequence[Stretch]) -> ResourceGrowth:
    """Descriptors that ran out grow no more; that is no plateau."""
    for part in parts:
        for life in part.lives:
            fds = life.columns["fds"]
            if life.fd_limit and max(fds) > _ALMOST * life.fd_limit > 2 * fds[0]:
                why = f"they ran out: {max(fds):.0f} of the {life.fd_limit} that the process may have"
                # Connections would be closed by now; without a reading after the load nobody knows.
                left = 0.0 if life.deep is None else float(life.deep.get("fds", 0))
                outcome = Outcome.LEAK if left > _REMAINS * max(fds) else Outcome.INCONCLUSIVE
                return dataclasses.replace(growth, outcome=outcome, why=why)
    return growth


def _growth_of(resource: Resource, trend: Trend, factor: float) -> ResourceGrowth:
    return ResourceGrowth(
        resource=resource,
        outcome=trend.outcome,
        per_min=trend.rate.times(factor),
        gained=trend.gained,
        why=trend.why,
    )


def _remaining(growth: ResourceGrowth, parts: Sequence[Stretch]) -> ResourceGrowth:
    """A growth that went when the load was over, and the heap collected whole, was none to convict."""
    column = "live_bytes" if growth.resource is Resource.MEMORY else _COLUMNS[growth.resource]
    last = parts[-1] if parts else None
    if growth.outcome is not Outcome.LEAK or last is None or growth.gained <= 0:
        return growth
    deep = [life.deep for life in last.lives if life.deep is not None]
    if len(deep) < len(last.lives):
        return growth
    left = sum(float(reading.get(column, 0)) for reading in deep)
    given_back = float(last.levels[column][-1]) - left
    if given_back <= (1 - _REMAINS) * growth.gained:
        return growth
    why = f"{given_back / growth.gained:.0%} of what grew was given back when the load was over: no leak is proven"
    return dataclasses.replace(growth, outcome=Outcome.INCONCLUSIVE, why=why)


def _overall(resources: Sequence[ResourceGrowth], plan: Plan, basis: str) -> tuple[Outcome, str]:
    for wanted in (Outcome.LEAK, Outcome.INCONCLUSIVE):
        for growth in resources:
            if growth.outcome is wanted:
                return wanted, _sentence(growth, plan, basis)
    return Outcome.CLEAN, _sentence(resources[0], plan, basis)


def _sentence(growth: ResourceGrowth, plan: Plan, basis: str) -> str:
    """What grew, how fast, by which rule."""
    rate = growth.per_min
    if not np.isfinite(rate.high - rate.low):
        return growth.why
    if growth.resource is not Resource.MEMORY:
        return f"{growth.resource.value} grew by {format_rate(rate.value)} a minute ({growth.why})"
    figure = f"{format_rate(rate.value)} MB/min, between {format_rate(rate.low)} and {format_rate(rate.high)} (99 %)"
    rule = f"limit {format_rate(plan.max_mb_per_min)}"
    if growth.outcome is Outcome.CLEAN and rate.high > plan.max_mb_per_min:
        return f"{basis}: {growth.why}; {rule}"
    if growth.outcome is Outcome.CLEAN:
        return f"{basis} grew no faster than {format_rate(max(0.0, rate.high))} MB/min (99 %); {rule}"
    return f"{basis} grew {figure}; {rule}" + (f"; {growth.why}" if growth.outcome is Outcome.INCONCLUSIVE else "")


def _unseen(outside: Trend, memory: Trend) -> str:
    grew = format_rate(outside.rate.value * 60 / MB)
    live = format_bytes(max(0.0, memory.rate.value) * 60)
    return (
        f"RSS grew {grew} MB/min while the live heap grew {live}/min: fragmentation, or memory that neither Python's "
        "allocator nor the C heap has handed out (mmap, another allocator); a longer soak tells whether it ends"
    )


def _pauses(recorded: Recorded) -> Pauses | None:
    begin, end = (recorded.windows[0][0], recorded.end_s) if recorded.windows else (0.0, 0.0)
    under_load = [(life, inside(life, begin, end)) for life in recorded.serving()]
    every = np.concatenate([np.asarray(life.columns["pause_ms"])[rows] for life, rows in under_load] or [np.zeros(0)])
    if not len(every):
        return None
    served_s = sum(max(1.0, float(np.ptp(np.asarray(life.times_s)[rows]))) for life, rows in under_load if rows.any())
    return Pauses(
        count=len(every),
        median_ms=float(np.median(every)),
        longest_ms=float(every.max()),
        share=float(every.sum() / 1000 / served_s),
    )


def _curves(recorded: Recorded, parts: Sequence[Stretch]) -> list[Curve]:
    curves = []
    if parts:
        times = np.concatenate([part.times_s for part in parts])
        curves.append(_thinned(LIVE, times, np.concatenate([part.levels["live_bytes"] for part in parts])))
    if len(recorded.outside_times_s):
        times = np.asarray(recorded.outside_times_s)
        measured = times <= recorded.end_s
        curves.append(_thinned(OUTSIDE, times[measured], np.asarray(recorded.outside_rss)[measured]))
    return curves


def _thinned(name: str, times: npt.NDArray[Any], levels: npt.NDArray[Any]) -> Curve:
    rows = np.unique(np.linspace(0, len(times) - 1, min(len(times), _CURVE_POINTS)).round().astype(int))
    return Curve(
        name=name,
        times_s=tuple(round(float(t), 2) for t in times[rows]),
        levels=tuple(float(level) for level in levels[rows]),
    )


def glance(recorded: Recorded, plan: Plan) -> tuple[Outcome, Estimate]:
    """The verdict on memory alone, and MB/min, for the progress of a run that goes on."""
    trend, _, _ = _memory(recorded, stretches(recorded, ("live_bytes",)), plan.max_mb_per_min * MB / 60)
    return trend.outcome, trend.rate.times(60 / MB)
