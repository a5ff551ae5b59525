"""A garbage collection that was asked for, and what it gave back."""

from __future__ import annotations

import gc
from typing import Any, Final

from pytest_memleak.monitor import walking
from pytest_memleak.monitor.found import known
from pytest_memleak.monitor.state import Monitor

# A collection holds the interpreter from its beginning to its end.
_LONGEST_MS: Final = 50.0

# A full collection of objects that refer to others takes 0.05 to 0.2 µs for each.
_MS_PER_MILLION: Final = 200.0


def collect(monitor: Monitor, generation: int, *, force: bool) -> dict[str, Any]:
    """Collect; a full collection that would stall the program for long is declined unless `force`."""
    before = monitor.look()
    declined = None
    if generation == 2 and not force:
        expected_ms = walking.estimated_objects(monitor.walk, monitor.walk_blocks) / 1e6 * _MS_PER_MILLION
        if expected_ms > _LONGEST_MS:
            generation = 1
            declined = (
                f"a full collection would stall this process for up to {expected_ms:.0f} ms: only the young"
                " generations were collected; ask with ?force=true"
            )
    uncollectable = len(gc.garbage)
    collected = gc.collect(generation)
    after = monitor.look()
    return {
        "generation": generation,
        "collected": collected,
        "uncollectable": len(gc.garbage) - uncollectable,
        "live_bytes_before": known(before.live_bytes),
        "live_bytes_after": known(after.live_bytes),
        "rss_bytes_before": before.rss_bytes,
        "rss_bytes_after": after.rss_bytes,
        "declined": declined,
    }
