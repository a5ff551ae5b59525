"""Readings in a preallocated table, so that the record of a measurement never shows up in it."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Final

from pytest_memleak.probes.catalogue import SIGNALS, Probes

# Rounds last 70 ms or more and grow while doubt lasts: 30 s hold about 60. Beyond the capacity every
# second row is dropped, which keeps the baseline and the whole span.
_CAPACITY: Final = 512


class Ledger:
    """A table of readings at rest: `calls` is cumulative; one column of integers per signal.

    Missing signals stay zero and must not be read: ask `probes.missing` first.
    """

    __slots__ = ("_probes", "calls", "columns", "length")

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self.length = 0
        self.calls = array.array("q", bytes(8 * _CAPACITY))
        self.columns = {signal: array.array("q", bytes(8 * _CAPACITY)) for signal in SIGNALS}

    def read(self, calls: int) -> None:
        """Append one row: every probe read now, after `calls` calls in all."""
        if self.length == _CAPACITY:
            self._thin()
        row = self.length
        for signal, probe in self._probes.read.items():
            self.columns[signal][row] = probe()
        self.calls[row] = calls
        self.length = row + 1

    def clear(self) -> None:
        """Forget all rows; the memory stays allocated."""
        self.length = 0

    def column(self, signal: str) -> Sequence[int]:
        """A copy of one signal's readings."""
        return self.columns[signal][: self.length]

    def calls_made(self) -> Sequence[int]:
        """A copy of the calls made when each row was read."""
        return self.calls[: self.length]

    def latest(self, signal: str) -> int:
        """The last reading of a signal."""
        return self.columns[signal][self.length - 1]

    def _thin(self) -> None:
        for column in (self.calls, *self.columns.values()):
            for row in range(_CAPACITY // 2):
                column[row] = column[2 * row]
        self.length = _CAPACITY // 2
