"""The past readings, in columns that are made once: the monitor's own memory does not grow while they fill."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Final

from pytest_memleak.model_monitor import Reading

_FIELDS: Final = ("t", "rss_bytes", "vms_bytes", "live_bytes", "in_flight", "full_collections")


class Ring:
    """The last `size` readings with the requests that each endpoint had finished by then, oldest first.

    One thread adds; others take copies (`readings`, `counts`), each made without a pause of the interpreter that a
    reading could slip into unseen: a reading is counted last.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._columns = {name: array.array("d", bytes(8 * size)) for name in _FIELDS}
        self._counts: dict[str, array.array[float]] = {}
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.size)

    def add(self, reading: Reading, finished: Mapping[str, int]) -> None:
        """Take in a reading, and the requests finished until then by endpoint (cumulative)."""
        at = self._added % self.size
        for name, column in self._columns.items():
            column[at] = getattr(reading, name)
        for endpoint, count in finished.items():
            counts = self._counts.get(endpoint)
            if counts is None:
                counts = self._counts[endpoint] = array.array("d", bytes(8 * self.size))
            counts[at] = count
        self._added += 1

    def last(self) -> Reading | None:
        """The newest."""
        if not self._added:
            return None
        at = (self._added - 1) % self.size
        t, *numbers = (column[at] for column in self._columns.values())
        return Reading(t=t, **dict(zip(_FIELDS[1:], map(int, numbers), strict=True)))

    def readings(self, since: float = 0.0) -> list[Reading]:
        """Those made at or after `since`."""
        columns = [self._in_order(column) for column in self._columns.values()]
        found = []
        for row in zip(*columns, strict=True):
            if row[0] >= since:
                numbers = dict(zip(_FIELDS[1:], map(int, row[1:]), strict=True))
                found.append(Reading(t=row[0], **numbers))
        return found

    def counts(self, since: float = 0.0) -> dict[str, array.array[float]]:
        """The cumulative finished requests of each endpoint, one for each of `readings(since)`."""
        kept = sum(t >= since for t in self._in_order(self._columns["t"]))
        return {
            name: self._in_order(column)[len(self) - kept :] for name, column in list(self._counts.items())
        }  # fmt: skip

    def clear(self) -> None:
        """Forget everything: a forked child begins anew."""
        self._counts.clear()
        self._added = 0

    def _in_order(self, column: array.array[float]) -> array.array[float]:
        at = self._added % self.size
        return column[at:] + column[:at] if self._added >= self.size else column[:at]
