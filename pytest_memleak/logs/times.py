"""The time of a log line, in seconds: only differences count, so a time without a zone is taken as UTC.

Known: ISO 8601 and its neighbours (`2026-01-01 12:00:00,123`, gunicorn's `[2026-01-01 12:00:00 +0000]`, `2026/01/01`),
Apache (`[01/Jan/2026:12:00:00 +0000]`), syslog and `date` (`Jan  1 12:00:00`, with a year or not), the kernel's
`[12345.678]`, seconds or milliseconds since 1970 at the start or as `ts=`, and a time of day alone.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable
from typing import Final

_DAY_S: Final = 86_400.0

HEAD: Final = 256
"""How far into a line a time is looked for."""

_CLOCK: Final = rb"([01]\d|2\d):([0-5]\d):([0-6]\d)(?:[.,](\d{1,9}))?"
_ISO: Final = re.compile(rb"(\d{4}[-/][01]\d[-/][0-3]\d)[T _]" + _CLOCK + rb"\s?(Z|[+-]\d\d:?\d\d)?")
_APACHE: Final = re.compile(rb"([0-3]?\d/[A-Z][a-z]{2}/\d{4}):" + _CLOCK + rb"(?: ([+-]\d{4}))?")
_SYSLOG: Final = re.compile(
    rb"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}([0-3]?\d) "
    + _CLOCK
    + rb"(?: [AP]M)?(?: [A-Z]{2,5})?(?: (\d{4})\b)?"
)
_BOOT: Final = re.compile(rb"(?:<\d{1,3}>)?\[ {0,8}(\d{1,10}\.\d{3,9})\]")
_EPOCH: Final = re.compile(
    rb"""(?:^\[?|\b(?:ts|time|timestamp|t)["']?[=:] ?["']?)(1\d{9}(?:\.\d{1,9})?|1\d{12,18})\b"""
)
_OF_DAY: Final = re.compile(rb"^[\[(]?" + _CLOCK)

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), start=1
    )
}

# A month that is this much earlier than the one before is one of the next year.
_HALF_A_YEAR_S: Final = 180 * _DAY_S


class Clock:
    """Reads times of one source; remembers what they look like there, and the last one.

    A time without a year has `year`, one more after each turn of the year; one without a day counts midnights.
    """

    def __init__(self, year: int) -> None:
        self.last: float | None = None
        self.said = b""
        """The last time as the line has it."""

        self._year = year
        self._since_epoch = 0.0
        self._forms: list[Callable[[bytes], float | None]] = [
            self._iso, self._boot, self._apache, self._syslog, self._epoch, self._of_day,
        ]  # fmt: skip

    def read(self, line: bytes) -> float | None:
        """The time in the first part of a line; None where there is none."""
        head = line[:HEAD]
        for index, form in enumerate(self._forms):
            time_s = form(head)
            if time_s is not None:
                if index:
                    self._forms.insert(0, self._forms.pop(index))
                self.last = time_s
                return time_s
        return None

    def _iso(self, head: bytes) -> float | None:
        match = _ISO.search(head)
        if match is None:
            return None
        self.said = match[0]
        day = _day(match[1])
        return None if day is None else day + _of_clock(match, 2) - _zone(match[6])

    def _apache(self, head: bytes) -> float | None:
        match = _APACHE.search(head)
        if match is None:
            return None
        self.said = match[0]
        day = _apache_day(match[1])
        return None if day is None else day + _of_clock(match, 2) - _zone(match[6])

    def _syslog(self, head: bytes) -> float | None:
        match = _SYSLOG.search(head)
        if match is None:
            return None
        self.said = match[0]
        year = int(match[7]) if match[7] else self._year
        day = _date(year, _MONTHS[match[1]], int(match[2]))
        if day is None:
            return None
        time_s = day + _of_clock(match, 3)
        if not match[7]:
            if time_s < self._since_epoch - _HALF_A_YEAR_S:
                self._year += 1
                time_s = (_date(self._year, _MONTHS[match[1]], int(match[2])) or day) + _of_clock(match, 3)
            self._since_epoch = time_s
        return time_s

    def _boot(self, head: bytes) -> float | None:
        match = _BOOT.match(head)
        if match is None:
            return None
        self.said = match[0]
        return float(match[1])

    def _epoch(self, head: bytes) -> float | None:
        match = _EPOCH.search(head)
        if match is None:
            return None
        self.said = match[1]
        return epoch(float(match[1]))

    def _of_day(self, head: bytes) -> float | None:
        match = _OF_DAY.match(head)
        if match is None:
            return None
        self.said = match[0]
        time_s = _of_clock(match, 1)
        if self.last is not None:
            time_s += self.last // _DAY_S * _DAY_S
            if time_s < self.last - _DAY_S / 2:
                time_s += _DAY_S
        return time_s


def epoch(number: float) -> float | None:
    """Seconds since 1970 out of seconds, milli-, micro- or nanoseconds; None for what is none of this century."""
    for size in (1.0, 1e3, 1e6, 1e9):
        if 9e8 <= number / size < 5e9:
            return number / size
    return None


def parse_time(value: object, clock: Clock) -> float | None:
    """The time in a field of its own: a number, or text of any known form."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        # Compared first: an int of 400 digits is no float.
        return epoch(float(value)) if 0 < value < 1e20 else None
    if not isinstance(value, str):
        return None
    text = value[:HEAD].strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return epoch(float(text))
    return clock.read(text.encode("utf-8", "replace"))


def _of_clock(match: re.Match[bytes], at: int) -> float:
    """Seconds since midnight, out of four groups."""
    fraction = match[at + 3]
    seconds = int(match[at]) * 3600 + int(match[at + 1]) * 60 + int(match[at + 2])
    return seconds + (int(fraction) / 10.0 ** len(fraction) if fraction else 0.0)


@functools.lru_cache(maxsize=256)
def _zone(text: bytes | None) -> float:
    if not text or text == b"Z":
        return 0.0
    digits = text[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0
    return -seconds if text[:1] == b"-" else seconds


@functools.lru_cache(maxsize=1024)
def _day(text: bytes) -> float | None:
    return _date(int(text[:4]), int(text[5:7]), int(text[8:10]))


@functools.lru_cache(maxsize=1024)
def _apache_day(text: bytes) -> float | None:
    day, month, year = text.split(b"/")
    number = _MONTHS.get(month)
    return None if number is None else _date(int(year), number, int(day))


def _date(year: int, month: int, day: int) -> float | None:
    """Seconds since 1970 at its midnight; None for the 30th of February."""
    try:
        return (datetime.date(year, month, day) - datetime.date(1970, 1, 1)).days * _DAY_S
    except ValueError:
        return None
