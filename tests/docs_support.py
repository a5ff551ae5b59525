"""The docs as their tests read them: blocks, tables, links, and the projects that their Python makes.

A block of Python begins with the file that it is, `# tests/test_items.py`, or with `# fragment`. All files of a page
make one project. A file that a page shows twice is shown as it was and as it is repaired: two stages of the project.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FRAGMENT = "# fragment"

APP = """
from fastapi import Body, FastAPI

app = FastAPI()


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> int:
    return item_id


@app.post("/items")
async def add_item(item: dict[str, str] = Body()) -> dict[str, str]:
    return item


@app.get("/search")
async def search(q: str) -> str:
    return q
"""
"""The service that a page's tests use where it shows none."""


def tokens(page: Path) -> list[Token]:
    """A page's blocks, with tables."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page, with what the comment directly above it says: `<!-- not run: needs a cluster -->`."""

    page: Path
    language: str
    content: str
    comment: str
    line: int
    """The number of the line that opens it, for messages."""

    @property
    def commands(self) -> list[str]:
        """The commands of a block of the shell: all lines of `sh`, those after a prompt of `console`."""
        lines = self.content.splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line]

    @property
    def output(self) -> str:
        """What a block shows of what was printed: of `console` the lines below the prompt, otherwise all."""
        if self.language == "console":
            return "".join(line + "\n" for line in self.content.splitlines() if not line.startswith("$ "))
        return self.content


def fenced(page: Path) -> list[Block]:
    """The fenced blocks of a page, whatever their language."""
    found = []
    comment = ""
    for token in tokens(page):
        if token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page=page, language=token.info, content=token.content, comment=comment, line=line))
        comment = (
            token.content.strip().removeprefix("<!--").removesuffix("-->").strip() if token.type == "html_block" else ""
        )
    return found


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def tables(page: Path) -> dict[str, list[list[str]]]:
    """The rows of each table by its first heading and how many columns it has: `argument/4`."""
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    cell = False
    for token in tokens(page):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            cell = True
        elif token.type == "inline" and cell:
            rows[-1].append(token.content)
            cell = False
        elif token.type == "table_close":
            found[f"{rows[0][0]}/{len(rows[0])}"] = rows[1:]
    return found


def links(page: Path) -> list[str]:
    """Where a page's links lead."""
    inline = [child for token in tokens(page) for child in token.children or ()]
    return [str(token.attrs["href"]) for token in inline if token.type == "link_open"]


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = [line.lstrip("# ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def stages(page: Path) -> list[dict[str, str]]:
    """The project of a page as its files are shown first, second, …, by path."""
    versions: dict[str, list[str]] = {}
    for code in blocks(page, "python"):
        first = code.partition("\n")[0]
        if first != FRAGMENT:
            versions.setdefault(first.removeprefix("# "), []).append(code)
    count = max(map(len, versions.values()), default=0)
    return [{path: seen[min(stage, len(seen) - 1)] for path, seen in versions.items()} for stage in range(count)]


def lay_out(folder: Path, page: Path, stage: int) -> None:
    """Write a page's project of one stage."""
    for path, code in {"app/main.py": APP, **stages(page)[stage]}.items():
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
