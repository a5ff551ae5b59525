"""A leak's failure text with colours where the terminal has them; plain text everywhere else."""

from __future__ import annotations

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
            for number, line in enumerate("\n".join(lines).split("\n")):
                tw.line(line, **_markup_of(line, first=number == 0))
        for name, content, sep in self.sections:
            tw.sep(sep, name)
            tw.line(content)


def _markup_of(line: str, *, first: bool) -> dict[str, bool]:
    if first or line.startswith("leak "):
        return {"red": True, "bold": True}
    if set(line.strip()) == {"~"}:
        return {"red": True}
    return next((markup for start, markup in _MARKUP if line.startswith(start)), {})
