"""The judge of what is watched from outside: few readings, restarts, gaps, workers, and what it says of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_support import LENIENT

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from pytest_memleak.model import Outcome  # noqa: E402  # after the libraries that it does without
from pytest_memleak.model_watch import Severity, Thresholds, Track, TrackVerdict  # noqa: E402  # the same
from pytest_memleak.verdict.watched import judge_track, judge_tracks  # noqa: E402  # needs scipy

CLEAN, LEAK, INCONCLUSIVE = Outcome.CLEAN, Outcome.LEAK, Outcome.INCONCLUSIVE
THRESHOLDS = Thresholds()


def track(
    mb: Callable[[float], float], *, minutes: float = 5.0, readings: int = 31, noise: float = 0.0, seed: int = 0,
    begin_s: float = 0.0, name: str = "1234 uvicorn",
) -> Track:  # fmt: skip
    """A level in MB by the minute, from a base of 100 MB, with white noise of so many MB."""
    times = np.linspace(0, 60 * minutes, readings)
    jitter = np.random.default_rng(seed).normal(0, noise, readings)
    levels = [1e6 * (100 + mb(t / 60) + off) for t, off in zip(times, jitter, strict=True)]
    return Track(name=name, times_s=tuple((begin_s + times).tolist()), levels=tuple(levels))


def leak(rate: float) -> Callable[[float], float]:
    return lambda minute: rate * minute


def flat(_minute: float) -> float:
    return 0.0


def said(mb: Callable[[float], float], noise: float = 0.1, **drawn: float) -> TrackVerdict:
    return judge_track(track(mb, noise=noise, **drawn), THRESHOLDS)  # type: ignore[arg-type]


# Thirty-one readings, as `memleak detect` takes them.


@pytest.mark.parametrize(
    "mb, outcome",
    [
        (flat, CLEAN),
        (leak(0.5), CLEAN),
        (leak(-3), CLEAN),
        (leak(2), LEAK),
        (leak(50), LEAK),
        (lambda m: 8 * (1 - math.exp(-m / 0.3)), CLEAN),
        (lambda m: 8 * (1 - math.exp(-m / 0.2)) + 4 * m, LEAK),
        (lambda m: 20 if m > 1.5 else 0, CLEAN),
        (lambda m: 20 if m > 4.2 else 0, INCONCLUSIVE),
        (lambda m: -20 if m > 2.5 else 0, CLEAN),
        (lambda m: 60 * (1 - math.exp(-m / 4)), INCONCLUSIVE),
        (lambda m: 60 * (1 - math.exp(-m / 10)), INCONCLUSIVE),
        (lambda m: 6 * max(0, m - 1.5), LEAK),
        (lambda m: 20 * max(0, m - 4.3), INCONCLUSIVE),
        (lambda m: 10 * min(m, 1.5), CLEAN),
        (lambda m: 10 * min(m, 4), INCONCLUSIVE),
        (lambda m: 3 * ((m / 0.5) % 1), CLEAN),
        (lambda m: 12 * ((m / 3 + 0.2) % 1), INCONCLUSIVE),
        (lambda m: 4 * math.floor(m / 1.2), INCONCLUSIVE),
        (lambda m: math.floor(12 * m / 5) * 2, LEAK),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_shapes_in_thirty_one_readings(mb: Callable[[float], float], outcome: Outcome, seed: int) -> None:
    found = said(mb, seed=seed)
    assert found.outcome is outcome, found


def test_five_mb_a_minute_over_noise_of_two_mb_is_found_in_three_minutes() -> None:
    found = [said(leak(5), 2.0, minutes=175 / 60, readings=36, seed=seed).outcome for seed in range(40)]
    assert found.count(LEAK) >= 36  # 97 of 100, by a longer count
    assert CLEAN not in found


@pytest.mark.parametrize("noise", [0.05, 0.5, 2])
def test_a_level_that_only_scatters_is_no_leak(noise: float) -> None:
    found = [said(flat, noise, seed=seed).outcome for seed in range(20)]
    assert LEAK not in found
    assert noise > 0.5 or found.count(CLEAN) >= 19


@pytest.mark.parametrize("seed", range(20))
def test_a_random_walk_is_no_leak(seed: int) -> None:
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 1, 31))
    assert said(lambda m: float(walk[round(6 * m)]), 0.0).outcome is not LEAK


@pytest.mark.parametrize(
    "rate, severity", [(0.5, Severity.NONE), (2, Severity.MEDIUM), (8, Severity.HIGH), (30, Severity.CRITICAL)]
)
def test_the_severity_is_that_of_the_rate(rate: float, severity: Severity) -> None:
    found = said(leak(rate))
    assert found.severity is severity
    assert found.rate.low <= rate <= found.rate.high


def test_no_severity_without_a_conviction() -> None:
    assert said(lambda m: 60 * (1 - math.exp(-m / 4))).severity is Severity.NONE


@pytest.mark.parametrize("limit, outcome", [(1.8, LEAK), (2.2, CLEAN)])
def test_the_limit_is_the_medium_threshold(limit: float, outcome: Outcome) -> None:
    assert judge_track(track(leak(2), noise=0.05), dataclasses.replace(THRESHOLDS, medium=limit)).outcome is outcome


# What it says.


def test_the_sentences() -> None:
    assert (
        said(leak(30), 0.0).why
        == "grew 30 MB/min, between 30 and 30 (99 %), and did not slow down in 5 min 0 s; limit 1"
    )
    assert said(leak(2), 0.0).why.startswith("a slow leak: grew 2 MB/min")
    assert said(flat, 0.0).why == "grew no faster than 0 MB/min (99 %); limit 1"
    few = said(leak(2), readings=10).why
    assert few == "10 readings are too few to tell growth from chance: it takes 16, better 30"
    fading = said(lambda m: 60 * (1 - math.exp(-m / 4))).why
    assert fading.startswith("changed by ")
    assert "; limit 1; the growth fades towards the end, as that of a cache that fills: watch for 15 min" in fading


def test_what_the_scatter_hides_is_told_with_the_time_that_it_takes() -> None:
    found = said(leak(1.5), 1.5)
    assert found.outcome is INCONCLUSIVE
    assert found.why.split("watch for ")[1] > ""


# Broken readings.


@pytest.mark.parametrize("count", range(16))
def test_too_few_readings(count: int) -> None:
    found = judge_track(Track(name="a", times_s=tuple(map(float, range(count))), levels=(1e8,) * count), THRESHOLDS)
    assert (found.outcome, found.readings) == (INCONCLUSIVE, count)


@pytest.mark.parametrize("rate, outcome", [(0, CLEAN), (4, LEAK)])
def test_irregular_and_missing_readings(rate: float, outcome: Outcome) -> None:
    whole = track(leak(rate), readings=60, noise=0.2)
    rng = np.random.default_rng(1)
    kept = np.sort(rng.choice(60, 36, replace=False))
    times = tuple(whole.times_s[at] + rng.uniform(0, 4) for at in kept)
    levels = [whole.levels[at] for at in kept]
    levels[5], levels[20] = math.nan, math.inf
    found = judge_track(Track(name="a", times_s=times, levels=tuple(levels)), THRESHOLDS)
    assert (found.outcome, found.readings) == (outcome, 34)


def test_readings_out_of_order_and_twice() -> None:
    whole = track(leak(4), noise=0.1)
    order = np.random.default_rng(0).permutation(31)
    times = tuple(whole.times_s[at] for at in order) + whole.times_s[:5]
    levels = tuple(whole.levels[at] for at in order) + whole.levels[:5]
    found = judge_track(Track(name="a", times_s=times, levels=levels), THRESHOLDS)
    assert (found.outcome, found.readings) == (LEAK, 31)


def test_a_track_of_unequal_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times for 1 levels of a"):
        judge_track(Track(name="a", times_s=(0.0, 1.0), levels=(1.0,)), THRESHOLDS)


# Several lives.


def lives(mb: Callable[[float], float], count: int = 3) -> list[Track]:
    return [track(mb, noise=0.1, seed=number, begin_s=330.0 * number) for number in range(count)]


@pytest.mark.parametrize(
    "mb, outcome",
    [
        (flat, CLEAN),
        (lambda m: 30 * (1 - math.exp(-m / 0.15)), CLEAN),
        (lambda m: 30 * (1 - math.exp(-m / 0.15)) + 4 * m, LEAK),
        (leak(4), LEAK),
        (lambda m: 40 * (1 - math.exp(-m / 3)), INCONCLUSIVE),
    ],
)
def test_restarts(mb: Callable[[float], float], outcome: Outcome) -> None:
    found = judge_tracks("shop", lives(mb), THRESHOLDS)
    assert found.outcome is outcome, found
    assert (found.name, found.lives, found.readings, found.seconds) == ("shop", 3, 93, 960)


@pytest.mark.parametrize("rate, outcome", [(0, CLEAN), (6, LEAK)])
def test_one_worker_of_four_and_one_that_is_replaced(rate: float, outcome: Outcome) -> None:
    tree = [track(leak(rate), noise=0.1, seed=1), *(track(flat, noise=0.1, seed=seed) for seed in (2, 3))]
    tree += [track(flat, minutes=2.4, readings=15, noise=0.1, seed=4)]
    tree += [track(lambda m: min(m, 0.2) * 200, minutes=2.4, readings=15, noise=0.1, seed=5, begin_s=156)]
    found = judge_tracks("tree", tree, THRESHOLDS)
    assert found.outcome is outcome, found
    assert found.rate.value == pytest.approx(rate, abs=0.6)


def test_workers_that_leak_and_are_recycled_leak() -> None:
    tree = [track(leak(5), minutes=4, readings=25, noise=0.1, begin_s=b + 240 * n) for n in range(3) for b in (0, 40)]
    assert judge_tracks("tree", tree, THRESHOLDS).outcome is LEAK


def test_lives_too_short_to_judge() -> None:
    found = judge_tracks("jobs", [track(leak(50), readings=8, begin_s=400 * n) for n in range(9)], THRESHOLDS)
    assert found.outcome is INCONCLUSIVE
    assert found.why == "no life lasted longer than 8 readings: it takes 12 of one to tell growth from chance"


def test_no_life_at_all() -> None:
    found = judge_tracks("gone", [], THRESHOLDS)
    assert (found.outcome, found.lives, found.seconds) == (INCONCLUSIVE, 0, 0)


# Properties.


@settings(LENIENT, max_examples=80)
@given(
    readings=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e12)), max_size=60),
    cut=st.integers(0, 60),
)
def test_anything_can_be_judged(readings: list[tuple[float, float]], cut: int) -> None:
    parts = [part for part in (readings[:cut], readings[cut:]) if part]
    tracks = [Track(name="a", times_s=tuple(t for t, _ in part), levels=tuple(v for _, v in part)) for part in parts]
    found = judge_tracks("a", tracks, THRESHOLDS)
    assert found.rate.low <= found.rate.value <= found.rate.high
    assert found.why
    if found.outcome is LEAK:
        assert found.rate.low > THRESHOLDS.medium


@settings(LENIENT, max_examples=30)
@given(amount=st.integers(0, 10**10), rate=st.floats(0, 20), seed=st.integers(0, 99))
def test_adding_a_constant_changes_nothing(amount: int, rate: float, seed: int) -> None:
    one = track(leak(rate), noise=0.5, seed=seed)
    other = dataclasses.replace(one, levels=tuple(level + amount for level in one.levels))
    assert judge_track(one, THRESHOLDS).outcome is judge_track(other, THRESHOLDS).outcome
