"""The eight leak patterns: what they look like and how they are fixed."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One way in which Python services leak."""

    name: str
    severity: Literal["HIGH", "MEDIUM"]
    looks_like: str
    fix: str


PATTERNS: Final[tuple[Pattern, ...]] = (
    Pattern(
        name="unbounded_cache",
        severity="HIGH",
        looks_like="cache[key] = value, and nothing is ever removed",
        fix="bound it: cachetools.TTLCache(maxsize=…, ttl=…), functools.lru_cache(maxsize=…)",
    ),
    Pattern(
        name="global_accumulation",
        severity="HIGH",
        looks_like="a module-level list or dict that handlers append to",
        fix="bound it with collections.deque(maxlen=…), or empty it periodically",
    ),
    Pattern(
        name="circular_reference",
        severity="MEDIUM",
        looks_like="self.ref = self; parent.child = child and child.parent = parent; a callback that holds its owner",
        fix="make the way back weak: weakref.ref(), weakref.WeakMethod()",
    ),
    Pattern(
        name="database_connection",
        severity="HIGH",
        looks_like="conn = db.connect() or Session() outside a context manager and never closed",
        fix="close it on every path: async with db.connect() as conn: …",
    ),
    Pattern(
        name="event_listener",
        severity="HIGH",
        looks_like=".subscribe() or .add_listener() and no unsubscribe",
        fix="keep the handle and unsubscribe in the clean-up",
    ),
    Pattern(
        name="thread_pool",
        severity="MEDIUM",
        looks_like="ThreadPoolExecutor() and no shutdown",
        fix="with ThreadPoolExecutor() as pool: …, or one pool for the process with .shutdown() at its end",
    ),
    Pattern(
        name="async_task",
        severity="MEDIUM",
        looks_like="asyncio.create_task() whose task nobody keeps or awaits",
        fix="keep the handle, await or cancel it; asyncio.TaskGroup",
    ),
    Pattern(
        name="file_handle",
        severity="MEDIUM",
        looks_like="open() outside a context manager and never closed",
        fix="close it on every path: with open(…) as f: …",
    ),
)

BY_NAME: Final = {pattern.name: pattern for pattern in PATTERNS}
