"""Lines made to take long or to take much: none does."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from logs_support import levels, read
from test_logs_deaths import CONSTRAINT, STATS, TOP
from test_logs_deaths import LINES as DEATHS
from test_logs_figures import JSON, NONE, PROMETHEUS, TEXT

from pytest_memleak.logs.own_patterns import MOST_LINE, OwnPattern, PatternError
from pytest_memleak.logs.reading import LogReading

SIZE = 200_000

LINES = [
    b"mem" * SIZE,
    b"mem " * SIZE,
    b"rss=" * SIZE,
    b"memory usage used is now " * (SIZE // 10),
    b"memory" + b" " * SIZE + b"5 MB",
    b"rss: " + b"1" * SIZE,
    b"rss: " + b"1," * SIZE,
    b"rss: " + b"1." * SIZE,
    b"rss: 1" + b",111" * SIZE,
    b"a." * SIZE + b"rss",
    b"[" * SIZE + b"rss: 5 MB",
    b"[1]" * SIZE + b"rss: 5 MB",
    b"pid=" * SIZE + b"rss: 5 MB",
    b"2026-01-01 " * SIZE + b"rss: 5 MB",
    b"{" * SIZE + b"rss",
    b'{"rss":' * SIZE,
    b'{"a":' * 900 + b'{"rss":5000000}' + b"}" * 900,
    b"mem{" + b'a="' * SIZE + b"} 1",
    b"mem_bytes{" + b'a="\\' * SIZE,
    b"NAME" + b" A" * SIZE + b" CPU(cores) MEMORY(bytes)",
    b"CONTAINER ID" + b" " * SIZE + b"MEM USAGE",
    b"mem CPU" + b" " * SIZE,
    b"mem Killed process " + b"1" * SIZE,
    b"oom-kill:constraint=" + b"task=" * SIZE,
    b"container oom " + b"a" * SIZE + b" (" + b"name=" * SIZE,
    b"OOMKilled " + b"a " * SIZE + b"1/1",
    b"pod" * SIZE + b"OOMKilled",
    b"\x1b[" * SIZE + b"mem CPU",
    b"web |" * SIZE + b" mem",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:12].decode("ascii", "replace"))
def test_no_line_takes_long(line: bytes) -> None:
    begin = time.process_time()
    read((line + b"\n") * 3)
    # A few hundredths of a second; backtracking would take years.
    assert time.process_time() - begin < 5


def test_many_lines_as_long_as_is_read_whole_take_no_time_each() -> None:
    line = b"memory usage used is " * 190 + b"\n"
    begin = time.process_time()
    read(line * 100)
    assert time.process_time() - begin < 5


def test_a_line_of_100_megabytes() -> None:
    reading = LogReading(year=2026)
    reading.open("log")
    tracemalloc.start()
    reading.feed(b"RSS: 5 MB\nRSS: 6 MB and ")
    for _ in range(400):
        reading.feed(b"mem " * 62_500)
    reading.feed(b"\nRSS: 7 MB\n")
    reading.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels(reading) == [("", "rss", [5.0, 6.0, 7.0])]
    assert (reading.long_lines, reading.lines, peak < 20_000_000) == (1, 3, True)


def blocks(count: int) -> Iterator[bytes]:
    for at in range(count):
        yield b"".join(
            b"2026-01-01 %02d:%02d:%02d [%d] rss=%dMB pod=web-%d\n"
            % (at // 3600 % 24, at // 60 % 60, at % 60, line, 100 + at % 50, line)
            for line in range(5)
        )


def test_memory_does_not_grow_with_the_log() -> None:
    reading = LogReading(year=2026)
    reading.open("log")
    tracemalloc.start()
    try:
        for block in blocks(1100):
            reading.feed(block)
        before = tracemalloc.get_traced_memory()[0]
        for block in blocks(1100):
            reading.feed(block)
        assert tracemalloc.get_traced_memory()[0] - before < 500_000
    finally:
        tracemalloc.stop()
    assert len(reading.book.lives) == 5


def test_own_patterns() -> None:
    text = "2026-01-01 00:00:00 heap 12.5 mb, w7\nRSS: 5 MB\nheap x mb\n"
    reading = read(text, patterns=[r"heap (?P<memory>[\d.]+) (?P<unit>\w+), w(?P<pid>\d+)"])
    assert levels(reading) == [("pid 7", "memory", [12.5])]
    reading = read("at 1767225600 used 5e6\n", patterns=[r"at (?P<time>\d+) used (?P<memory>\S+)"])
    ((life,),) = reading.book.lives.values()
    assert (life.first_s, life.first) == (1767225600.0, 5e6)
    reading = read(b"x" * MOST_LINE + b" heap 5 MB\n", patterns=[r"heap (?P<memory>\d+ MB)"])
    assert levels(reading) == []
    reading = read("heap 5\nworker (pid:3) x\nKilled process 5 (python) anon-rss:5kB\n", patterns=["(?P<memory>heap)"])
    assert (levels(reading), len(reading.deaths.told)) == ([], 1)


@pytest.mark.parametrize(
    "pattern, words",
    [("(", "is no regular expression"), (r"\d+", "expects the named group"), ("(?P<memory>a)(?P<b>c)", "not b")],
)
def test_own_patterns_that_cannot_be_used(pattern: str, words: str) -> None:
    with pytest.raises(PatternError, match=words):
        OwnPattern(pattern)


def damaged(seed: int) -> bytes:
    """Lines of all forms with bytes changed, cut out and put in."""
    chance = random.Random(seed)
    data = bytearray()
    for _ in range(chance.randint(1, 20)):
        line = bytearray(chance.choice(SAMPLES))
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(line) + 1)
            line[at : at + chance.choice((0, 1, 5))] = chance.choice(
                (b"", bytes([chance.randrange(256)]), chance.choice(SAMPLES)[: chance.randint(1, 40)])
            )
        data += line + chance.choice((b"\n", b"\r\n", b" "))
    return bytes(data)


SAMPLES = [line.encode() for line in NONE]
SAMPLES += [str(case[0]).encode() for case in (*TEXT, *JSON, *PROMETHEUS, *DEATHS)]
SAMPLES += [(TOP + STATS).encode(), CONSTRAINT.encode()]


def test_damaged_lines_are_never_fatal() -> None:
    for seed in range(500):
        reading = read(damaged(seed), block=seed % 100)
        assert all(life.points()[1] for lives in reading.book.lives.values() for life in lives if life.count)
