"""A hunt from its first call to its result: what convicts, what clears, and what the result tells."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hunt_support import Clock, hunted

from pytest_memleak.hunt import hunt
from pytest_memleak.hunt.surroundings import NoSurroundings
from pytest_memleak.model import Outcome, Resource
from pytest_memleak.probes.catalogue import find_probes
from pytest_memleak.settings import Settings
from pytest_memleak.workloads.steps import drive

KEPT: list[object] = []


class Noting(NoSurroundings):
    """Surroundings that note what they are told and have a note of their own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.emptied = 0

    def empty_stores(self) -> None:
        self.emptied += 1

    def notes(self) -> Sequence[str]:
        return ["the log was not kept"]

    def progress(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    KEPT.clear()


def leak(number: int) -> None:
    KEPT.append([number])


def clean(number: int) -> None:
    assert [number]


def test_a_clean_workload_is_cleared_and_says_what_it_excludes() -> None:
    result = hunted(clean)
    assert result.outcome is Outcome.CLEAN, result.why
    assert result.sensitivity.startswith("no leak above ")
    assert not result.leaks
    assert result.calls >= 30


def test_a_leaking_workload_is_convicted_with_its_rate() -> None:
    result = hunted(leak)
    assert result.outcome is Outcome.LEAK, result.why
    assert result.objects_per_request == pytest.approx(1, abs=0.1)
    assert result.bytes_per_request > 50
    assert not result.sensitivity


def test_a_leak_in_one_call_of_many_is_convicted() -> None:
    result = hunted(lambda number: KEPT.append([number]) if number % 100 == 0 else None, Settings(max_time=120))
    assert result.outcome is Outcome.LEAK, result.why
    assert result.objects_per_request == pytest.approx(0.01, abs=0.005)


def test_growth_of_a_background_thread_is_not_convicted() -> None:
    end = threading.Event()

    def grow() -> None:
        while not end.is_set():
            KEPT.append([0])
            time.sleep(0.0005)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        # Calls and background share one clock here.
        steps = hunt("workload", Settings(max_time=3), probes=find_probes())
        result = drive(steps, lambda number: time.sleep(0.0005))
    finally:
        end.set()
        thread.join()
    assert result.outcome is not Outcome.LEAK, result.why
    assert len(KEPT) > 200


@pytest.mark.parametrize("step_at", [50, 400, 900])
def test_a_step_that_happens_once_is_no_leak(step_at: int) -> None:
    def call(number: int) -> None:
        if number == step_at:
            KEPT.extend([part] for part in range(5_000))

    result = hunted(call)
    assert result.outcome is Outcome.CLEAN, result.why


@pytest.mark.parametrize("failing_at", [1, 2, 700])
def test_what_a_call_raises_passes_through(failing_at: int) -> None:
    def call(number: int) -> None:
        if number == failing_at:
            raise LookupError(number)

    with pytest.raises(LookupError, match=str(failing_at)):
        hunted(call)


@pytest.mark.parametrize(
    "settings, outcome",
    [
        (Settings(max_time=5, max_bytes_per_request=2_000), Outcome.CLEAN),
        (Settings(max_time=5, max_bytes_per_request=20), Outcome.LEAK),
        (Settings(max_time=5, max_objects_per_request=2), Outcome.CLEAN),
        (Settings(max_time=5, max_objects_per_request=0.5), Outcome.LEAK),
        (Settings(max_time=5, max_mb_per_min=100), Outcome.CLEAN),
        (Settings(max_time=5, max_mb_per_min=0.01), Outcome.LEAK),
    ],
    ids=["within bytes", "beyond bytes", "within objects", "beyond objects", "within MB/min", "beyond MB/min"],
)
def test_growth_is_held_against_its_budget(settings: Settings, outcome: Outcome) -> None:
    result = hunted(leak, settings)
    assert result.outcome is outcome, result.why
    assert result.budget == settings.budget()


def test_no_fewer_calls_are_made_than_were_asked_for() -> None:
    assert hunted(clean, Settings(max_time=5, min_calls=3_000)).calls >= 3_000


def test_the_fields_of_a_result_fit_together() -> None:
    made: list[int] = []
    numbers = iter(range(1, 10**9))

    def call(number: int) -> None:
        assert number == next(numbers)
        made[:] = [number]

    result = hunted(call)
    assert result.name == "workload"
    assert result.unit == "call"
    assert made == [result.calls]
    assert result.table[0].calls == 0
    assert result.table[0].objects == 0
    assert [row.calls for row in result.table] == sorted({row.calls for row in result.table})
    assert result.table[-1].calls <= result.calls
    assert {judgement.resource for judgement in result.judgements} >= {Resource.MEMORY, Resource.OBJECTS}
    assert all(judgement.why or judgement.outcome is Outcome.CLEAN for judgement in result.judgements)
    assert result.rounds >= 6
    assert json.loads(json.dumps(result.to_dict()))["outcome"] == "CLEAN"


def test_probes_that_are_missing_are_told_in_the_result() -> None:
    probes = find_probes(tasks_missing="no loop runs here")
    narrowed = dataclasses.replace(probes, read={name: probes.read[name] for name in ("objects", "blocks")})
    clock = Clock()
    result = drive(hunt("workload", Settings(max_time=5), probes=narrowed, clock=clock), clock.timed(clean))
    assert "tasks: no loop runs here" in result.missing_probes
    assert result.rss is None
    assert all(row.native_bytes is None for row in result.table)
    assert {judgement.resource for judgement in result.judgements} == {Resource.MEMORY, Resource.OBJECTS}


def test_surroundings_are_asked_for_notes_and_told_of_progress() -> None:
    surroundings = Noting()
    result = hunted(leak, surroundings=surroundings)
    assert "the log was not kept" in result.notes
    assert surroundings.emptied > result.rounds
    assert "workload: growth seen, confirming" in surroundings.lines
    assert "workload: leak confirmed, looking for its line and holder" in surroundings.lines


def test_calls_that_are_too_slow_for_a_verdict_end_with_the_time() -> None:
    clock = Clock()

    def call(number: int) -> None:
        clock.now += 5

    result = drive(hunt("workload", Settings(max_time=30), probes=find_probes(), clock=clock), call)
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.calls < 30
    assert clock.now < 30


def test_the_c_heap_moving_on_its_own_excuses_no_leak_of_objects() -> None:
    probes = find_probes()
    looks = 0

    def native() -> int:
        nonlocal looks
        looks += 1
        # An allocation of somebody else at each look, also while nothing is called.
        return 16 * looks

    probes.read["native"] = native
    clock = Clock()
    result = drive(hunt("workload", Settings(max_time=10), probes=probes, clock=clock), clock.timed(leak))
    assert result.outcome is Outcome.LEAK, result.why
