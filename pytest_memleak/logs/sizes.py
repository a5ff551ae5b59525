"""Sizes as logs write them, in bytes.

The unit is what it says: MB is 1,000,000 bytes, MiB 1,048,576, as Kubernetes and Docker have it. The kernel and GNU
time write kB for 1,024 bytes: whoever reads their lines multiplies by KERNEL_KB. Many programs write MB for MiB, which
no line tells: a figure is then 5 % low, and so is its growth.
"""

from __future__ import annotations

import functools
import re
from typing import Final

KERNEL_KB: Final = 1024

# A number of bytes above a petabyte is a limit that nobody set (cgroup v1 has 2^63 for "none"), not a level.
MOST_BYTES: Final = 2.0**50

# A number without a unit is bytes if it may be: no Python process lives in less than a megabyte.
LEAST_BARE_BYTES: Final = 1_000_000

_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_WORDS: Final = {"kilo": "k", "mega": "m", "giga": "g", "kibi": "ki", "mebi": "mi", "gibi": "gi"}

NUMBER: Final = rb"\d{1,3}(?:,\d{3}){1,5}(?:\.\d{1,12})?|\d{1,19}(?:\.\d{1,12})?(?:[eE][+-]?\d{1,2})?"

# A capital alone (512M) is a unit, a small letter is not (5m: minutes, or a thousandth of a core).
UNIT: Final = (
    rb"[kKmMgGtT][iI]?[bB](?:ytes?)?|[KMGT]i?|[bB](?:ytes?)?|(?:[kK]ilo|[mM]ega|[gG]iga|[mM]ebi|[gG]ibi)bytes?"
)

SIZE: Final = re.compile(
    rb"(" + NUMBER + rb")[ \t]{0,3}(" + UNIT + rb")?(?![\w%]|\.\d|[ \t]?%)"
    rb"(?:[ \t]{0,2}(?:/|of|out of)[ \t]{0,2}(?:" + NUMBER + rb")[ \t]{0,2}(" + UNIT + rb")(?!\w))?"
)
"""A number and its unit, which may stand behind a second number (`300 of 512 MB`)."""


@functools.lru_cache(maxsize=512)
def factor(unit: str) -> float | None:
    """Bytes in one of `unit` (kB, KiB, Mi, MBytes, kilobytes, bytes); None when it is no unit of size."""
    word = unit.strip().lower().removesuffix("ytes").removesuffix("yte")
    for long, short in _WORDS.items():
        word = word.replace(long, short)
    word = word.removesuffix("b")
    if word.endswith("i") and word[:-1] in _POWERS and word != "i":
        return 1024.0 ** _POWERS[word[:-1]]
    if word in _POWERS and unit.strip():
        return 1000.0 ** _POWERS[word]
    return None


def number(text: bytes) -> float:
    """The number of what NUMBER matched."""
    return float(text.replace(b",", b""))


def parse_size(text: str) -> tuple[float, float | None] | None:
    """`512 MB` as 512 and 1e6, `512` as 512 and None; None for what is no size."""
    match = SIZE.fullmatch(text.strip().encode("ascii", "replace"))
    if match is None:
        return None
    unit = match[2] or match[3]
    return number(match[1]), factor(unit.decode()) if unit else None


def level(value: float, unit: float | None, bare: float | None) -> float | None:
    """The bytes of a figure: by its own unit, else by `bare` (what the user said), else as bytes if it can be.

    0.0 for what is no level (nothing, or more than any machine has), None where the unit is missing.
    """
    if unit is None:
        if value >= LEAST_BARE_BYTES:
            unit = 1.0
        elif bare is not None:
            unit = bare
        else:
            return None
    size = value * unit
    return size if 0 < size < MOST_BYTES else 0.0
