"""Numbers as text: the one place where bytes, rates and counts become words.

1 MB = 1,000,000 bytes everywhere, in output and in thresholds.
"""

from __future__ import annotations

import math
import re
from typing import Final

MB: Final = 1_000_000

_DURATION: Final = re.compile(r"(?=.)(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)(?:min|m))?\s*(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(value: object) -> float:
    """Seconds out of `30m`, `90s`, `1h30m`, `7d` or a plain number of seconds. Raises ValueError, in words."""
    seconds = 0.0
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is not None:
            days, hours, minutes, rest = (float(part or 0) for part in match.groups())
            seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf"):
        # Compared first: an int of 400 digits is no float.
        seconds = float(min(value, 1e18))
    if not 0 < seconds < float("inf"):
        raise ValueError(f"expects a time such as 30m, 90s or 1h30m, got {value!r}")
    return seconds


def format_bytes(size: float) -> str:
    """Bytes as text with three significant digits: `12 B`, `1.06 kB`, `3.3 MB`; a leading minus survives."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        # 999.5 B would round to "1000 B": the next unit starts where rounding would reach it.
        if abs(size) >= factor * 0.9995:
            return f"{_three_digits(size / factor)} {unit}"
    return f"{_three_digits(size)} B"


def format_rate(amount: float) -> str:
    """A count per call as text: `1`, `0.02`, `2.5`; three significant digits."""
    return _three_digits(amount)


def format_bound(amount: float) -> str:
    """An upper bound as text with two significant digits, rounded up: never less than was proven."""
    return format_rate(_rounded_up(amount))


def format_bytes_bound(size: float) -> str:
    """An upper bound in bytes as text, rounded up to two significant digits."""
    return format_bytes(_rounded_up(size))


def _rounded_up(amount: float) -> float:
    if amount <= 0:
        return 0.0
    if amount == math.inf:
        return amount
    digit: float = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return math.ceil(round(amount / digit, 6)) * digit


def format_count(count: int) -> str:
    """A whole number with thousands separators."""
    return f"{count:,}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 file`, `1,200 files`, `2 lives`."""
    return f"{format_count(count)} {noun if count == 1 else plural or noun + 's'}"


def format_seconds(seconds: float) -> str:
    """A duration as text: `0.84 s`, `12.3 s`, `4 min 10 s`, `24 h 0 min`."""
    if seconds < 100:
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def mb_per_min(bytes_per_request: float, requests_per_s: float) -> float:
    """What a growth per request means at a rate of requests, in MB (1,000,000 bytes) per minute."""
    return bytes_per_request * requests_per_s * 60 / MB


def _three_digits(number: float) -> str:
    if number == 0:
        return "0"
    if abs(number) >= 99.95:
        return f"{number:.0f}"
    text = f"{number:.2f}" if abs(number) >= 0.995 else f"{number:.2g}"
    if "e" in text:
        text = f"{number:.6f}"
    return text.rstrip("0").rstrip(".") or "0"
