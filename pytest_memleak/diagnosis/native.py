"""Growth of the C heap: which line of C or Python allocated it, by memray where it is installed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pytest_memleak.diagnosis import source
from pytest_memleak.diagnosis.allocations import as_site
from pytest_memleak.model import Site
from pytest_memleak.probes.catalogue import Probes
from pytest_memleak.probes.rest import at_rest
from pytest_memleak.workloads.steps import CallNumbers, Steps

# The allocator's and the interpreter's own files tell nothing of who asked.
_INTERPRETER_FILES: Final = ("libc.", "libc-", "ld-", "libpython", "python3")
_STACK: Final = 30
_SITES: Final = 3


def is_memray_usable() -> bool:
    """Whether memray is installed; it is imported only when the C heap leaks."""
    return importlib.util.find_spec("memray") is not None


def installed_hint() -> tuple[str, ...]:
    """What to do for a line when memray is missing."""
    return ("install memray to have the line named: python -m pip install 'pytest-memleak[native]'",)


def native_sites(
    numbers: CallNumbers, probes: Probes, calls: int, least: int, most: int = _SITES
) -> Steps[tuple[list[Site], list[str]]]:
    """Repeat the workload under memray; the `most` largest sites of `least` pieces or more, and C stacks as text."""
    with contextlib.ExitStack() as stack:
        try:
            import memray

            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memleak-"))) / "trace.bin"
            tracker = stack.enter_context(contextlib.ExitStack())
            tracker.enter_context(memray.Tracker(path, native_traces=True))
        except (ImportError, OSError, RuntimeError) as error:
            # Broken, no room for its file, or tracking for somebody else already: the leak is one all the same.
            return [], [f"memray could not trace ({error}): the line is not known"]
        yield numbers.take(calls)
        yield from at_rest(probes)
        tracker.close()
        try:
            reader = stack.enter_context(memray.FileReader(path))
            found = _read(reader, calls, least, most)
        except (OSError, RuntimeError) as error:
            # A full disk cuts the trace short.
            found = [], [f"memray's trace could not be read ({error}): the line is not known"]
        return found


def _read(reader: Any, calls: int, least: int, most: int) -> tuple[list[Site], list[str]]:
    sums: dict[tuple[Any, str], list[int]] = collections.defaultdict(lambda: [0, 0])
    for record in reader.get_leaked_allocation_records(merge_threads=True):
        # What one call keeps once is no leak; what every call keeps is.
        if record.n_allocations < least:
            continue
        python = [(file, line) for _, file, line in record.stack_trace(max_stacks=_STACK)]
        places = source.nearest(python)
        native = _native_words(record.native_stack_trace(max_stacks=_STACK))
        if places is not None:
            sums[places, native][0] += record.size
            sums[places, native][1] += record.n_allocations
    largest = sorted(sums.items(), key=lambda item: -item[1][0])[:most]
    sites = [_site(places, size / calls, count / calls) for (places, _), (size, count) in largest]
    return sites, list(dict.fromkeys(f"in C: {native}" for (_, native), _ in largest if native))


def _site(places: Any, bytes_per_call: float, count_per_call: float) -> Site:
    return dataclasses.replace(as_site(places), bytes_per_call=bytes_per_call, count_per_call=count_per_call)


def _native_words(stack: Sequence[tuple[str, str, int]]) -> str:
    """The innermost C frames outside the interpreter and the allocator: `function (file:line)`."""
    words = []
    for function, file, line in stack:
        name = Path(file).name
        if not function or function == "<unknown>" or name.startswith(_INTERPRETER_FILES) or "memray" in file:
            continue
        words.append(f"{function} ({name}:{line})" if line else f"{function} ({name})")
        if len(words) == _SITES:
            break
    return " < ".join(words)
