"""Levels of memory in a line of text: a name and a size near it.

No expression here can take long: every repetition has a bound, what stands before a name is looked at in a slice, and
a line is cut (MOST_TEXT) before it comes here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pytest_memleak.logs import keys, sizes


class Figure(NamedTuple):
    """One level: what it is called, how it ranks (`keys`), and its size. Without a unit `size` is None."""

    metric: str
    rank: int
    size: float | None


MOST_TEXT: Final = 4096
"""Bytes of a line of text that are looked at: nobody writes a figure further behind, and patterns are bounded by it."""

_MOST_NAMES: Final = 64
"""Names looked at in one line."""

_LONGEST_NAME: Final = 64
_BEFORE: Final = 40

_NAME: Final = re.compile(rb"[mM][eE][mM]|[rR][sS][sS]|[rR]esident set")
_WORD_CHARACTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_TO_THE_END: Final = re.compile(rb"(?:esident set(?: size)?)?[\w.\-]{0,64}")

# Between a name and its size: `memory usage is now: `, `RSS (MB) = `, `"rss": "`, `memory used 45.2 % (`.
_BETWEEN: Final = re.compile(
    rb"""["'\]]?((?:[ \t]{1,3}(?:usage|used|use|using|is|now|at|of|in|size|consumption|footprint|process|total"""
    rb"""|currently|current|reached|after|before|level|bytes|allocated|rss)\b){0,3})"""
    rb"""(?:[ \t](?:increased|grew|grown|rose|climbed|went up|fell|dropped|went down|changed)"""
    rb"""(?:[ \t]from[ \t][\d.,]{1,20}[ \t]?[A-Za-z]{0,5})?[ \t]to\b)?"""
    rb"""(?:[ \t]{0,2}[\[(]([\w ]{1,12})[\])])?[ \t]{0,3}((?:[:=]|->|=>|~|>)?)[ \t]{0,8}["'(~]?"""
    rb"""(?:\d{1,3}(?:\.\d{1,6})?[ \t]?%[ \t(,/\-]{1,4})?"""
)
# `512 MB RSS`, `1.2 GiB of memory`
_REVERSED: Final = re.compile(
    rb"(?<![\w.,])(" + sizes.NUMBER + rb")[ \t]{0,2}(" + sizes.UNIT + rb")[ \t](?:of |in )?(?:resident |process )?\Z"
)


def find(line: bytes, bare: float | None) -> list[Figure]:
    """The levels that a line names. `bare` is the unit of figures that have none."""
    found: list[Figure] = []
    end = 0
    for _ in range(_MOST_NAMES):
        match = _NAME.search(line, end)
        if match is None:
            break
        start, end = match.start(), match.end()
        lowest = max(0, start - _LONGEST_NAME)
        while start > lowest and line[start - 1] in _WORD_CHARACTERS:
            start -= 1
        rest = _TO_THE_END.match(line, match.start() + 1)
        end = max(end, rest.end() if rest else end)
        figure = _figure(line, start, end, bare)
        if figure is not None:
            found.append(figure)
    return found


def _figure(line: bytes, start: int, end: int, bare: float | None) -> Figure | None:
    """The figure of the name at `start`, to the right of it or else to the left."""
    name = line[start:end].strip(b".-").decode("ascii", "replace")
    key = keys.classify(name)
    if key is None:
        return None
    rank = key.rank
    word = line[max(0, start - 24) : start - 1].rpartition(b" ")[2] if line[start - 1 : start] == b" " else b""
    if word and keys.is_denied(word):
        if not (rank == keys.RSS and word.lower() in (b"max", b"maximum", b"peak", b"total")):
            return None
        rank = rank if word.lower() == b"total" else keys.PEAK
    between = _BETWEEN.match(line, end)
    size = sizes.SIZE.match(line, between.end()) if between else None
    if between is None or size is None:
        left = _REVERSED.search(line[max(0, start - _BEFORE) : start])
        if left is None:
            return None
        level = sizes.level(sizes.number(left[1]), sizes.factor(left[2].decode()), None)
        return Figure(key.metric, rank, level) if level else None
    unit = size[2] or size[3] or between[2]
    factor = key.factor
    if unit:
        said = sizes.factor(unit.decode())
        factor = said if said is not None else factor
        if key.metric in ("vmrss", "vm rss") and unit == b"kB":
            factor = float(sizes.KERNEL_KB)
    elif factor is None and not between[3] and key.rank != keys.RSS:
        return None  # "memory 12 times": a number behind such a name is a size only where one of them says so
    words = " ".join(word for word in between[1].decode("ascii", "replace").lower().split() if word[:2] == "us")
    level = sizes.level(sizes.number(size[1]), factor, bare)
    if level == 0.0:
        return None
    return Figure(f"{key.metric} {words}" if words else key.metric, rank, level)
