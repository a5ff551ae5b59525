"""Where growth was allocated: differences of tracemalloc snapshots, by the user's own line."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import sys
import tracemalloc
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from pytest_memleak.diagnosis import source
from pytest_memleak.model import Growth, Site
from pytest_memleak.verdict.exact import PYMALLOC_MAX_BYTES
from pytest_memleak.verdict.trend import UNSEEN_UNITS

# An allocation deep in pydantic or SQLAlchemy is about ten frames below the handler that asked for it.
# Deeper stacks cost more per allocation: through the test client 1.9 ms untraced, 5.4 at 1 frame, 14 at 12.
FRAMES: Final = 12

_NONE: Final = (0, 0, 0)
_SITES: Final = 12
"""A report shows the first few; the rest is kept for joining sites with holders."""

Places = tuple[source.Place, "source.Place | None"]
_POINTER_BYTES: Final = 8

Stack = tuple[source.Place, ...]
"""Frames as (path, line), innermost first."""

Survey = Mapping[Stack, tuple[int, int, int]]
"""Live allocations by their stack: bytes, count, and the bytes in pieces that pymalloc hands to malloc."""


# Three to four times as many calls in the same time; enough for a line that keeps something itself.
_FEW_FRAMES: Final = 2


@contextlib.contextmanager
def tracing() -> Iterator[Callable[[], None]]:
    """Trace allocations; a trace that the user runs already is used as it is and left running.

    Lends a function that begins anew with shallow stacks, for a growth so slow that it takes many calls.
    """
    found = tracemalloc.is_tracing()

    def shallow() -> None:
        if not found and tracemalloc.is_tracing():
            tracemalloc.stop()
            tracemalloc.start(_FEW_FRAMES)

    if not found:
        tracemalloc.start(FRAMES)
    try:
        yield shallow
    finally:
        # The measured code may have stopped tracing itself.
        if not found and tracemalloc.is_tracing():
            tracemalloc.stop()


def survey() -> Survey:
    """The live allocations by stack, without those of this package; empty when nothing is traced."""
    if not tracemalloc.is_tracing():
        return {}
    sums: dict[Stack, tuple[int, int, int]] = {}
    for size, stack in _traces(tracemalloc.take_snapshot()):
        bytes_, count, large = sums.get(stack, _NONE)
        sums[stack] = bytes_ + size, count + 1, large + (size if size > PYMALLOC_MAX_BYTES else 0)
    return sums


def _traces(snapshot: tracemalloc.Snapshot) -> Iterator[tuple[int, Stack]]:
    """Size and stack of each live allocation.

    The snapshot's own tuples (domain, size, stack, depth): wrapping each in a Trace and a Traceback takes
    seconds for a hundred thousand.
    """
    for _, size, stack, _ in snapshot.traces._traces:  # type: ignore[attr-defined]
        yield size, stack


_IS_3_11: Final = sys.version_info[:2] == (3, 11)
_MANAGED_DICT: Final = 1 << 4
# The collector's header and the two words of a managed `__dict__` stand before such an object.
_HEADER_BYTES: Final = 4 * 8


def stack_of(obj: object) -> Stack | None:
    """Where an object was allocated, None when it is older than the trace or out of a free list.

    Python 3.11 looks for instances that have a `__dict__` at the wrong address (mended in 3.12): there the
    interpreter is asked for the right one.
    """
    trace = tracemalloc.get_object_traceback(obj)
    if trace is not None:
        return tuple((frame.filename, frame.lineno) for frame in reversed(trace))
    if _IS_3_11 and type(obj).__flags__ & _MANAGED_DICT:
        lookup = ctypes.pythonapi._PyTraceMalloc_GetTraceback
        lookup.restype, lookup.argtypes = ctypes.py_object, (ctypes.c_uint, ctypes.c_size_t)
        found: Stack | None = lookup(0, id(obj) - _HEADER_BYTES)
        return found
    return None


Surveys = tuple[Survey, Survey, Survey]
"""Taken at the start, in the middle and at the end of the observed calls."""


def growing_sites(surveys: Surveys, calls: int) -> list[Site]:
    """The sites that grew in both halves of `calls` calls, largest first.

    Growth of one site is summed over all stacks that share the user's line and the innermost line.
    """
    sums: dict[tuple[source.Place, source.Place | None], tuple[int, int]] = {}
    for stack, places in _growing_stacks(surveys):
        first, last = surveys[0].get(stack, _NONE), surveys[2][stack]
        gained, more = sums.get(places, (0, 0))
        sums[places] = (gained + last[0] - first[0], more + max(0, last[1] - first[1]))
    largest = sorted(sums.items(), key=lambda item: -item[1][0])[:_SITES]
    return [
        dataclasses.replace(as_site(places), bytes_per_call=size / calls, count_per_call=count / calls)
        for places, (size, count) in largest
    ]


def weigh(surveys: Surveys, calls: int, explained: Collection[Places] = ()) -> Growth:
    """Bytes per call that stay, from what grew in both halves of `calls` calls; the halves give the interval.

    Where `explained` places (what the growing containers keep) account for half of it or more, they alone
    count: the rest is what comes and goes, such as the cursors that a SQLite connection drops by the 200.

    A table that is resized grows at one moment by what thousands of calls have filled: it is no growth per
    call that a short look could measure, and the caller adds its share per entry.
    """
    every, known = [0, 0], [0, 0]
    for stack, places in _growing_stacks(surveys):
        sizes = [survey.get(stack, _NONE)[0] for survey in surveys]
        for halves in (every, known) if places in explained else (every,):
            halves[0] += sizes[1] - sizes[0]
            halves[1] += sizes[2] - sizes[1]
    counted = known if sum(known) * 2 >= sum(every) else every
    rates = [half / (calls / 2) for half in counted]
    # One pointer is the least that a call can keep unseen.
    doubt = UNSEEN_UNITS * _POINTER_BYTES / calls
    return Growth(per_call=sum(rates) / 2, low=min(rates) - doubt, high=max(rates) + doubt)


def _growing_stacks(surveys: Surveys) -> Iterator[tuple[Stack, Places]]:
    """The stacks that grew in both halves, with their places; none of those of the measurement itself."""
    first, middle, last = surveys
    for stack, (size, _, _) in last.items():
        # What grew only once is a table that was resized, a cache that warmed up.
        if first.get(stack, _NONE)[0] < middle.get(stack, _NONE)[0] < size:
            places = source.nearest(stack)
            if places is not None:
                yield stack, places


def large_bytes_gained(first: Survey, last: Survey) -> int:
    """Growth in pieces above 512 B, which the C heap's statistics show too."""
    return sum(large - first.get(stack, _NONE)[2] for stack, (_, _, large) in last.items())


def as_site(places: Places) -> Site:
    """Places as frames with source lines, as text that refers to nothing."""
    own, inner = places
    return Site(
        frame=source.frame(own),
        inner=None if inner is None else source.frame(inner),
        place=own,
        inner_place=inner,
    )
