"""Passes that would mean nothing: endpoints never reached, too few calls; and the canary that tests the test."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import pytest
from _pytest.outcomes import Failed

from pytest_memleak.model import Outcome, Result
from pytest_memleak.settings import Settings
from pytest_memleak.slugs import see
from pytest_memleak.units import format_count
from pytest_memleak.verdict.exact import PYMALLOC_MAX_BYTES
from pytest_memleak.verdict.trend import UNSEEN_UNITS
from pytest_memleak.workloads.asgi import StatusCounts

# A leak of exactly the budget is within it: the canary has to stand clear of the interval's lower end.
_CANARY_EXCESS: Final = 1.5
_CANARY_PIECE_BYTES: Final = 512
# The header of a `bytes` and its place in a list.
_BYTES_OVERHEAD: Final = sys.getsizeof(b"") + 8
# A bare marker promises to see one object in 50 calls; the canary is twice that.
_BARE_CANARY_CALLS: Final = 25

_MIN_PROOF_CALLS: Final = 30


class Refused(Failed):
    """A measurement that would prove nothing; no call of the test has failed."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, pytrace=False)


def refuse_unreached(item: pytest.Item, counts: StatusCounts, name: str) -> None:
    """Fail a test whose requests never reached an endpoint, unless it names that status itself."""
    seen = counts.never_reached()
    if seen and not all(_names_status(item, status) for status in seen):
        raise Refused(_unreached(name, seen))


def _unreached(name: str, seen: dict[int, int]) -> str:
    """The sentence for requests that the framework answered before any endpoint's code ran."""
    answers = ", ".join(f"{format_count(count)} x {status} {_phrase(status)}" for status, count in seen.items())
    return see(
        "never-reached",
        f"{name} never reached the endpoint: all answers were {answers}, so a pass would prove nothing; "
        "check the method, the path and the body, or assert the status if it is meant",
    )


def refuse_too_few_calls(result: Result, settings: Settings) -> None:
    """Fail a test whose calls could not prove its budget even if nothing had grown."""
    if result.outcome is Outcome.LEAK:
        return
    needed = max(_MIN_PROOF_CALLS, settings.min_calls)
    limit = result.budget.bytes_per_request
    if limit:
        needed = max(needed, int(UNSEEN_UNITS * PYMALLOC_MAX_BYTES / limit))
    if result.calls < needed:
        raise Refused(
            see(
                "too-few-calls",
                f"{result.name} made {format_count(result.calls)} calls in {result.seconds:.0f} s, but its budget "
                f"needs {format_count(needed)} to be proven: raise max_time (now {settings.max_time:g} s) or make a "
                "call faster",
            )
        )


def with_canary(function: Callable[..., Any], settings: Settings) -> Callable[..., Any]:
    """The function with an artificial leak of the size of its budget beside it."""
    kept: list[object] = []
    calls = 0
    owed = 0.0
    budget = settings.budget()

    def leak() -> None:
        nonlocal calls, owed
        calls += 1
        if budget.bytes_per_request:
            # In pieces: one of 64 B takes 105 with its header and its place in the list.
            owed += budget.bytes_per_request * _CANARY_EXCESS
            if owed >= _CANARY_PIECE_BYTES:
                kept.append(bytes(int(owed) - _BYTES_OVERHEAD))
                owed = 0.0
        elif budget.objects_per_request:
            wanted = round(calls * budget.objects_per_request * _CANARY_EXCESS)
            kept.extend([len(kept)] for _ in range(wanted - len(kept)))
        elif calls % _BARE_CANARY_CALLS == 0:
            kept.append([calls])

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def leaking_async(*args: Any, **kwargs: Any) -> None:
            await function(*args, **kwargs)
            leak()

        return leaking_async

    @functools.wraps(function)
    def leaking(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        leak()

    return leaking


def _names_status(item: pytest.Item, status: int) -> bool:
    """Whether a test's code or parameters mention a status: then it is what the test is about."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and status in [value for value in callspec.params.values() if isinstance(value, int)]:
        return True
    function = getattr(item, "obj", None)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code is not None and _mentions(code, status)


def _mentions(code: types.CodeType, status: int) -> bool:
    names = {HTTPStatus(status).name} if status in HTTPStatus._value2member_map_ else set()
    if any(name in names or str(status) in name for name in code.co_names):
        return True
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and _mentions(constant, status):
            return True
        # `in (404, 410)` is one constant.
        if (type(constant) is int and constant == status) or (
            isinstance(constant, (tuple, frozenset)) and status in constant
        ):
            return True
    return False


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
