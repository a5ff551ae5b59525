"""A leak's failure text with colours where the terminal has them; plain text everywhere else."""

from __future__ import annotations

import re
from typing import Any, Final

from _pytest._code.code import ExceptionChainRepr

_MARKUP: Final[tuple[tuple[str, dict[str, bool]], ...]] = (
    ("  where ", {"cyan": True}),
    ("  held  ", {"yellow": True}),
    ("  fix   ", {"green": True}),
    ("  again ", {"bold": True}),
)


class LeakRepr(ExceptionChainRepr):
    """pytest's own representation, whose lines are marked up when they are written to a terminal."""

    def toterminal(self, tw: Any) -> None:
        if not tw.hasmarkup:
            super().toterminal(tw)
            return
        for element, _, _ in self.chain:
            lines = [line for entry in element.reprentries for line in getattr(entry, "lines", ())]
            is_sentence = True
            for line in "\n".join(lines).split("\n"):
                is_sentence = is_sentence and bool(line)
                tw.line(line, **_markup_of(line, is_sentence=is_sentence))
        for name, content, sep in self.sections:
            tw.sep(sep, name)
            tw.line(content)


_TITLE: Final = re.compile(r"leak( \d+ of \d+)?(: .*)?")


def _markup_of(line: str, *, is_sentence: bool) -> dict[str, bool]:
    if is_sentence or _TITLE.fullmatch(line):
        return {"red": True, "bold": True}
    if set(line.strip()) == {"~"}:
        return {"red": True}
    return next((markup for start, markup in _MARKUP if line.startswith(start)), {})
