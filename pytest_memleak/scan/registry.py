"""The rules of the scanner, by their codes."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from pytest_memleak.scan.rules import (
    async_task,
    circular_reference,
    database_connection,
    event_listener,
    file_handle,
    global_accumulation,
    thread_pool,
    unbounded_cache,
)

RULES: Final[tuple[ModuleType, ...]] = (
    unbounded_cache,
    global_accumulation,
    circular_reference,
    database_connection,
    event_listener,
    thread_pool,
    async_task,
    file_handle,
)
"""Each has `CODE`, `PATTERN`, `NOT_REPORTED` and `find(module)`."""

CODES: Final[tuple[str, ...]] = tuple(str(rule.CODE) for rule in RULES)
