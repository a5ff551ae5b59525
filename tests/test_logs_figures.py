"""Which figures of memory a line has, whose they are, and which numbers are none."""

from __future__ import annotations

import pytest
from logs_support import figures, read

from pytest_memleak.logs.sizes import factor, parse_size

TEXT = [
    ("RSS: 512 MB", "", "rss", 512.0),
    ("memory usage 1.2GiB", "", "memory usage", 1288.49),
    ("2026-01-01 12:00:00,123 INFO [42] memory usage is now: 300.5 MB (45 %)", "pid 42", "memory usage", 300.5),
    ("Memory usage: 45.2% (512.3 MB)", "", "memory usage", 512.3),
    ("[2026-01-01 12:00:00 +0000] [77] [INFO] rss=123456789", "pid 77", "rss", 123.457),
    ('level=info ts=1767268800.5 msg="stats" memory_bytes=104857600 pod=web-1', "web-1", "memory", 104.858),
    ("INFO:     RSS 512 MB pid 4", "pid 4", "rss", 512.0),
    ("Jan  1 12:00:00 host python[123]: rss 345 MB", "pid 123", "rss", 345.0),
    ("[INFO/ForkPoolWorker-3] mem usage 512 MB", "ForkPoolWorker-3", "mem usage", 512.0),
    ("web_1  | RSS: 7 MB", "web_1", "rss", 7.0),
    ("[pod/web-1/app] RSS: 7 MB", "web-1", "rss", 7.0),
    ("rapid 5 items[12] after process 7 of 9: RSS 5 MB", "", "rss", 5.0),
    ("[42] INFO worker_rss_mb=5", "pid 42", "worker rss", 5.0),
    ("worker_pid=42 RSS 5 MB", "pid 42", "rss", 5.0),
    ("using 512 MB of memory", "", "memory", 512.0),
    ("worker is at 300MB RSS", "", "rss", 300.0),
    ("Peak RSS: 99 MB", "", "rss", 99.0),
    ("VmRSS:\t  123456 kB", "", "vm rss", 126.419),
    ("mem: 512/2048 MB", "", "mem", 512.0),
    ("mem 300 of 512 MB", "", "mem", 300.0),
    ("memory=512MiB/1GiB", "", "memory", 536.871),
    ('"rss": "512MB",', "", "rss", 512.0),
    ("{'rss': 123456789, 'vms': 5}", "", "rss", 123.457),
    ("pmem(rss=123456789, vms=5)", "", "rss", 123.457),
    ("Memory: 512M", "", "memory", 512.0),
    ("memory used: 1,234.5 MB", "", "memory used", 1234.5),
    ("memory (MB): 300", "", "memory", 300.0),
    ("memoryUsage=300MB", "", "memory usage", 300.0),
    ("RSS grew from 100 MB to 120 MB", "", "rss", 120.0),
    ("current memory usage: 512.3 MB; Peak: 600 MB", "", "memory usage", 512.3),
    ("Maximum resident set size (kbytes): 123456", "", "peak of a run", 126.419),
    ("   104857600  maximum resident set size", "", "peak of a run", 104.858),
]

JSON = [
    ('{"ts": 1767268800, "memory": {"rss": 104857600, "vms": 99999999999, "percent": 5.5}}', "", "memory rss"),
    ('{"time":"2026-01-01T12:00:00Z","rss_bytes":104857600,"pid":9}', "pid 9", "rss"),
    ('{"process":{"memory":{"usage":104857600},"pid":12}}', "pid 12", "process memory usage"),
    ('{"kubernetes":{"pod_name":"web-1"},"rss_mib":100}', "web-1", "rss"),
    ('{"log":"RSS: 100 MiB\\n","stream":"stdout","time":"2026-01-01T12:00:00.123456789Z"}', "", "rss"),
    ('2026-01-01T12:00:00.1Z stdout F {"rss_mib": 100}', "", "rss"),
    ('web-1 | {"rss_mib": "100"}', "web-1", "rss"),
    ('{"MESSAGE":"mem=100MiB","__REALTIME_TIMESTAMP":"1767268800123456","_PID":"77"}', "pid 77", "mem"),
    ('{"memory": {"value": 100, "unit": "MiB"}}', "", "memory value"),
    ('{"message": "RSS: 100 MiB", "record": {"process": {"id": 5}}}', "", "rss"),
]

PROMETHEUS = [
    ("process_resident_memory_bytes 1.5e+08", "", "process_resident_memory_bytes", 150.0),
    ('process_resident_memory_bytes{instance="a:1",pid="5"} 1.5e+08 1767268800123', "a:1 pid 5",
     "process_resident_memory_bytes", 150.0),
    ('container_memory_working_set_bytes{container="app",pod="web-1"} 150000000', "web-1/app",
     "container_memory_working_set_bytes", 150.0),
    ('process_rss_bytes{stage="after"} 150000000', "", "process_rss_bytes", 150.0),
]  # fmt: skip

