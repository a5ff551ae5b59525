"""How a command that takes long shows how far it is: one line that moves, or on a dumb terminal a line a minute."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

from pytest_memleak.units import format_bytes, format_count, format_rate

if TYPE_CHECKING:
    from pytest_memleak.soak.recorder import Progress

_A_MINUTE_S: Final = 60.0
_PHASES: Final = {
    "starting": "the server starts",
    "starting the load": "the load starts",
    "rest": "at rest",
    "diagnosis": "looking for the lines",
}


class LiveLine:
    """Shows one line on stderr, so that stdout is the report's; it moves on a terminal, else it comes once a minute."""

    def __init__(self, first: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._stream = stream or sys.stderr
        self._clock = clock
        self._next_line = 0.0
        self._phase = ""
        self._status: Any = None

    def __enter__(self) -> LiveLine:
        from rich.console import Console

        console = Console(file=self._stream)
        if console.is_terminal and not console.is_dumb_terminal:
            self._status = console.status(self._first)
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, words: str, phase: str = "") -> None:
        """Show it, if it is time: on a dumb terminal once a minute, and when the phase is another."""
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(words, no_wrap=True, overflow="ellipsis"))
            return
        now = self._clock()
        if now >= self._next_line or phase != self._phase:
            self._next_line = now + _A_MINUTE_S
            self._phase = phase
            # Who read it may have gone (`2>&1 | head`): the work goes on.
            with contextlib.suppress(OSError, ValueError):
                print(words, file=self._stream, flush=True)


def line(progress: Progress) -> str:
    """One line: time, load, memory, verdict, time left."""
    if progress.phase in ("starting", "starting the load"):
        return _PHASES[progress.phase]
    words = [f"{clock_words(progress.elapsed_s)} of {clock_words(progress.wanted_s)}"]
    words.append(f"{progress.requests_per_s:.0f} requests/s")
    if progress.failures:
        words.append(f"{format_count(progress.failures)} failed")
    if progress.rss_bytes is not None:
        words.append(f"RSS {format_bytes(progress.rss_bytes)}")
    if progress.mb_per_min is not None:
        words.append(f"{format_rate(progress.mb_per_min)} MB/min, so far {progress.outcome.value}")
    if progress.phase in _PHASES:
        words.append(_PHASES[progress.phase])
    else:
        words.append(f"{clock_words(max(0.0, progress.wanted_s - progress.elapsed_s))} left")
    return " · ".join(words)


def clock_words(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
