"""The table of readings: rows as they were read, in memory that was taken before the first of them."""

from __future__ import annotations

import itertools

from pytest_memleak.probes.catalogue import SIGNALS, Probes
from pytest_memleak.probes.ledger import Ledger

CAPACITY = 512


def counting(**starts: int) -> Probes:
    """Probes that rise by one with each reading."""
    return Probes(read={signal: itertools.count(start).__next__ for signal, start in starts.items()}, missing={})


def filled(rows: int) -> Ledger:
    ledger = Ledger(counting(objects=1_000))
    for row in range(rows):
        ledger.read(10 * row)
    return ledger


def test_a_row_holds_the_calls_and_every_probe_as_read() -> None:
    ledger = Ledger(counting(objects=1_000, blocks=50))
    for calls in (0, 40, 100):
        ledger.read(calls)
    assert ledger.length == 3
    assert list(ledger.calls_made()) == [0, 40, 100]
    assert list(ledger.column("objects")) == [1_000, 1_001, 1_002]
    assert list(ledger.column("blocks")) == [50, 51, 52]
    assert ledger.latest("blocks") == 52


def test_a_column_is_a_copy() -> None:
    ledger = filled(2)
    column = ledger.column("objects")
    ledger.read(99)
    assert list(column) == [1_000, 1_001]


def test_a_missing_signal_stays_zero() -> None:
    ledger = filled(3)
    assert {signal for signal in SIGNALS if any(ledger.column(signal))} == {"objects"}


def test_clearing_forgets_the_rows() -> None:
    ledger = filled(5)
    ledger.clear()
    assert (ledger.length, list(ledger.column("objects"))) == (0, [])
    ledger.read(7)
    assert (ledger.length, ledger.calls[0], ledger.latest("objects")) == (1, 7, 1_005)


def test_a_full_table_keeps_every_row() -> None:
    ledger = filled(CAPACITY)
    assert ledger.length == CAPACITY
    assert list(ledger.column("objects")) == list(range(1_000, 1_000 + CAPACITY))


def test_one_row_more_drops_every_second_one_and_keeps_the_newest() -> None:
    ledger = filled(CAPACITY + 1)
    assert ledger.length == CAPACITY // 2 + 1
    column = list(ledger.column("objects"))
    assert {later - earlier for earlier, later in itertools.pairwise(column[:-1])} == {2}
    assert (column[-1], ledger.latest("objects")) == (1_000 + CAPACITY, 1_000 + CAPACITY)
    assert (column[0], ledger.calls[0]) == (1_000, 0)


def test_calls_and_levels_stay_together_however_often_rows_are_dropped() -> None:
    ledger = filled(20 * CAPACITY)
    assert ledger.length <= CAPACITY
    calls = list(ledger.calls[: ledger.length])
    assert calls == sorted(calls)
    assert calls[0] == 0
    assert calls[-1] == 10 * (20 * CAPACITY - 1)
    assert list(ledger.column("objects")) == [1_000 + count // 10 for count in calls]


def test_readings_take_no_memory_of_their_own() -> None:
    ledger = filled(0)
    before = {signal: column.buffer_info() for signal, column in ledger.columns.items()}
    for row in range(3 * CAPACITY):
        ledger.read(row)
    assert {signal: column.buffer_info() for signal, column in ledger.columns.items()} == before


def test_a_level_of_terabytes_fits() -> None:
    ledger = Ledger(Probes(read={"rss": lambda: 2**42}, missing={}))
    ledger.read(2**40)
    assert (ledger.latest("rss"), ledger.calls[0]) == (2**42, 2**40)
