"""Levels of memory in a JSON object: nested names, and text that the object carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pytest_memleak.logs import keys, sizes, whose
from pytest_memleak.logs.figures import Figure

_DEEPEST: Final = 8
_MOST_FIELDS: Final = 2000

_TIMES: Final = (
    *("timestamp", "@timestamp", "time", "ts", "asctime", "datetime", "date", "t", "eventTime", "lastTimestamp"),
    *("__REALTIME_TIMESTAMP", "created", "logged_at"),
)
_TEXTS: Final = ("log", "message", "msg", "MESSAGE", "text", "event", "line")


class Record(NamedTuple):
    """What a JSON line says: levels with their owners, its time as written, and the text it carries."""

    levels: list[tuple[whose.Owner, Figure]]
    time: object
    text: str
    owner: whose.Owner


def parse(line: bytes, bare: float | None) -> Record | None:
    """The record of a line that begins with a brace; None for a line that is broken."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    owner = whose.of_record(record)
    budget = [_MOST_FIELDS]
    levels = list(_walk(record, (), owner, bare, budget))
    return Record(levels, _time(record), _text(record), owner)


def _walk(
    record: Mapping[str, Any], path: tuple[str, ...], owner: whose.Owner, bare: float | None, budget: list[int]
) -> Iterator[tuple[whose.Owner, Figure]]:
    for name, value in record.items():
        budget[0] -= 1
        if budget[0] < 0 or len(path) >= _DEEPEST:
            return
        here = (*path, name)
        if isinstance(value, dict):
            yield from _walk(value, here, whose.of_record(value, owner), bare, budget)
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from _walk(part, here, whose.of_record(part, owner), bare, budget)
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            figure = _figure(here, value, record, bare)
            if figure is not None:
                yield owner, figure


def _figure(path: tuple[str, ...], value: float | str, record: Mapping[str, Any], bare: float | None) -> Figure | None:
    name = ".".join(path)
    small = name.lower()
    if ("mem" not in small and "rss" not in small) or len(name) > 200:
        return None
    key = keys.classify(name)
    if key is None:
        return None
    factor = key.factor
    if isinstance(value, str):
        parsed = sizes.parse_size(value) if len(value) <= 40 else None
        if parsed is None:
            return None
        value, unit = parsed
        factor = unit if unit is not None else factor
    elif factor is None and isinstance(said := record.get("unit"), str):
        factor = sizes.factor(said)
    # Compared first: an int of 400 digits is no float. NaN is not below anything.
    if not 0 < value < sizes.MOST_BYTES:
        return None
    level = sizes.level(float(value), factor, bare)
    return None if level == 0.0 else Figure(key.metric, key.rank, level)


def _time(record: Mapping[str, Any]) -> object:
    for key in _TIMES:
        value = record.get(key)
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return value
    inner = record.get("record")  # loguru's
    if isinstance(inner, dict) and isinstance(time := inner.get("time"), dict):
        return time.get("timestamp")
    return None


def _text(record: Mapping[str, Any]) -> str:
    for key in _TEXTS:
        value = record.get(key)
        if isinstance(value, str):
            return value
    return ""
