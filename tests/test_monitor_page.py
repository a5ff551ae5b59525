"""The monitor's page as it is served: to whom, with which headers, and nothing in it that a strict policy forbids."""

from __future__ import annotations

import importlib.resources
import re
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from fastapi import FastAPI
from monitor_support import PREFIX, ask, scope_of
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

from pytest_memleak.monitor import setup_memory_monitoring, teardown
from pytest_memleak.monitor.page import PAGE

FILES = importlib.resources.files("pytest_memleak.monitor").joinpath("page")
NAMES = sorted(entry.name for entry in FILES.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]

STRANGER = ("192.0.2.7", 5_000)


def text(name: str) -> str:
    return FILES.joinpath(name).read_text(encoding="utf-8")


def watched(**options: Any) -> FastAPI:
    app = FastAPI()
    setup_memory_monitoring(app, **options)
    return app


def get(app: FastAPI, path: str, **scope: Any) -> tuple[int, dict[str, str], bytes]:
    """What a request below the prefix gets; nothing of the monitor's runs on."""
    try:
        return ask(app, scope_of(PREFIX + path, **scope))
    finally:
        app.state.memleak_monitor.stop()


def test_each_file_is_served_and_none_else() -> None:
    assert {path.strip("/") or "page.html" for path in PAGE} == set(NAMES)


@pytest.mark.parametrize(
    "path, kind",
    [("/", "text/html"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")]
    + [(f"/{name}", "text/javascript") for name in SCRIPTS],
)
def test_a_file_is_served_under_a_strict_policy(path: str, kind: str) -> None:
    status, headers, body = get(watched(), path)
    assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
    assert body.decode() == text(path[1:] or "page.html")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize("below", ["", "/shop"])
def test_without_its_slash_the_address_leads_to_the_page_by_a_relative_one(below: str) -> None:
    app = watched()
    status, headers, _ = ask(Starlette(routes=[Mount(below, app)]), scope_of(below + PREFIX))
    app.state.memleak_monitor.stop()
    assert (status, headers["location"]) == (307, "memory/")


def test_without_a_token_a_stranger_gets_nothing_of_it() -> None:
    app = watched()
    answers = {get(app, path, client=STRANGER)[::2] for path in PAGE}
    assert answers == {(403, b'{"detail":"Forbidden"}')}


def test_the_page_is_no_part_of_the_api_and_goes_with_the_rest() -> None:
    app = watched()
    paths = app.openapi()["paths"]
    assert not {PREFIX + path for path in PAGE} & set(paths)
    teardown(app)
    assert ask(app, scope_of(PREFIX + "/"))[0] == 404


def test_the_page_refers_to_its_own_files_by_relative_addresses_only() -> None:
    referred = re.findall(r"(?:src|href)=\"([^\"#]+)\"", text("page.html"))
    for name in SCRIPTS:
        referred += [found.removeprefix("./") for found in re.findall(r"from \"([^\"]+)\"", text(name))]
    assert set(referred) == set(NAMES) - {"page.html"}
    for name in NAMES:
        assert set(re.findall(r"https?://[^\"' ]+", text(name))) <= {"http://www.w3.org/2000/svg"}
        assert "url(" not in text(name)


def test_nothing_in_it_needs_more_than_the_policy_or_makes_markup_of_text() -> None:
    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text("page.html")) == []
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser|createContextual"
    for name in SCRIPTS:
        assert re.findall(forbidden, text(name)) == [], name
        assert re.findall(r"localStorage|document\.cookie|indexedDB", text(name)) == [], name


def test_what_the_scripts_read_is_in_the_answers() -> None:
    """Every name with an underscore that the scripts take from an answer is one of the models' own."""
    from pytest_memleak.monitor import answers

    models = [one for one in vars(answers).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    known = {field for model in models for field in model.__annotations__}
    read = {found for name in SCRIPTS for found in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text(name))}
    strange = read - known
    assert strange == set()
