"""One rule explained: what it looks for, how it is mended, and what it leaves alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from pytest_memleak.patterns.catalogue import BY_NAME


def explain(code: str, pattern: str, not_reported: Sequence[str], *, width: int) -> str:
    """The text of `--explain`, wrapped to `width` columns."""
    known = BY_NAME[pattern]
    lines = [f"{code} {pattern} ({known.severity})", ""]
    lines += _wrapped(f"looks like: {known.looks_like}", width)
    lines += _wrapped(f"fix: {known.fix}", width)
    if not_reported:
        lines += ["", "not reported:"]
        lines += [line for sentence in not_reported for line in _wrapped(f"- {sentence}", width)]
    lines += ["", *_wrapped(f"where it is meant: # memleak: ignore[{code}] reason", width)]
    return "\n".join(lines)


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(
        words,
        width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
