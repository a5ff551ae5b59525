"""The diagnosis disturbs nothing: no code of the user's is called, nothing is kept, every state is given back."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import cast

import pytest

from pytest_memleak.hunt import hunt
from pytest_memleak.model import Outcome, Result
from pytest_memleak.probes.catalogue import find_probes
from pytest_memleak.settings import Settings
from pytest_memleak.workloads.steps import Calls

CALL_S = 0.0005

KEPT: list[object] = []


class Clock:
    """Seconds that pass by the call, so that a hunt makes the same rounds on every machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def hunted(call: Callable[[int], object]) -> Result:
    """Hunt without resting: nothing is at work beside the calls."""
    clock = Clock()
    steps = hunt("workload", Settings(max_time=10), probes=find_probes(), clock=clock)
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return cast(Result, stop.value)
            if isinstance(step, Calls):
                for number in range(step.first, step.first + step.count):
                    clock.now += CALL_S
                    call(number)
            else:
                clock.now += step.seconds
    finally:
        steps.close()


class Asked(AssertionError):
    """The user's own code was called."""


class Touchy:
    """Answers no question about itself."""

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "number", number)

    def __eq__(self, other: object) -> bool:
        raise Asked("__eq__")

    def __hash__(self) -> int:
        raise Asked("__hash__")

    def __repr__(self) -> str:
        raise Asked("__repr__")

    def __len__(self) -> int:
        raise Asked("__len__")

    def __bool__(self) -> bool:
        raise Asked("__bool__")

    def __getattribute__(self, name: str) -> object:
        raise Asked(name)


class TouchyList(list[object]):  # noqa: PLW1641
    """A container that answers no question about itself."""

    def __eq__(self, other: object) -> bool:
        raise Asked("__eq__")

    def __repr__(self) -> str:
        raise Asked("__repr__")

    def __len__(self) -> int:
        raise Asked("__len__")

    def __bool__(self) -> bool:
        raise Asked("__bool__")

    def __getattribute__(self, name: str) -> object:
        raise Asked(name)


class Unsized:
    """Does not tell its size."""

    def __sizeof__(self) -> int:
        raise Asked("__sizeof__")


class Plain:
    """Can be referred to weakly."""


def test_leaked_objects_that_answer_no_question_do_not_disturb_the_diagnosis() -> None:
    result = hunted(lambda number: KEPT.append(Touchy(number)))
    KEPT.clear()
    assert result.outcome is Outcome.LEAK, result.why
    (leak,) = result.leaks
    assert "Touchy" in leak.what
    assert leak.holder is not None
    assert leak.holder.name == f"{__name__}.KEPT"


def test_leaked_objects_that_do_not_tell_their_size_do_not_disturb_the_diagnosis() -> None:
    try:
        result = hunted(lambda number: KEPT.append(Unsized()))
    finally:
        KEPT.clear()
    assert result.outcome is Outcome.LEAK, result.why


def test_a_container_that_answers_no_question_is_measured_all_the_same() -> None:
    container = TouchyList()
    KEPT.append(container)
    result = hunted(lambda number: list.append(container, [number]))
    KEPT.clear()
    list.clear(container)
    assert result.outcome is Outcome.LEAK, result.why
    (leak,) = result.leaks
    assert leak.holder is not None
    assert leak.holder.kind == "TouchyList"
    assert leak.holder.entries_per_call == pytest.approx(1, abs=0.05)


def test_a_result_keeps_nothing_alive_that_leaked() -> None:
    references: list[weakref.ref[Plain]] = []

    def call(number: int) -> None:
        kept = Plain()
        KEPT.append(kept)
        if number % 50 == 0:
            references.append(weakref.ref(kept))

    result = hunted(call)
    KEPT.clear()
    gc.collect()
    assert result.outcome is Outcome.LEAK
    assert result.leaks
    assert len(references) > 20
    assert not any(reference() for reference in references)


State = tuple[bool, bool, bool, tuple[int, int, int]]


def state() -> State:
    """What a hunt borrows: the trace, the collector, its frozen heap."""
    return tracemalloc.is_tracing(), gc.isenabled(), gc.get_freeze_count() > 2_000, gc.get_threshold()


def leak(number: int) -> None:
    KEPT.append([number])


def fail(number: int) -> None:
    if number == 500:
        raise ZeroDivisionError


def interrupt(number: int) -> None:
    if number == 500:
        raise KeyboardInterrupt


def leak_and_fail_under_observation(number: int) -> None:
    KEPT.append([number])
    if tracemalloc.is_tracing():
        raise ZeroDivisionError


def stop_tracing(number: int) -> None:
    KEPT.append([number])
    tracemalloc.stop()


@pytest.mark.parametrize(
    "call, raised",
    [
        (leak, None),
        (fail, ZeroDivisionError),
        (interrupt, KeyboardInterrupt),
        (leak_and_fail_under_observation, ZeroDivisionError),
        (stop_tracing, None),
    ],
)
def test_every_state_is_given_back_as_it_was_found(
    call: Callable[[int], object], raised: type[BaseException] | None
) -> None:
    before = state()
    try:
        if raised is None:
            assert hunted(call).calls > 500
        else:
            with pytest.raises(raised):
                hunted(call)
        assert state() == before
    finally:
        KEPT.clear()


def test_a_collector_that_was_off_a_trace_that_ran_and_a_heap_that_was_frozen_stay_so() -> None:
    gc.disable()
    gc.freeze()
    tracemalloc.start(2)
    try:
        before = state()
        assert before[:3] == (True, False, True)
        result = hunted(leak)
        assert state() == before
        assert tracemalloc.get_traceback_limit() == 2
    finally:
        tracemalloc.stop()
        gc.unfreeze()
        gc.enable()
        KEPT.clear()
    assert result.outcome is Outcome.LEAK
