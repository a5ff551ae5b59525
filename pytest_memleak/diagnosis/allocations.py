"""Where growth was allocated: differences of tracemalloc snapshots, by the user's own line."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Final

from pytest_memleak.diagnosis import source
from pytest_memleak.model import Site
from pytest_memleak.verdict.exact import PYMALLOC_MAX_BYTES

# An allocation deep in pydantic or SQLAlchemy is about ten frames below the handler that asked for it.
# Deeper stacks cost more per allocation (850 requests/s at one frame, 180 at ten).
FRAMES: Final = 16

_NONE: Final = (0, 0, 0)
_SITES: Final = 12
"""A report shows the first few; the rest is kept for joining sites with holders."""

Survey = Mapping[tracemalloc.Traceback, tuple[int, int, int]]
"""Live allocations by their stack: bytes, count, and the bytes in pieces that pymalloc hands to malloc."""


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Trace allocations; a trace that the user runs already is used as it is and left running."""
    found = tracemalloc.is_tracing()
    if not found:
        tracemalloc.start(FRAMES)
    try:
        yield
    finally:
        # The measured code may have stopped tracing itself.
        if not found and tracemalloc.is_tracing():
            tracemalloc.stop()


def survey() -> Survey:
    """The live allocations by stack, without those of this package; empty when nothing is traced."""
    if not tracemalloc.is_tracing():
        return {}
    sums: dict[tracemalloc.Traceback, tuple[int, int, int]] = {}
    for trace in tracemalloc.take_snapshot().traces:
        stack, size = trace.traceback, trace.size
        bytes_, count, large = sums.get(stack, (0, 0, 0))
        sums[stack] = bytes_ + size, count + 1, large + (size if size > PYMALLOC_MAX_BYTES else 0)
    return sums


def growing_sites(surveys: tuple[Survey, Survey, Survey], calls: int) -> list[Site]:
    """The sites that grew between the first and the second survey and again to the third, largest first.

    `calls` is the number of calls between the first and the third. Growth of one site is summed over all
    stacks that share the user's line and the innermost line.
    """
    first, middle, last = surveys
    sums: dict[tuple[source.Place, source.Place | None], tuple[int, int]] = {}
    for stack, (size, count, _) in last.items():
        early_size, early_count, _ = first.get(stack, _NONE)
        middle_size = middle.get(stack, _NONE)[0]
        # What grew only once is a table that was resized, a cache that warmed up.
        if not early_size < middle_size < size:
            continue
        places = source.nearest((entry.filename, entry.lineno) for entry in reversed(stack))
        if places is not None:
            gained, more = sums.get(places, (0, 0))
            sums[places] = (gained + size - early_size, more + max(0, count - early_count))
    largest = sorted(sums.items(), key=lambda item: -item[1][0])[:_SITES]
    return [
        Site(
            frame=source.frame(own),
            inner=None if inner is None else source.frame(inner),
            bytes_per_call=size / calls,
            count_per_call=count / calls,
        )
        for (own, inner), (size, count) in largest
    ]


def large_bytes_gained(first: Survey, last: Survey) -> int:
    """Growth in pieces above 512 B, which the C heap's statistics show too."""
    return sum(large - first.get(stack, _NONE)[2] for stack, (_, _, large) in last.items())


def traced_bytes() -> int:
    """Bytes that are live and were allocated since tracing began."""
    return tracemalloc.get_traced_memory()[0]


def site_of(obj: object) -> Site | None:
    """Where an object was allocated, None when it is older than the trace."""
    stack = tracemalloc.get_object_traceback(obj)
    if stack is None:
        return None
    places = source.nearest((entry.filename, entry.lineno) for entry in reversed(stack))
    if places is None:
        return None
    own, inner = places
    return Site(frame=source.frame(own), inner=None if inner is None else source.frame(inner))
