"""The diagrams, drawn while the site is built: a reader needs no script for them, and no network."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

CONFIG: Final = {
    "theme": "base",
    # Narrower than Mermaid's own 50, 50 and 200: a phone shows 390 pixels, the column of text 740.
    "flowchart": {"nodeSpacing": 24, "rankSpacing": 32, "wrappingWidth": 175, "diagramPadding": 4},
}


def drawn(source: str) -> str:
    """A diagram of Mermaid as an element of SVG whose colours come from the site's style sheet.

    Raises the renderer's error for a source that it cannot read.
    """
    import mermaidx  # of the site's environment alone

    svg = mermaidx.render(source, config=CONFIG).svg()
    # Two diagrams on one page must not share their arrowheads' names.
    name = "diagram-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    svg = re.sub(r"<style>.*?</style>", "", svg.replace("my-svg", name), flags=re.DOTALL)
    width = re.search(r"max-width: ([\d.]+)px", svg)
    if width is None:
        raise ValueError(f"the diagram has no width: {svg[:300]}")
    return f'<div class="diagram" style="--width: {float(width[1]):.0f}px" tabindex="0">{svg}</div>'


def draw(_: Any, document: Any) -> None:
    """Put a drawing in the place of each block of Mermaid in a page that Sphinx has read."""
    from docutils import nodes

    for block in list(document.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", drawn(block.astext()), format="html"))
