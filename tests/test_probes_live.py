"""Live bytes: exact where the allocator's statistics can be read, an estimate that says so where they cannot."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import pytest

from pytest_memleak.probes import live
from pytest_memleak.probes.catalogue import find_probes

needs_native = pytest.mark.skipif("native" in find_probes().missing, reason="the C heap in use has no statistics")
OWN_BYTES = 512
"""What the test itself holds between two readings: their figures, of 32 B each, a frame, an iterator."""

needs_statistics = pytest.mark.skipif(bool(live.pymalloc_probe()[1]), reason="the statistics cannot be read here")


@needs_statistics
def test_a_thousand_objects_are_seen_to_the_byte_and_gone_with_them() -> None:
    probe, estimate = live.pymalloc_probe()
    assert estimate == ""
    kept: list[object] = [None] * 1_000
    gc.collect()
    probe()
    before = probe()
    for index in range(1_000):
        kept[index] = object()
    gained = probe() - before
    assert 16_000 <= gained <= 16_000 + OWN_BYTES
    kept[:] = [None] * 1_000
    assert abs(probe() - before) <= OWN_BYTES


@needs_statistics
@pytest.mark.parametrize("size", [1, 100, 400])
def test_bytes_objects_are_weighed_by_the_size_class_that_they_lie_in(size: int) -> None:
    probe, _ = live.pymalloc_probe()
    kept: list[bytes | None] = [None] * 2_000
    before = probe()
    for index in range(2_000):
        kept[index] = bytes([index % 251]) * size if size > 1 else b"%d" % index
    gained = (probe() - before) / 2_000
    width = sys.getsizeof(kept[-1])
    # Rounded up to 16 B; and what the interpreter makes only once meanwhile, a few kilobytes over all of them.
    assert width <= gained <= width + 32


@needs_statistics
def test_reading_itself_keeps_nothing() -> None:
    probe, _ = live.pymalloc_probe()
    first = probe()
    for _ in range(5_000):
        last = probe()
    # Less than a byte for each; a thread of the test runner may keep some hundreds of its own.
    assert abs(last - first) < 4_000


@needs_native
def test_a_buffer_of_the_c_heap_is_seen_and_gone_with_it() -> None:
    probe, missing = live.live_bytes_probe(find_probes())
    assert not missing or "each block" in missing[0]
    before = probe()
    kept = bytearray(3_000_000)
    pymalloc, native = probe()
    assert native - before[1] == pytest.approx(len(kept), abs=20_000)
    assert abs(pymalloc - before[0]) < 5_000
    del kept
    assert abs(probe()[1] - before[1]) < 20_000


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an interpreter, or a C library, that does not have it."""

    class Bare:
        def __getattr__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(asked)
            return getattr(ctypes.pythonapi, asked)

    if name == "open_memstream":
        monkeypatch.setattr(ctypes, "CDLL", lambda _name: Bare())
    else:
        monkeypatch.setattr(ctypes, "pythonapi", Bare())


@pytest.mark.parametrize("name", ["_PyObject_DebugMallocStats", "open_memstream"])
def test_without_statistics_blocks_are_weighed_and_the_estimate_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(name, monkeypatch)
    probe, estimate = live.pymalloc_probe()
    assert estimate == "the allocator's statistics cannot be read here: each block is taken for 80 B"
    kept: list[object] = [None] * 10_000
    before = probe()
    for index in range(10_000):
        kept[index] = object()
    assert probe() - before == pytest.approx(800_000, abs=8_000)


def test_statistics_that_stand_still_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_statistics", lambda: lambda: 4_711)
    probe, estimate = live.pymalloc_probe()
    assert estimate
    assert probe() > 4_711


def test_a_c_heap_without_statistics_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = find_probes()
    probes.read.pop("native", None)
    probes.missing["native"] = "it is somebody else's"
    probe, missing = live.live_bytes_probe(probes)
    assert missing[-1] == "the C heap: it is somebody else's"
    assert probe()[1] == 0


@needs_statistics
def test_a_collection_in_the_middle_of_the_trial_is_no_reason_to_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    real = live._statistics()
    freed = iter([0, 50_000])
    monkeypatch.setattr(live, "_statistics", lambda: lambda: real() - next(freed, 50_000))
    assert live.pymalloc_probe()[1] == ""
