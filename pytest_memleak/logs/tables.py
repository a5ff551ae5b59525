"""Figures that are no sentences: `kubectl top`, `docker stats`, Prometheus text, GNU time."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pytest_memleak.logs import keys, sizes
from pytest_memleak.logs.figures import Figure
from pytest_memleak.logs.times import epoch
from pytest_memleak.logs.whose import Owner


class Row(NamedTuple):
    """One figure of a table or an exposition."""

    owner: Owner
    figure: Figure
    time_s: float | None = None


# docker stats draws on the screen: cursor home, clear, colours.
_ESCAPES: Final = re.compile(rb"\x1b\[[0-9;?]{0,16}[A-Za-z]")

_TOP_HEADER: Final = re.compile(rb"\s*(?:[A-Z]+\s+){1,3}CPU\(cores\)\s+(?:CPU%\s+)?MEMORY\(bytes\)")
_TOP_ROW: Final = re.compile(
    rb"(?:(\S{1,253})\s+)?(?:(\S{1,253})\s+)?(\S{1,253})\s+\d{1,9}m?\s+(?:\d{1,5}%\s+)?(\d{1,15}(?:[KMGT]i|[KMGTk])?)\s{0,40}(?:\d{1,5}%\s*)?\Z"
)
_STATS_HEADER: Final = re.compile(rb"\s*(?:CONTAINER(?: ID)?|NAME)\s.{0,80}MEM USAGE")
_STATS_ROW: Final = re.compile(
    rb"\s*(\S{1,253})\s+(?:(\S{1,253})\s+)?\d{1,6}\.\d{1,3}%\s+(\d{1,15}(?:\.\d{1,6})?)\s?([kKMGT]?i?B) / \d"
)
# Where the header was left away (--no-headers) or lies before the log's beginning.
_HEADLESS: Final = re.compile(
    rb"^(?:\S{1,253}[ \t]+){1,3}\d{1,9}m[ \t]+\d{1,15}[KMG]i[ \t]*\r?$|\d%[ \t]+[\d.]{1,12}[KMG]?i?B / \d", re.MULTILINE
)

_SAMPLE: Final = re.compile(
    rb"([a-zA-Z_:][\w:]{0,200})(?:\{(.{0,4000})\})?[ \t]{1,8}([0-9.eE+\-]{1,40})(?:[ \t]{1,8}(\d{1,19}))?[ \t]*\Z"
)
_LABEL: Final = re.compile(rb'(\w{1,100})="((?:[^"\\]|\\.){0,500})"')
_PLACES: Final = (b"pod", b"container", b"instance", b"name", b"job")

_GNU_TIME: Final = re.compile(rb"\s{0,8}Maximum resident set size \(kbytes\): (\d{1,15})\s*\Z")
_BSD_TIME: Final = re.compile(rb"\s{0,40}(\d{1,19})\s{1,8}maximum resident set size\s*\Z")


def plain(line: bytes) -> bytes:
    """A line without what moves the cursor, and without its end."""
    return _ESCAPES.sub(b"", line).rstrip() if b"\x1b" in line else line.rstrip()


def is_header(line: bytes) -> bool:
    """Whether the rows of a table of memory follow."""
    if b"CPU" not in line and b"MEM USAGE" not in line:
        return False
    line = plain(line)
    return _TOP_HEADER.match(line) is not None or _STATS_HEADER.match(line) is not None


def is_headless(block: bytes) -> bool:
    """Whether a log has rows of such tables, whatever stands above them."""
    return b"MEMORY(bytes)" not in block and b"MEM USAGE" not in block and _HEADLESS.search(block) is not None


def row(line: bytes) -> Row | None:
    """A row of `kubectl top` or `docker stats`; None for any other line."""
    match = _STATS_ROW.match(line)
    if match is not None:
        name = (match[2] or match[1]).decode("utf-8", "replace")
        size, unit = float(match[3]), sizes.factor(match[4].decode())
    else:
        match = _TOP_ROW.match(line)
        if match is None:
            return None
        name = "/".join(part.decode("utf-8", "replace") for part in match.groups()[:3] if part)
        text = match[4].decode()
        digits = text.rstrip("KMGTki")
        size, unit = float(digits), sizes.factor(text[len(digits) :]) if text != digits else 1.0
    level = size * (unit or 1.0)
    return Row(Owner(name, 0), Figure("memory", keys.MEMORY, level)) if 0 < level < sizes.MOST_BYTES else None


def sample(line: bytes) -> Row | None:
    """A sample of Prometheus' text format; None for any other line."""
    match = _SAMPLE.match(line)
    if match is None or b"=" in match[1]:
        return None
    name = match[1].decode()
    key = keys.classify(name)
    if key is None or not name.endswith(("_bytes", "_rss", "_kilobytes", "_megabytes")):
        return None
    try:
        value = float(match[3])
    except ValueError:
        return None
    level = value * (key.factor or 1.0)
    if not 0 < level < sizes.MOST_BYTES:
        return None
    time_s = epoch(float(match[4])) if match[4] else None
    return Row(_owner_of_labels(match[2] or b""), Figure(name, key.rank, level), time_s)


def _owner_of_labels(text: bytes) -> Owner:
    labels = dict(_LABEL.findall(text))
    pid = labels.get(b"pid", b"")
    place = next((labels[name] for name in _PLACES if labels.get(name)), b"").decode("utf-8", "replace")
    if b"pod" in labels and labels.get(b"container"):
        place += "/" + labels[b"container"].decode("utf-8", "replace")
    return Owner(place, int(pid) if pid.isdigit() and len(pid) <= 10 else 0)


def peak(line: bytes) -> Row | None:
    """The line of `/usr/bin/time -v` (or `-l`) that tells the peak of a whole run."""
    match = _GNU_TIME.match(line)
    unit = sizes.KERNEL_KB
    if match is None:
        match, unit = _BSD_TIME.match(line), 1
    if match is None:
        return None
    level = float(match[1]) * unit
    return Row(Owner(), Figure("peak of a run", keys.PEAK, level)) if 0 < level < sizes.MOST_BYTES else None
