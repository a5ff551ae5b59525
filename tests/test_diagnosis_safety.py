"""The diagnosis disturbs nothing: no code of the user's is called, nothing is kept, every state is given back."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable

import pytest
from hunt_support import hunted_at_once

from pytest_memleak.model import Outcome

KEPT: list[object] = []


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


class TouchyList(Touchy, list[object]):  # type: ignore[misc]  # a list has no hash
    """A container that answers no question about itself."""

    def __init__(self) -> None:
        list.__init__(self)


class Unsized:
    """Does not tell its size."""

    def __sizeof__(self) -> int:
        raise Asked("__sizeof__")


class Plain:
    """Can be referred to weakly."""


def test_leaked_objects_that_answer_no_question_do_not_disturb_the_diagnosis() -> None:
    result = hunted_at_once(lambda number: KEPT.append(Touchy(number)))
    KEPT.clear()
    assert result.outcome is Outcome.LEAK, result.why
    (leak,) = result.leaks
    assert "Touchy" in leak.what
    assert leak.holder is not None
    assert leak.holder.name == f"{__name__}.KEPT"


def test_leaked_objects_that_do_not_tell_their_size_do_not_disturb_the_diagnosis() -> None:
    try:
        result = hunted_at_once(lambda number: KEPT.append(Unsized()))
    finally:
        KEPT.clear()
    assert result.outcome is Outcome.LEAK, result.why


def test_a_container_that_answers_no_question_is_measured_all_the_same() -> None:
    container = TouchyList()
    KEPT.append(container)
    result = hunted_at_once(lambda number: list.append(container, [number]))
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

    result = hunted_at_once(call)
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
            assert hunted_at_once(call).calls > 500
        else:
            with pytest.raises(raised):
                hunted_at_once(call)
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
        result = hunted_at_once(leak)
        assert state() == before
        assert tracemalloc.get_traceback_limit() == 2
    finally:
        tracemalloc.stop()
        gc.unfreeze()
        gc.enable()
        KEPT.clear()
    assert result.outcome is Outcome.LEAK


class Unhashable(type):
    """A metaclass whose classes cannot be hashed."""

    def __eq__(cls, other: object) -> bool:
        raise Asked("__eq__ of the metaclass")

    __hash__ = None  # type: ignore[assignment]


def test_classes_that_cannot_be_hashed_are_diagnosed_too() -> None:
    kind = Unhashable("Odd", (), {})
    result = hunted_at_once(lambda number: KEPT.append(kind()))
    assert result.outcome is Outcome.LEAK, result.why
    assert result.leaks[0].holder is not None
