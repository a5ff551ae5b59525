"""The site, as Sphinx builds it out of docs/ and the READMEs.

    tox -e docs

The whole project is the source folder, so that a link is the same on GitHub and on the site.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machinery import api, commands, diagrams, navigation, options

from pytest_memleak import __version__

ROOT = Path(__file__).resolve().parent.parent

project = "pytest-memleak"
author = "pytest-memleak contributors"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = navigation.START
include_patterns = ["docs/**.md", *(f"{page}.md" for page in navigation.OUTSIDE)]
# No page lies there, so that they need not be searched.
exclude_patterns = [".*", "**/.*", "build", "pytest_memleak", "tests"]

# They would make one dash of the two of an option.
smartquotes = False
# As GitHub makes them. A link to any other is a warning, and a warning ends the build.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
html_title = f"pytest-memleak {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_extra_path = ["_root"]
# The search finds names too, and the list of them is too wide for a phone.
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False

GENERATED = {
    "docs/reference/options": options.page,
    "docs/reference/commands": commands.page,
    "docs/reference/api": api.page,
}


def complete(_: Any, page: str, source: list[str]) -> None:
    """Add to a page what is generated of it, and to the start page the navigation."""
    if page in GENERATED:
        source[0] += "\n" + GENERATED[page]()
    source[0] += navigation.added_to(page, ROOT)


def plain_docstring(*told: Any) -> None:
    """Docstrings are plain text with `code` in them. Sphinx gives their lines last, to be changed in place."""
    lines = told[-1]
    lines[:] = api.as_rst(lines)


def signature(*told: Any) -> tuple[str, None] | None:
    """No signature of what its users never make. Sphinx tells the app, the kind, the name, the object and more."""
    return ("", None) if told[3] in api.UNMADE else None


def setup(app: Any) -> None:
    """What Sphinx calls with itself."""
    from pygments.lexers.special import TextLexer

    # Pygments' own lexer for it does not know the names of recorded series, `process:rss_bytes:sum`.
    app.add_lexer("promql", TextLexer)
    app.connect("source-read", complete)
    app.connect("doctree-read", diagrams.draw)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-process-signature", signature)
