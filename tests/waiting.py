"""Waiting for what a machine does in its own time: the one place with a patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

_Found = TypeVar("_Found")

PATIENCE_S: Final = 180.0
"""Longer than anything takes on a slow machine: who waits for it is wrong, not early."""


def until(true: Callable[[], _Found], what: str) -> _Found:
    """Wait for something that comes to be true, and give what it then is."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)
    return found
