"""The figures of all calls of one tracked function, kept in one array."""

from __future__ import annotations

import dataclasses
import logging
import threading
from array import array
from typing import Final

from pytest_memleak.monitor import alone
from pytest_memleak.monitor.live import LIVE
from pytest_memleak.units import format_bytes

logger = logging.getLogger("pytest_memleak.monitor")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LastCall:
    """The latest call that ended."""

    bytes: int | None
    """What its steps added to the live memory; None where something else ran during one of them."""

    returned_bytes: int
    """An estimate of what of it is the result, which nobody but the caller holds."""

    shared_with: tuple[str, ...]
    """What ran meanwhile; empty when the figure is exact."""

    steps: int
    raised: bool

    @property
    def shared(self) -> bool:
        """Whether anything else ran between the call's beginning and its end."""
        return bool(self.shared_with)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFigures:
    """The figures of one function at one moment; see `FunctionMemory` for what each means."""

    name: str
    calls: int
    exact_calls: int
    shared_calls: int
    raised_calls: int
    mean_bytes: float | None
    returned_mean_bytes: float | None
    largest_bytes: int | None
    shared_mean_bytes: float | None
    last: LastCall | None


# The figures in one array: a call that ends leaves no object behind in the memory that others measure.
_CALLS, _EXACT, _RAISED, _EXACT_SUM, _LARGEST, _APART, _APART_SUM = range(7)
_LAST_SUM, _LAST_WHY, _LAST_STEPS, _LAST_RAISED, _RETURNED_SUM, _LAST_RETURNED = range(7, 13)
_EMPTY: Final = bytes(13 * 8)


class FunctionMemory:
    """The figures of one tracked function: `handler.memory`. All sizes in bytes; safe to read from any thread.

    A result or an exception that is on its way to the caller is alive when the call is read, and counts;
    `returned_mean_bytes` is what of it nobody else holds.
    """

    __slots__ = ("__weakref__", "_figures", "_turn", "collect", "log_above_bytes", "name")

    def __init__(self, name: str, *, log_above_bytes: int | None = None, collect: bool = False) -> None:
        self.name: Final = name
        self.log_above_bytes: Final = log_above_bytes
        self.collect: Final = collect
        self._turn = threading.RLock()
        self._figures = array("q", _EMPTY)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        mean, apart = self.mean_bytes, self.shared_mean_bytes
        words = [f"{self.name}: {self.calls} calls, {self.exact_calls} exact"]
        if mean is not None:
            words.append(f"{format_bytes(mean)} a call")
            returned = self.returned_mean_bytes
            if returned:
                words[-1] += f" (the result: {format_bytes(returned)})"
        if self.shared_calls:
            shared = f"{self.shared_calls} shared"
            words.append(shared if apart is None else f"{shared} ({format_bytes(apart)} a call in their own steps)")
        return ", ".join(words)

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return self._figures[_CALLS]

    @property
    def exact_calls(self) -> int:
        """Calls beside which nothing else ran."""
        return self._figures[_EXACT]

    @property
    def shared_calls(self) -> int:
        """Calls beside which something else ran: a tracked call, a request, a thread, a collection."""
        with self._turn:
            return self._figures[_CALLS] - self._figures[_EXACT]

    @property
    def raised_calls(self) -> int:
        """Calls that ended with an exception; they are exact or shared too."""
        return self._figures[_RAISED]

    @property
    def mean_bytes(self) -> float | None:
        """Live memory that an exact call added, on average; None before the first."""
        return self._mean(_EXACT_SUM, _EXACT)

    @property
    def returned_mean_bytes(self) -> float | None:
        """How much of `mean_bytes` is the result that the caller alone was left with: an estimate, and no leak."""
        return self._mean(_RETURNED_SUM, _EXACT)

    @property
    def largest_bytes(self) -> int | None:
        """What the exact call that added most added."""
        with self._turn:
            return self._figures[_LARGEST] if self._figures[_EXACT] else None

    @property
    def shared_mean_bytes(self) -> float | None:
        """An estimate from the shared calls whose own steps nothing disturbed: others ran only between them.

        None where there was no such call. What another thread ran beside is in no figure.
        """
        return self._mean(_APART_SUM, _APART)

    @property
    def last(self) -> LastCall | None:
        """The latest call that ended; None before the first."""
        with self._turn:
            figures = list(self._figures)
        if not figures[_CALLS]:
            return None
        why = figures[_LAST_WHY]
        return LastCall(
            bytes=None if why & alone.SPOILS else figures[_LAST_SUM],
            returned_bytes=figures[_LAST_RETURNED],
            shared_with=_words(why),
            steps=figures[_LAST_STEPS],
            raised=bool(figures[_LAST_RAISED]),
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the sizes lack or estimate on this platform, in words; empty where they are exact."""
        return LIVE.caveats

    def figures(self) -> FunctionFigures:
        """All of them at one moment."""
        with self._turn:
            return FunctionFigures(
                **{field.name: getattr(self, field.name) for field in dataclasses.fields(FunctionFigures)}
            )

    def reset(self) -> None:
        """Start counting anew."""
        with self._turn:
            self._figures[:] = array("q", _EMPTY)

    def add(self, grown: int, why: int, steps: int, returned: int | None) -> None:
        """A call has ended: bytes, what it shared its time with (bits of `alone`), the result's bytes if it has one."""
        with self._turn:
            figures = self._figures
            figures[_CALLS] += 1
            figures[_RAISED] += returned is None
            if not why:
                figures[_LARGEST] = max(figures[_LARGEST], grown) if figures[_EXACT] else grown
                figures[_EXACT] += 1
                figures[_EXACT_SUM] += grown
                figures[_RETURNED_SUM] += returned or 0
            elif not why & alone.SPOILS:
                figures[_APART] += 1
                figures[_APART_SUM] += grown
            figures[_LAST_SUM], figures[_LAST_WHY] = grown, why
            figures[_LAST_STEPS], figures[_LAST_RAISED], figures[_LAST_RETURNED] = (
                steps,
                returned is None,
                returned or 0,
            )
        self._log(grown, why)

    def _mean(self, amount: int, count: int) -> float | None:
        with self._turn:
            return self._figures[amount] / self._figures[count] if self._figures[count] else None

    def _log(self, grown: int, why: int) -> None:
        limit = self.log_above_bytes
        loud = limit is not None and grown >= limit and not why & alone.SPOILS
        if loud or logger.isEnabledFor(logging.DEBUG):
            size = "not measured" if why & alone.SPOILS else f"{format_bytes(grown)} of live memory"
            how = f"shared with {', '.join(_words(why))}" if why else "exact"
            logger.log(logging.WARNING if loud else logging.DEBUG, "%s: %s in this call (%s)", self.name, size, how)


def _words(why: int) -> tuple[str, ...]:
    return tuple(word for bit, word in alone.WORDS.items() if why & bit)
