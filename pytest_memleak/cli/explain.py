"""`memleak explain`: the section of an error, or of a leak pattern, in the terminal."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.slugs import SLUGS

_NAME: Final = "explain"
_MAX_WIDTH: Final = 120


def explain(
    slug: Annotated[
        str,
        typer.Argument(help="What stands at a message's end, or a leak pattern such as MLK001.", show_default=False),
    ] = "",
) -> None:
    """Explain an error by its slug, or a leak pattern.

    Without a slug it lists them all. The texts are those of the page docs/errors.md, which is part of the package.

    Example: memleak explain which-process
    """
    from pytest_memleak.scan.settings import CODES

    patterns = {name: code for code, name in CODES.items()} | {code: code for code in CODES}
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    if not slug:
        refusal.say(_listed(patterns))
    elif slug in SLUGS:
        refusal.say(_rendered(_section(slug), width))
    elif code := patterns.get(slug) or patterns.get(slug.upper()):
        refusal.say(_pattern(code, width))
    else:
        close = difflib.get_close_matches(slug, [*SLUGS, *patterns], n=1)
        hint = f"did you mean {close[0]}?" if close else "leave it away to see them all"
        refusal.refuse(_NAME, f"there is no {slug!r}: {hint}")


def _listed(patterns: Mapping[str, str]) -> str:
    room = max(map(len, SLUGS))
    lines = [f"{slug:<{room}}  {about}" for slug, about in SLUGS.items()]
    named = [f"{code} {name}" for name, code in patterns.items() if name != code]
    return "\n".join(
        ["errors:", *(f"  {line}" for line in lines), "", "leak patterns:", *(f"  {one}" for one in named)]
    )


def _pattern(code: str, width: int) -> str:
    from pytest_memleak.reports.explain import explain as explain_rule
    from pytest_memleak.scan.registry import RULES
    from pytest_memleak.scan.settings import CODES

    not_reported = {rule.CODE: rule.NOT_REPORTED for rule in RULES}
    return explain_rule(code, CODES[code], not_reported.get(code, ()), width=width)


def _section(slug: str) -> str:
    """The Markdown of one section of the page."""
    page = find_page()
    if page is None:
        refusal.refuse(_NAME, "the page of errors is not installed: reinstall pytest-memleak, or run it in a checkout")
    sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [f"## {section}" for section in sections if section.startswith(f"{slug}\n")]
    if not found:
        refusal.refuse(_NAME, f"{page} has no section {slug}: reinstall pytest-memleak")
    return found[0]


def find_page() -> Path | None:
    """The page of all errors: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    candidates = (package / "docs" / "errors.md", package.parent / "docs" / "errors.md")
    return next((page for page in candidates if page.is_file()), None)


def _rendered(markdown: str, width: int) -> str:
    """As a terminal shows it; plain where it goes into a file."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=width)
    with console.capture() as captured:
        console.print(Markdown(markdown, hyperlinks=False))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip()
