"""From the places of a fleet to its result: each judged by the trend judge, then the deployments they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pytest_memleak.fleet import alike, naming
from pytest_memleak.fleet.plan import Plan
from pytest_memleak.fleet.series import Place
from pytest_memleak.model import Outcome
from pytest_memleak.model_fleet import Deployment, Replica, Spread
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Forecast, Severity
from pytest_memleak.units import MB, counted, format_count
from pytest_memleak.verdict.watched import judge_tracks

# Beyond a year, "at this rate" is said of a service that will have been deployed anew long before.
_MOST_FORECAST_S: Final = 366 * 24 * 3600.0

_SEVERITIES: Final = (Severity.NONE, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
_OUTCOMES: Final = (Outcome.CLEAN, Outcome.INCONCLUSIVE, Outcome.LEAK)


def deployments(found: Sequence[Place], plan: Plan, judged: Callable[[int], None]) -> tuple[Deployment, ...]:
    """All of them, the worst first. `judged` is told how many replicas are done."""
    names = naming.deployment_names([place.labels for place in found], plan.group_by)
    members: dict[str, list[Place]] = {}
    for name, place in zip(names, found, strict=True):
        members.setdefault(name, []).append(place)
    made, done = [], 0
    for name, placed in members.items():
        replicas = []
        for who, place in zip(naming.replica_names([place.labels for place in placed]), placed, strict=True):
            replicas.append(_replica(who, place, plan))
            done += 1
            judged(done)
        made.append(_deployment(name, replicas))
    return tuple(sorted(made, key=_badness))


def _replica(name: str, place: Place, plan: Plan) -> Replica:
    # A limit that fits the longest life: what six hours may bring is no measure for one.
    thresholds = plan.thresholds(max(life.length_s for life in place.lives))
    return Replica(
        name=name,
        labels=tuple(sorted(place.labels.items())),
        verdict=judge_tracks(name, place.lives, thresholds),
        limit_mb_per_min=thresholds.medium,
        level=_last_level(place),
        restarts=place.restarts,
    )


def _last_level(place: Place) -> float:
    """The last reading; of workers that take turns, what they hold together."""
    if place.takes_turns:
        return sum(life.levels[-1] for life in place.lives)
    return place.lives[-1].levels[-1]


def _deployment(name: str, replicas: Sequence[Replica]) -> Deployment:
    judged = [replica for replica in replicas if replica.is_judged]
    leaking = [replica for replica in judged if replica.verdict.outcome is Outcome.LEAK]
    spread, rate = _spread(judged, leaking)
    outcomes = {replica.verdict.outcome for replica in judged} or {Outcome.INCONCLUSIVE}
    return Deployment(
        name=name,
        outcome=max(outcomes, key=_OUTCOMES.index),
        severity=max((replica.verdict.severity for replica in leaking), key=_SEVERITIES.index, default=Severity.NONE),
        spread=spread,
        rate=rate,
        replicas=tuple(
            sorted(replicas, key=lambda one: (-_OUTCOMES.index(one.verdict.outcome), -one.verdict.rate.value, one.name))
        ),
    )


def _spread(judged: Sequence[Replica], leaking: Sequence[Replica]) -> tuple[Spread, Estimate]:
    rates = [replica.verdict.rate for replica in leaking or judged]
    fastest = max(rates, key=lambda rate: rate.value, default=Estimate(value=0.0, low=-math.inf, high=math.inf))
    if not leaking:
        return Spread.NONE, fastest
    if len(leaking) < len(judged):
        return Spread.SOME, fastest
    return alike.spread_of(rates) if len(rates) > 1 else (Spread.ONE, fastest)


def _badness(deployment: Deployment) -> tuple[int, int, float, float, str]:
    """Leaks first, by severity and by what all replicas lose together; then the doubtful, then the rest."""
    lost = sum(replica.verdict.rate.value for replica in deployment.leaking)
    doubt = any(replica.is_doubtful for replica in deployment.replicas)
    return (
        -_OUTCOMES.index(deployment.outcome),
        -_SEVERITIES.index(deployment.severity),
        -float(doubt),
        -(lost or deployment.rate.value),
        deployment.name,
    )


def outcome_of(found: Sequence[Deployment], partial: Sequence[str] = ()) -> tuple[Outcome, str]:
    """The fleet's verdict and its sentence. `partial` is what the store says is missing from its answer."""
    replicas = [replica for deployment in found for replica in deployment.replicas]
    judged = [replica for replica in replicas if replica.is_judged]
    leaking = [replica for replica in judged if replica.verdict.outcome is Outcome.LEAK]
    if leaking:
        where = sum(deployment.outcome is Outcome.LEAK for deployment in found)
        verb = "leaks" if len(leaking) == 1 else "leak"
        words = f"{format_count(len(leaking))} of {counted(len(judged), 'replica')} {verb}"
        return Outcome.LEAK, f"{words}, in {format_count(where)} of {counted(len(found), 'deployment')}"
    if not judged:
        return Outcome.INCONCLUSIVE, f"none of {counted(len(replicas), 'replica')} had enough readings to be judged"
    doubtful = [replica for replica in judged if replica.is_doubtful]
    if doubtful:
        words = f"{format_count(len(doubtful))} of {counted(len(judged), 'replica')} grew by more than the limit"
        return Outcome.INCONCLUSIVE, f"{words}, and it is not sure that it goes on"
    if partial:
        return Outcome.INCONCLUSIVE, "no leak in what the store answered, but its answer is not whole"
    return Outcome.CLEAN, f"none of {counted(len(judged), 'replica')} leaks"


def with_limits(found: Sequence[Deployment], limits: Mapping[tuple[str, str, str], float]) -> tuple[Deployment, ...]:
    """With the time at which those that leak meet their limit, where it is known."""
    return tuple(
        dataclasses.replace(deployment, replicas=tuple(_with_limit(replica, limits) for replica in deployment.replicas))
        if deployment.leaking
        else deployment
        for deployment in found
    )


def _with_limit(replica: Replica, limits: Mapping[tuple[str, str, str], float]) -> Replica:
    labels = dict(replica.labels)
    where = labels.get("namespace", ""), labels.get("pod", "")
    limit = limits.get((*where, labels.get("container", "")))
    if limit is None and not labels.get("container"):
        # The series does not say which container it is of: it is sure where the pod has only one.
        of_pod = [size for key, size in limits.items() if key[:2] == where and where[1]]
        limit = of_pod[0] if len(of_pod) == 1 else None
    rate = replica.verdict.rate.value
    if limit is None or replica.verdict.outcome is not Outcome.LEAK or rate <= 0:
        return replica
    seconds = max(0.0, limit - replica.level) / (rate * MB / 60)
    if seconds > _MOST_FORECAST_S:
        return replica
    forecast = Forecast(limit_bytes=limit, whose="the container's limit", seconds=seconds)
    return dataclasses.replace(replica, forecast=forecast)
