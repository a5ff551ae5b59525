"""`[tool.memleak.scan]` of the nearest pyproject.toml, and the words of the scan's options."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pytest_memleak.model_scan import Confidence, Severity
from pytest_memleak.scan.registry import RULES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # pytest brings it to 3.10

CODES: Final[Mapping[str, str]] = {str(rule.CODE): str(rule.PATTERN) for rule in RULES}
"""Each pattern's code. Stable: a code is never given to another pattern."""

LEVELS: Final = ("low", "medium", "high")
KEYS: Final = ("select", "ignore", "exclude", "severity", "confidence", "baseline")


class SettingError(Exception):
    """A setting that is wrong; the message names it, what it expects and what it got."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """What a scan is asked for; empty where nothing is."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    severity: str = ""
    confidence: str = ""
    baseline: str = ""


def configured(start: Path) -> ScanSettings:
    """The settings of the nearest pyproject.toml at or above a folder. Raises SettingError."""
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if os.path.isfile(path):  # noqa: PTH113  (Path raises where a folder may not be entered)
            return _read(path)
    return ScanSettings()


def _read(path: Path) -> ScanSettings:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    table: Any = document
    for name in ("tool", "memleak", "scan"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise SettingError(f"{path}: [tool.memleak.scan]: expects a table, got {table!r}")
    parsed = {key: _value(key, value, f"{path}: [tool.memleak.scan] {key}") for key, value in table.items()}
    if "baseline" in parsed:
        parsed["baseline"] = str(path.parent / parsed["baseline"])
    return ScanSettings(**parsed)


def _value(key: str, value: object, spelt: str) -> Any:
    if key not in KEYS:
        close = difflib.get_close_matches(key, KEYS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise SettingError(f"{spelt}: unknown key{hint} Valid keys: {', '.join(KEYS)}")
    if key in ("severity", "confidence", "baseline"):
        if not isinstance(value, str):
            raise SettingError(f"{spelt}: expects text, got {value!r}")
        return value if key == "baseline" else parse_level(value, spelt)
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise SettingError(f"{spelt}: expects a list of text, got {value!r}")
    return tuple(value) if key == "exclude" else parse_codes(value, spelt)


def parse_codes(words: Iterable[str], spelt: str) -> tuple[str, ...]:
    """Codes out of codes, pattern names and comma lists of them. Raises SettingError."""
    named = {**{name: code for code, name in CODES.items()}, **{code.lower(): code for code in CODES}}
    codes = []
    for word in (part.strip() for each in words for part in each.split(",")):
        code = named.get(word.lower().replace("-", "_"))
        if code is None:
            close = difflib.get_close_matches(word.lower(), named, n=1)
            hint = f", did you mean {named[close[0]]} ({CODES[named[close[0]]]})?" if close else ";"
            valid = ", ".join(f"{each} {name}" for each, name in CODES.items())
            raise SettingError(f"{spelt}: expects codes or names of patterns, got {word!r}{hint} There are: {valid}")
        codes.append(code)
    return tuple(dict.fromkeys(codes))


def parse_level(word: str, spelt: str) -> str:
    """`low`, `medium` or `high`. Raises SettingError."""
    if word.lower() not in LEVELS:
        raise SettingError(f"{spelt}: expects low, medium or high, got {word!r}")
    return word.lower()


def merged(file: ScanSettings, line: ScanSettings) -> ScanSettings:
    """The command line over the file: what it asks for replaces, what it leaves out adds up."""
    return ScanSettings(
        select=line.select or file.select,
        ignore=tuple(dict.fromkeys((*file.ignore, *line.ignore))),
        exclude=tuple(dict.fromkeys((*file.exclude, *line.exclude))),
        severity=line.severity or file.severity or "low",
        confidence=line.confidence or file.confidence or "medium",
        baseline=line.baseline or file.baseline,
    )


def reaches(value: Severity | Confidence, level: str) -> bool:
    """Whether a severity or a confidence is at least a level."""
    return LEVELS.index(value.value.lower()) >= LEVELS.index(level)
