"""The user's own patterns: a regular expression with named groups, tried on every line."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pytest_memleak.logs import keys, sizes
from pytest_memleak.logs.figures import Figure
from pytest_memleak.logs.whose import Owner

MOST_LINE: Final = 4096
"""Bytes of a line that a user's pattern sees. It bounds what is read, not what a pattern may do: one with nested
repetitions can take for ever on forty characters, which only a clock can end (the caller's)."""

_GROUPS: Final = {"memory", "unit", "time", "pid"}


class PatternError(Exception):
    """A pattern cannot be used; the message is one sentence for the user."""


class Found(NamedTuple):
    """What a pattern matched."""

    owner: Owner | None
    figure: Figure
    time: str


class OwnPattern:
    """One `--pattern`. Raises PatternError when it is no regular expression, or has no group `memory`."""

    def __init__(self, text: str) -> None:
        try:
            self._pattern = re.compile(text.encode())
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(f"--pattern {text!r} is no regular expression: {error}") from None
        groups = set(self._pattern.groupindex)
        if "memory" not in groups or groups - _GROUPS:
            extra = f", not {', '.join(sorted(groups - _GROUPS))}" if groups - _GROUPS else ""
            raise PatternError(
                f"--pattern {text!r} expects the named group (?P<memory>…), and may have unit, time and pid{extra}: "
                r"such as 'heap (?P<memory>[\d.]+) (?P<unit>\w+)'"
            )
        self._groups = groups
        self.search = self._pattern.search

    def read(self, match: re.Match[bytes], bare: float | None) -> Found | None:
        """The figure of what `search` found in a line of at most MOST_LINE bytes; None where it is no size."""
        said = self._group(match, "memory")
        parsed = sizes.parse_size(said)
        if parsed is None:
            return None
        value, factor = parsed
        if factor is None:
            unit = self._group(match, "unit")
            factor = sizes.factor(unit) if unit else None
        level = sizes.level(value, factor, bare)
        if level == 0.0:
            return None
        pid = self._group(match, "pid")
        owner = Owner("", int(pid)) if pid.isascii() and pid.isdigit() and len(pid) <= 10 else None
        return Found(
            owner or (Owner(pid[:64], 0) if pid else None), Figure("memory", keys.RSS, level), self._time(match)
        )

    def _group(self, match: re.Match[bytes], name: str) -> str:
        value = match[name] if name in self._groups else None
        return value.decode("utf-8", "replace").strip() if value else ""

    def _time(self, match: re.Match[bytes]) -> str:
        return self._group(match, "time")
