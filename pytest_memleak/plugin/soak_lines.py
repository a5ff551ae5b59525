"""A soak in a line: how far it is, what it grew, and its row at the end of the run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_memleak.reports.text import shortened
from pytest_memleak.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from pytest_memleak.soak.recorder import Progress

_COLUMNS: Final = ("load", "MB/min", "between (99 %)", "limit", "verdict")
_WIDTHS: Final = (12, 8, 16, 6, 12)


def progress_line(progress: Progress) -> str:
    """What a person who waits wants to know first: time, verdict so far; then load and memory."""
    if progress.phase.startswith("starting"):
        return f"soak: {progress.phase}"
    words = [f"soak {_clock(progress.elapsed_s)} of {_clock(progress.wanted_s)}"]
    if progress.phase != "load":
        words.append(progress.phase)
    if progress.mb_per_min is not None:
        words.append(f"{format_rate(progress.mb_per_min)} MB/min, so far {progress.outcome.value}")
    words.append(f"{progress.requests_per_s:.0f} requests/s")
    if progress.failures:
        words.append(f"{progress.failures} failed")
    if progress.rss_bytes is not None:
        words.append(f"RSS {format_bytes(progress.rss_bytes)}")
    return " · ".join(words)


def growth_words(soak: Mapping[str, Any]) -> str:
    """`1.2 MB/min [1.1, 1.3]`, for JUnit XML."""
    value, between = _growth(soak)
    return f"{value} MB/min [{between.replace(' to ', ', ')}]" if between != "-" else "not known"


def rows(soaks: Sequence[Mapping[str, Any]], *, width: int, verbose: bool) -> Iterator[tuple[str, str]]:
    """Lines with the outcome they show (empty for the heading); names are cut in the middle to fit `width`."""
    room = max(16, width - sum(_WIDTHS) - len(_WIDTHS) - 1)
    room = min(room, max(4, *(len(_name(soak, verbose=verbose)) for soak in soaks)))
    yield _line("test", _COLUMNS, room), ""
    for soak in soaks:
        value, between = _growth(soak)
        load, limit = format_seconds(soak["seconds"]), format_rate(soak["limit_mb_per_min"])
        verdict = "failed" if soak["failure"] and soak["outcome"] != "LEAK" else soak["outcome"]
        name = shortened(_name(soak, verbose=verbose), room)
        yield _line(name, (load, value, between, limit, verdict), room), soak["outcome"]


def footnotes(soaks: Sequence[Mapping[str, Any]], *, width: int, fails: bool) -> Iterator[str]:
    """What the table cannot say, wrapped: what is inconclusive and why, and where each run is kept."""
    for soak in soaks:
        if soak["outcome"] == "INCONCLUSIVE" and not soak["failure"]:
            end = "" if fails else " (--memleak-inconclusive=fail makes this a failure)"
            words = f"INCONCLUSIVE {soak['test']}: {soak['why']}{end}"
            yield from textwrap.wrap(
                words, width - 1, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        yield f"{soak['test']}: kept in {soak['folder']}"


def _growth(soak: Mapping[str, Any]) -> tuple[str, str]:
    growth = soak["growth"]
    # A bound that is not known is null in the plain values.
    if growth["low"] is None or growth["high"] is None:
        return "-", "-"
    return format_rate(growth["value"]), f"{format_rate(growth['low'])} to {format_rate(growth['high'])}"


def _name(soak: Mapping[str, Any], *, verbose: bool) -> str:
    return str(soak["nodeid"] if verbose else soak["test"])


def _line(name: str, cells: Sequence[str], room: int) -> str:
    return f"{name:<{room}} " + " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