NONE = [
    "free memory: 5 GB",
    "memory limit: 2GiB",
    "Total memory: 16 GB",
    "max memory 2 GB",
    "member_id=12345678",
    "across 500 MB",
    "remember 512 MB",
    "RSS feed with 12345678 entries",
    "memory usage 45%",
    "heap and mem 12 times",
    "mem 5m",
    "memory growth: 5 MB",
    "memory leak of 5 MB",
    "MemFree: 123456 kB",
    "ERROR out of memory: tried to allocate 512 MB",
    '127.0.0.1 - - [01/Jan/2026:12:00:00 +0000] "GET /mem HTTP/1.1" 200 12345678',
    "process_virtual_memory_bytes 1.2e9",
    "# HELP process_resident_memory_bytes Resident memory size in bytes.",
    "process_resident_memory_bytes NaN",
    "container_spec_memory_limit_bytes 9.223372036854772e+18",
    'endpoint_memory_delta_bytes_bucket{le="1000"} 123456789',
    '{"memory": {"percent": 45.2, "limit": 2000000000, "available": 5000000000}}',
    '{"memory_bytes": true, "rss": null}',
    '{"rss": NaN}',
    '{"rss": -5000000}',
    '{"rss": 1' + "0" * 400 + "}",
]


@pytest.mark.parametrize("line, owner, metric, size", TEXT + PROMETHEUS)
def test_text_tells_a_level(line: str, owner: str, metric: str, size: float) -> None:
    ((whose, what, found),) = figures(line)
    assert (whose, what) == (owner, metric)
    assert found == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize("line, owner, metric", JSON)
def test_json_tells_a_level(line: str, owner: str, metric: str) -> None:
    ((whose, what, found),) = figures(line)
    assert (whose, what) == (owner, metric)
    assert found == pytest.approx(104.858, abs=0.001)


@pytest.mark.parametrize("line", NONE)
def test_a_number_that_is_no_level(line: str) -> None:
    reading = read(line)
    assert (figures(line), reading.unitless) == ([], 0)


def test_several_figures_of_a_line_are_as_many_series() -> None:
    assert figures("mem=345MB rss_kb=12345") == [("", "mem", 345.0), ("", "rss", 12.345)]
    assert figures('{"processes":[{"pid":1,"rss":5000000},{"pid":2,"rss":6000000}]}') == [
        ("pid 1", "processes rss", 5.0),
        ("pid 2", "processes rss", 6.0),
    ]


@pytest.mark.parametrize("line", ["rss=512", '{"rss": 512}', "RSS 512.5", "memory: 512"])
def test_a_small_number_needs_its_unit_said(line: str) -> None:
    assert (figures(line), read(line).unitless) == ([], 1)
    ((_, _, size),) = figures(line, unit=1e6)
    assert size == pytest.approx(512, abs=1)


@pytest.mark.parametrize(
    "unit, size",
    [("B", 1), ("bytes", 1), ("kB", 1e3), ("KB", 1e3), ("kb", 1e3), ("KiB", 1024), ("MB", 1e6), ("mb", 1e6),
     ("MiB", 2**20), ("Mi", 2**20), ("M", 1e6), ("GB", 1e9), ("GiB", 2**30), ("Gi", 2**30), ("MBytes", 1e6),
     ("kilobytes", 1e3), ("megabytes", 1e6), ("TiB", 2**40), ("", None), ("apples", None), ("i", None), ("%", None)],
)  # fmt: skip
def test_units(unit: str, size: float | None) -> None:
    assert factor(unit) == size


def test_sizes_of_fields() -> None:
    assert parse_size("1,234.5 MiB") == (1234.5, 2.0**20)
    assert parse_size("12") == (12.0, None)
    assert [parse_size(text) for text in ("12 %", "twelve", "", "12 MBit", "1.2.3")] == [None] * 5


def test_broken_json_is_counted_and_not_fatal() -> None:
    deep = '{"rss":' + "[" * 200_000
    reading = read('{"rss": 12\n{"rss_mb": 5}\n{"rss": "\n' + deep + '}\n{"rss_mb": 6, "\xff": 1}\n[{"rss": 7}]\n')
    assert reading.broken == 3
    assert reading.forms["JSON"] >= 2


def test_bytes_that_are_no_utf_8() -> None:
    reading = read(b'\xff\xfe RSS: 5 MB \xc3\n{"rss_mb": 5, "x": "\xff"}\n')
    assert (sum(reading.forms.values()), reading.broken) == (1, 1)
