"""The whole of `memleak fleet`: ask, judge, conclude."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Final

from pytest_memleak.fleet import judging, questions
from pytest_memleak.fleet.plan import FleetError, Plan, default_step
from pytest_memleak.fleet.refusals import TooMuch, Unreachable
from pytest_memleak.fleet.series import Labels, Place, Points, labels_of, places, without_doubles, without_name
from pytest_memleak.fleet.store import Store
from pytest_memleak.model_fleet import FleetResult
from pytest_memleak.reports.fleet_text import span_words
from pytest_memleak.units import format_count

_SHOWN_TURNS: Final = 3

Show = Callable[[str], None]


def silent(words: str) -> None:
    """Show nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """The times at which the store is asked."""

    start: float
    end: float
    step: float


def judge_fleet(plan: Plan, show: Show = silent, clock: Callable[[], float] = time.time) -> FleetResult:
    """Ask the store and judge what it says. `show` is told how far it is. Raises FleetError."""
    with Store(plan) as store:
        show(f"asking {store.name}")
        query, grid, found = _memory(store, plan, clock(), show)
        found, doubles = without_doubles(found)
        starts, missing = _starts(store, query, grid)
        beside = _containers_beside(store, plan, query, len(found))
        places_found = places(found, starts, grid.start)
        total = len(places_found)
        made = judging.deployments(
            places_found, plan, lambda done: show(f"judged {format_count(done)} of {format_count(total)} replicas")
        )
        if any(dict(replica.labels).get("pod") for one in made for replica in one.leaking):
            made = judging.with_limits(made, _limits(store))
        warnings = list(store.warnings)
    # Prometheus warns of a query's style, too; a store that lacks a part of its data does not begin so.
    partial = [words for words in warnings if not words.startswith("PromQL")]
    outcome, why = judging.outcome_of(made, partial)
    return FleetResult(
        store=store.name,
        query=query,
        outcome=outcome,
        why=why,
        limit_mb_per_min=plan.limit(plan.span_s),
        span_s=plan.span_s,
        step_s=grid.step,
        series=len(found),
        deployments=made,
        notes=(
            *(f"the store warns, and a part of the fleet may be missing: {words}" for words in partial),
            *(f"the store warns: {words}" for words in warnings if words not in partial),
            *missing,
            *beside,
            *_notes(places_found, found, doubles),
        ),
    )


def _memory(store: Store, plan: Plan, now: float, show: Show) -> tuple[str, _Grid, dict[Labels, Points]]:
    """The query that had an answer, when it was asked for, and its series."""
    candidates = (plan.query,) if plan.query else questions.DEFAULTS
    for query in candidates:
        step = plan.step_s or default_step(plan.span_s, _scraped_s(store, query))
        step = min(step, plan.span_s)
        # On a grid that the next run has too: stores cache by it.
        end = math.floor(now / step) * step
        grid = _Grid(start=end - math.floor(plan.span_s / step) * step, end=end, step=step)
        found = _series(store, query, grid, show)
        if any(points.times for points in found.values()):
            return query, grid, found
        if found:
            raise FleetError(f"{store.name}: no value of {query} is a number: it takes an expression of bytes")
    raise FleetError(_nothing(store, candidates, plan.span_s))


def _series(store: Store, query: str, grid: _Grid, show: Show = silent) -> dict[Labels, Points]:
    found: dict[Labels, Points] = {}
    for part in store.over(query, grid.start, grid.end, grid.step):
        for metric, points in part:
            found.setdefault(labels_of(metric), Points()).add(points)
        show(f"read {format_count(len(found))} series of {query}")
    return without_name(found)


def _scraped_s(store: Store, query: str) -> float:
    """How far apart the readings of most series are; 0 where that is not known."""
    asked = questions.scrapes(query)
    try:
        answer = store.instant(asked) if asked else []
    except Unreachable:
        raise
    except (FleetError, TooMuch):
        return 0.0  # what is wrong with the query is said when it is asked itself
    count = answer[0][1] if answer else math.nan
    return questions.SCRAPES_S / count if count >= 1 else 0.0


def _starts(store: Store, query: str, grid: _Grid) -> tuple[dict[Labels, Points], list[str]]:
    """When the processes began, and what has to be said where that is not known."""
    asked = questions.start_times(query)
    if not asked:
        return {}, []
    try:
        return _series(store, asked, grid), []
    except FleetError as error:
        return {}, [f"restarts are told by falls of more than half, since the start times cannot be had: {error}"]


def _containers_beside(store: Store, plan: Plan, query: str, series: int) -> list[str]:
    """That there are containers of which nobody asked: an app without a metrics library tells nothing of itself."""
    if plan.query or query != questions.PROCESSES:
        return []
    try:
        answer = store.instant(f"count({questions.CONTAINERS})")
    except (FleetError, TooMuch):
        return []
    count = round(answer[0][1]) if answer and math.isfinite(answer[0][1]) else 0
    if count <= series:
        return []
    return [f"the store knows {format_count(count)} containers, too: --selector '{questions.CONTAINERS}' judges those"]


def _limits(store: Store) -> dict[tuple[str, str, str], float]:
    """The limits by namespace, pod and container; none where the store has none."""
    found: dict[tuple[str, str, str], float] = {}
    for query in questions.LIMITS:
        try:
            answer = store.instant(query)
        except (FleetError, TooMuch):
            continue  # a forecast is a courtesy
        for metric, value in answer:
            place = metric.get("namespace", ""), metric.get("pod", ""), metric.get("container", "")
            if 0 < value < questions.NO_LIMIT:
                found.setdefault(place, value)
    return found


def _nothing(store: Store, asked: tuple[str, ...], span_s: float) -> str:
    """Why an empty answer may be empty."""
    words = f"{store.name} has no series of {' nor of '.join(asked)} in the last {span_words(span_s)}"
    try:
        others = questions.alike(store.names())
    except (FleetError, TooMuch):
        others = []
    if others:
        return f"{words}: name one by --selector; it has {', '.join(others)}"
    return f"{words}: name one by --selector, or look further back by --range"


def _notes(found: list[Place], series: dict[Labels, Points], doubles: int) -> list[str]:
    notes = []
    if doubles:
        notes.append(f"{format_count(doubles)} series are of the same processes, scraped twice: left out")
    turns = [place for place in found if place.takes_turns]
    if turns:
        names = [place.labels.get("pod") or place.labels.get("instance", "one") for place in turns[:_SHOWN_TURNS]]
        more = f" and {len(turns) - _SHOWN_TURNS} more" if len(turns) > _SHOWN_TURNS else ""
        notes.append(
            f"several processes answer by turns at {', '.join(names)}{more}: each is judged by its own readings"
        )
    dropped = sum(points.dropped for points in series.values())
    if dropped:
        notes.append(f"{format_count(dropped)} points were no number: left out")
    return notes
