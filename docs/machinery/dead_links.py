"""Check a built site: every link inside leads to a page and a heading, and nothing is loaded from elsewhere.

Sphinx checks the links that the pages' authors wrote; this also sees those that the theme makes.

    python -m machinery.dead_links build/site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

LOADED: Final = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "audio": "src"}
"""What a browser fetches by itself, and the attribute that says from where."""

# A page of relations, not something that is fetched.
NOT_FETCHED: Final = {"canonical", "next", "prev", "search", "index", "author", "license"}


class Page(HTMLParser):
    """A page of the site: `ids` its places, `links` where it leads, `loaded` what it fetches."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found and found.get("rel") not in NOT_FETCHED:
            self.loaded.append(found[LOADED[tag]])


def faults(site: Path) -> Iterator[str]:
    """One sentence for each dead link, and for each thing that is fetched from elsewhere."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no page"
    for path, page in pages.items():
        shown = path.relative_to(site)
        for link in page.loaded:
            if urlsplit(link).netloc:
                yield f"{shown}: loads {link}"
        for link in [*page.links, *page.loaded]:
            if (fault := _fault(link, path, pages)) is not None:
                yield f"{shown}: {link}: {fault}"
    for style in sorted(site.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import\s)[\"'\s]*((?:https?:)?//[^\"')\s]+)", style.read_text("utf-8")):
            yield f"{style.relative_to(site)}: loads {address}"


def _fault(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].ids:
        return "no such place in the page"
    return None


def main() -> int:
    """Print the faults of the site that is named; 1 where there are any."""
    found = list(faults(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "every link leads somewhere, nothing is loaded from elsewhere")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
