"""The site of the guides: no page is left out, and what is generated holds every option, command and public name.

The site itself is built by `tox -e docs`, where a warning is an error.
"""

from __future__ import annotations

import importlib
import itertools
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).resolve().parent.parent / "docs"))

from machinery import api, commands, dead_links, navigation, options

from pytest_memleak import cli, model, monitor, plugin
from pytest_memleak.settings import ALL_OPTIONS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def conf() -> dict[str, Any]:
    """The names of the site's configuration, as Sphinx has them."""
    return runpy.run_path(str(DOCS / "conf.py"))


def headings(markdown: str, level: int) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    pairs = itertools.pairwise(tokens)
    wanted = ("heading_open", f"h{level}")
    return [inline.content.strip("`") for token, inline in pairs if (token.type, token.tag) == wanted]


def sections(markdown: str, level: int) -> dict[str, str]:
    """The text below each heading of one level."""
    parts = re.split(rf"^{'#' * level} `?([^`\n]+)`?\n", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_what_the_configuration_names_is_there(conf: dict[str, Any]) -> None:
    for folder in (*conf["html_static_path"], *conf["html_extra_path"]):
        assert (DOCS / folder).is_dir()
    for file in (*conf["html_css_files"], *conf["html_js_files"]):
        assert (DOCS / conf["html_static_path"][0] / file).is_file()
    for page in conf["GENERATED"]:
        assert (ROOT / f"{page}.md").is_file()


def test_the_root_of_the_site_leads_to_the_start_page() -> None:
    assert f"url={navigation.START}.html" in (DOCS / "_root" / "index.html").read_text(encoding="utf-8")


def test_each_page_is_in_the_navigation() -> None:
    there = {path.relative_to(ROOT).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert there - navigation.pages(ROOT) == set()
    assert len(set(navigation.ENTRIES)) == len(navigation.ENTRIES)


def test_each_entry_outside_the_guides_is_a_page() -> None:
    assert [page for page in navigation.OUTSIDE if not (ROOT / f"{page}.md").is_file()] == []


def test_the_start_page_gets_the_navigation_of_the_pages_that_are_there(conf: dict[str, Any]) -> None:
    source = ["# Start"]
    conf["complete"](None, navigation.START, source)
    listed = re.findall(r"^(?:.* <)?/([\w/-]+)>?$", source[0], flags=re.MULTILINE)
    there = {page for page in map(navigation.page_of, navigation.ENTRIES) if (ROOT / f"{page}.md").exists()}
    assert set(listed) == there
    assert set(re.findall(r"^:caption: (.+)$", source[0], flags=re.MULTILINE)) == set(navigation.PARTS)


def test_the_page_of_the_patterns_leads_to_all_of_them() -> None:
    added = navigation.added_to(navigation.PATTERNS, ROOT)
    assert re.findall(r"/docs/patterns/(\w+)", added) == sorted(
        path.stem for path in (DOCS / "patterns").glob("*.md") if path.stem != "index"
    )


def test_other_pages_are_left_as_they_are(conf: dict[str, Any]) -> None:
    source = ["# Concepts"]
    conf["complete"](None, "docs/concepts", source)
    assert source == ["# Concepts"]


@pytest.mark.parametrize("page", ["options", "commands", "api"])
def test_what_is_generated_comes_below_what_is_written(page: str, conf: dict[str, Any]) -> None:
    name = f"docs/reference/{page}"
    source = ["# Title\n\nIntroduction.\n"]
    conf["complete"](None, name, source)
    assert source[0].startswith("# Title\n\nIntroduction.\n\n## ")
    assert source[0].endswith(conf["GENERATED"][name]())


def test_each_option_has_its_section_with_each_way_to_set_it() -> None:
    found = sections(options.page(), 3)
    assert sorted(found) == sorted(option.name for option in ALL_OPTIONS)
    for option in ALL_OPTIONS:
        text = found[option.name]
        assert option.help.lower() in text.lower()
        assert (f"| command line | `{option.flag}`" in text) == option.config
        assert (f"| ini file | `{option.ini}` |" in text) == option.config
        assert (f"| marker, fixture | `{option.name}` |" in text) == option.marker
        assert f"| default | {options.default_of(option)} |" in text
        assert all(choice in text for choice in option.choices)


def test_a_default_is_shown_as_it_would_be_written() -> None:
    shown = {option.name: options.default_of(option) for option in ALL_OPTIONS}
    assert [shown[name] for name in ("memleak", "rps", "max_mb_per_min", "ignore", "inconclusive", "duration")] == [
        "off",
        "50",
        "none",
        "none",
        "`warn`",
        "30m",
    ]


def help_of(*words: str) -> str:
    result = CliRunner().invoke(cli.app, [*words, "--help"], terminal_width=200, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_each_command_of_the_help_has_its_section() -> None:
    listed = re.findall(r"^  ([a-z][\w-]*)  ", help_of().partition("Commands:")[2], flags=re.MULTILINE)
    assert "detect" in listed
    assert headings(commands.page(), 2) == ["Of all of them", *(f"memleak {name}" for name in listed)]


@pytest.mark.parametrize("name", commands.names())
def test_each_option_of_a_command_s_help_is_in_its_section(name: str) -> None:
    text = sections(commands.page(), 2)[f"memleak {name}"]
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(name).partition("Options:")[2]))
    assert "--help" in flags
    assert {flag for flag in flags if not re.search(rf"{flag}(?![\w-])", text)} == set()


@pytest.mark.parametrize("name", commands.names())
def test_each_table_of_a_command_has_two_columns(name: str) -> None:
    text = sections(commands.page(), 2)[f"memleak {name}"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


def named_on_the_page() -> list[str]:
    return re.findall(r"^\.\. auto(?:class|function):: (\S+)$", api.page(), flags=re.MULTILINE)


def test_each_name_on_the_page_of_names_exists_and_has_a_docstring() -> None:
    for name in named_on_the_page():
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def test_the_page_of_names_has_the_monitor_s_and_what_results_are_made_of() -> None:
    found = named_on_the_page()
    assert len(set(found)) == len(found)
    assert {f"pytest_memleak.monitor.{name}" for name in monitor.__all__} <= set(found)
    names = {name.rpartition(".")[2] for name in found}
    assert {"Result", "Leak", "Holder", "Site", "Frame", "Outcome", "Budget", "SoakResult", "EndpointGrowth"} <= names


def test_a_result_s_parts_are_found_through_tuples_and_unions() -> None:
    assert api.reached(model.Leak) == {model.Leak, model.Resource, model.Site, model.Frame, model.Holder}


def test_the_page_of_names_has_every_fixture() -> None:
    fixtures = {name for name, thing in vars(plugin).items() if isinstance(thing, type(plugin.memleak))}
    assert fixtures == set(api.FIXTURES)
    assert headings(api.page(), 3) == list(api.FIXTURES)


def test_a_docstring_means_nothing_but_its_code() -> None:
    assert api.as_rst(["`a_` and *b*, c_, |d|", "", "  `x", "y` \\n"]) == [
        "``a_`` and \\*b\\*, c\\_, \\|d\\|",
        "",
        "  ``x",
        "y`` \\\\n",
    ]


PAGE = '<html><head>{head}</head><body><h1 id="top">Top</h1>{body}</body></html>'


def write_site(folder: Path, *, head: str = "", body: str = "", style: str = "") -> list[str]:
    """A site of two pages, and the faults that are found in it."""
    (folder / "a").mkdir()
    (folder / "style.css").write_text(style, encoding="utf-8")
    (folder / "index.html").write_text(PAGE.format(head=head, body=body), encoding="utf-8")
    (folder / "a" / "b.html").write_text(
        PAGE.format(head="", body='<a href="../index.html#top">up</a>'), encoding="utf-8"
    )
    return list(dead_links.faults(folder.resolve()))


def test_a_site_whose_links_all_lead_somewhere_has_no_fault(tmp_path: Path) -> None:
    head = '<link rel="stylesheet" href="style.css?v=1"><link rel="canonical" href="https://example.org/">'
    leads = ("a/b.html#top", "#top", "https://example.org/x#y", "mailto:a@b.c")
    body = "".join(f'<a href="{link}"></a>' for link in leads)
    assert write_site(tmp_path, head=head, body=body, style="p {{ background: url(data:image/png;base64,AA) }}") == []


@pytest.mark.parametrize(
    "body, fault",
    [
        ('<a href="a/c.html"></a>', "index.html: a/c.html: no such file"),
        ('<a href="a/b.html#bottom"></a>', "index.html: a/b.html#bottom: no such place in the page"),
        ('<a href="#bottom"></a>', "index.html: #bottom: no such place in the page"),
        ('<img src="picture.png">', "index.html: picture.png: no such file"),
        ('<script src="https://example.org/x.js"></script>', "index.html: loads https://example.org/x.js"),
        ('<img src="//example.org/x.png">', "index.html: loads //example.org/x.png"),
    ],
)
def test_a_dead_link_and_a_foreign_file_are_faults(tmp_path: Path, body: str, fault: str) -> None:
    assert write_site(tmp_path, body=body) == [fault]


@pytest.mark.parametrize(
    "style", ["@import 'https://example.org/f.css';", "@font-face { src: url(https://example.org/f.css) }"]
)
def test_a_style_that_loads_from_elsewhere_is_a_fault(tmp_path: Path, style: str) -> None:
    assert write_site(tmp_path, style=style) == ["style.css: loads https://example.org/f.css"]


def test_an_empty_site_is_a_fault(tmp_path: Path) -> None:
    assert list(dead_links.faults(tmp_path)) == [f"{tmp_path}: no page"]
