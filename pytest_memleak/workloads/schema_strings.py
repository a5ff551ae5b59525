"""A string that a JSON schema allows and that no earlier request has sent."""

from __future__ import annotations

import base64
import datetime
import re
import string
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

DAYS: Final = 20_000
"""Dates are taken from so many days, about 55 years, from 2000 on: in every calendar's range, and before 2100."""

WANTED_REPEATS: Final = 8
"""How often `+` and `*` repeat: 10 to the power of 8 strings even of digits, more than a soak has requests."""

_DIGITS_36: Final = string.digits + string.ascii_lowercase
_SETS: Final = {"d": string.digits, "w": string.ascii_lowercase + string.digits + "_", "s": " "}
_ANY: Final = string.ascii_lowercase + string.digits

# One part of a simple pattern: an escape, a set, a dot or a character, and how often it repeats.
_PART: Final = re.compile(r"(\\.|\[\^?(?:\\.|[^\]\\])+\]|[^\\\[\](){}|*+?^$])(\{\d+(?:,\d*)?\}|[*+?])?")

_FORMATS: Final[Mapping[str, Callable[[int], str]]] = {
    "uuid": lambda number: str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
    "date": lambda number: _day(number).isoformat(),
    "date-time": lambda number: f"{_day(number).isoformat()}T12:{number // 60 % 60:02}:{number % 60:02}Z",
    "time": lambda number: f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
    "duration": lambda number: f"PT{number}S",
    "email": lambda number: f"user{number}@example.com",
    "uri": lambda number: f"https://example.com/{number}",
    "url": lambda number: f"https://example.com/{number}",
    "hostname": lambda number: f"host{number}.example.com",
    "ipv4": lambda number: f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
    "ipv6": lambda number: f"2001:db8::{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}",
    "byte": lambda number: base64.b64encode(str(number).encode()).decode(),
}


def text_for(schema: Mapping[str, Any], name: str, number: int) -> str:
    """Make a string for a schema of type `string`, another for each number where the schema leaves room.

    A pattern that is not simple is not followed: see `from_pattern`.
    """
    shortest, longest = int(schema.get("minLength", 0)), schema.get("maxLength")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        found = from_pattern(pattern, number, shortest, longest)
        if found is not None:
            return found
    made = _FORMATS.get(str(schema.get("format")))
    if made is not None:
        return made(number)
    text = f"{name} {number}"
    if longest is not None and len(text) > longest:
        # The last digits change soonest.
        text = _base_36(number)[-longest:] if longest else ""
    return text.ljust(shortest, "x")


def from_pattern(pattern: str, number: int, shortest: int = 0, longest: int | None = None) -> str | None:
    """Spell a number in the characters that a simple pattern allows; None if it is not simple or leaves no room.

    Simple are characters, escapes and sets that repeat, between `^` and `$` or without; no groups, no choices.
    """
    parts = _parts(pattern)
    if parts is None:
        return None
    for wanted in (WANTED_REPEATS, shortest, longest or 0, 0):
        places = [characters for characters, low, high in parts for _ in range(_repeats(wanted, low, high))]
        text = _spelt(places, number)
        if shortest <= len(text) and (longest is None or len(text) <= longest) and _matches(pattern, text):
            return text
    return None


def _day(number: int) -> datetime.date:
    return datetime.date(2000, 1, 1) + datetime.timedelta(days=number % DAYS)


def _base_36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = _DIGITS_36[digit] + digits
    return digits


def _spelt(places: list[str], number: int) -> str:
    characters = []
    for allowed in reversed(places):
        number, position = divmod(number, len(allowed))
        characters.append(allowed[position])
    return "".join(reversed(characters))


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _repeats(wanted: int, low: int, high: int | None) -> int:
    return max(low, wanted if high is None else min(wanted, high))


def _parts(pattern: str) -> list[tuple[str, int, int | None]] | None:
    """Each part's characters and how often it may repeat, None for without end."""
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1]
    pattern = pattern.removeprefix("^")
    parts, position = [], 0
    while position < len(pattern):
        part = _PART.match(pattern, position)
        characters = _characters(part[1]) if part else None
        if part is None or not characters:
            return None
        low, high = _bounds(part[2] or "")
        parts.append((characters, low, high))
        position = part.end()
    return parts


def _bounds(quantifier: str) -> tuple[int, int | None]:
    if not quantifier:
        return 1, 1
    if quantifier == "?":
        return 0, 1
    if quantifier in "*+":
        return (0 if quantifier == "*" else 1), None
    low, comma, high = quantifier[1:-1].partition(",")
    return int(low), (int(high) if high else None) if comma else int(low)


def _characters(part: str) -> str | None:
    """The characters that a part of a pattern allows, some of them at least; None for what is not simple."""
    if part == ".":
        return _ANY
    if part.startswith("\\"):
        return _SETS.get(part[1]) if part[1].isalnum() else part[1]
    if not part.startswith("["):
        return part
    negated, inside = part.startswith("[^"), part[1:-1].removeprefix("^")
    allowed = ""
    for item in re.finditer(r"\\(.)|(.)-([^\\])|(.)", inside, re.DOTALL):
        escape, first, last, single = item.groups()
        if escape is not None:
            allowed += (_SETS.get(escape) or "") if escape.isalnum() else escape
        elif first is not None:
            allowed += "".join(map(chr, range(ord(first), ord(last) + 1)))
        else:
            allowed += single
    if negated:
        return "".join(character for character in _ANY if character not in allowed) or None
    return "".join(dict.fromkeys(allowed)) or None
