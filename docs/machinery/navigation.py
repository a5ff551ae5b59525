"""Which pages the site has, in the order of its navigation.

The pages are read on GitHub too, where a list for a generator would be noise: so the list is here, and is added to
the start page while the site is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

START: Final = "docs/index"
PATTERNS: Final = "docs/patterns/index"

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Find a leak": (
        "docs/start-here",
        "docs/tutorial",
        "docs/quick-reference",
        "docs/debugging-guide",
        "docs/reading-the-report",
        PATTERNS,
    ),
    "Keep it out": (
        "docs/ci",
        "docs/verifying-a-fix",
        "docs/false-alarms",
    ),
    "In production": (
        "docs/observability",
        "The files of deploy/ <deploy/README>",
    ),
    "Understand": (
        "docs/concepts",
        "docs/how-it-works",
        "docs/comparison",
        "docs/architecture",
        "docs/abandoned-ideas",
    ),
    "Reference": (
        "docs/reference/options",
        "docs/reference/commands",
        "docs/errors",
        "docs/reference/api",
        "The README <README>",
        "The bundled shop <examples/README>",
        "The benchmarks <benchmarks/README>",
    ),
}
"""Each entry is a page, its path in the project without `.md`, or a title with that path in angle brackets."""


def page_of(entry: str) -> str:
    """The page of an entry."""
    return re.sub(r".*<|>$", "", entry)


ENTRIES: Final = tuple(entry for entries in PARTS.values() for entry in entries)
OUTSIDE: Final = tuple(page for page in map(page_of, ENTRIES) if not page.startswith("docs/"))
"""The pages of the site that lie elsewhere than in `docs/`."""


def pages(root: Path) -> set[str]:
    """Every page that the navigation of the project at `root` leads to, the start page among them."""
    return {START, *map(page_of, ENTRIES), *_patterns(root)}


def added_to(page: str, root: Path) -> str:
    """What the navigation adds to the Markdown of a page of the project at `root`."""
    if page == START:
        there = {part: [entry for entry in entries if _is_there(entry, root)] for part, entries in PARTS.items()}
        return "".join(_toctree(entries, f":caption: {part}") for part, entries in there.items())
    return _toctree(_patterns(root)) if page == PATTERNS else ""


def _is_there(entry: str, root: Path) -> bool:
    return (root / f"{page_of(entry)}.md").exists()


def _patterns(root: Path) -> list[str]:
    names = sorted(path.stem for path in (root / PATTERNS).parent.glob("*.md"))
    return [f"docs/patterns/{name}" for name in names if name != "index"]


def _toctree(entries: Iterable[str], *options: str) -> str:
    """A list for Sphinx that shows in the navigation and not in the page."""
    # An absolute name: the start page is in a folder.
    lines = [entry.replace("<", "</") if "<" in entry else f"/{entry}" for entry in entries]
    return "\n".join(["", "", "```{toctree}", ":hidden:", *options, "", *lines, "```", ""])
