"""The monitor's page in a real Chromium, against a real server under real requests."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_support import CHROMIUM, CONTRASTS, Browser, browser
from monitor_support import PREFIX, Served, served

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
    pytest.mark.skipif(sys.platform == "win32", reason="the pipes to the browser"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "numpy", "scipy", "uvicorn")),
        reason="needs the extra monitor, and uvicorn",
    ),
]

ODD = "/<img src=x onerror=alert(1)><b>bold</b>"

# A verdict within seconds, of the last seconds only: what it takes to load what judges is soon out of sight.
OPTIONS = "interval_s=0.1, history_minutes=0.15"

SHOP = (
    """
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from pytest_memleak.monitor import setup_memory_monitoring

    app = FastAPI()
    KEPT = []

    @app.get("/leaky/{number}")
    async def leaky(number: int):
        KEPT.append("x" * 50_000 + str(number))
        return number

    @app.get("/light")
    async def light():
        return {}

    @app.get("ODD/{number}")
    async def odd(number: int):
        return number

    setup_memory_monitoring(app, %s)
    behind = Starlette(routes=[Mount("/shop", app)])
"""
).replace("ODD", ODD)

LOADED = "document.querySelectorAll('#endpoint-rows tr').length > 0"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@contextlib.contextmanager
def visited(server: Served, prefix: str = "") -> Iterator[None]:
    """Requests one after another, until it is over."""
    over = threading.Event()
    odd = ODD.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20")

    def visit() -> None:
        number = 0
        while not over.wait(0.01):
            number += 1
            path = (f"/leaky/{number}", "/light", "/light", f"{odd}/{number}")[number * 7 % 11 % 4]
            server.ask(prefix + path)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A shop that leaks, below a path that it knows nothing of."""
    command = ("uvicorn", "app:behind", "--log-level=warning", "--port={port}")
    folder = tmp_path_factory.mktemp("shop")
    with served(folder, *command, source=SHOP, options=OPTIONS) as server, visited(server, "/shop"):
        yield server


@pytest.fixture(scope="module")
def address(shop: Served) -> str:
    return f"http://127.0.0.1:{shop.port}/shop{PREFIX}"


def test_the_page_shows_the_leak_and_asks_nobody_else(chromium: Browser, address: str) -> None:
    with chromium.page(address) as page:
        page.until("document.querySelectorAll('#endpoint-rows tr').length > 1")
        # Seconds are too short for a full collection by itself, and one that comes too early says nothing of the rest.
        click = "document.querySelector('#collect').click()"
        page.until(f"document.querySelector('#endpoint-rows .leak') !== null || void {click}")
        page.until(f"document.querySelector('#collect-text').textContent.includes(' has freed ') || void {click}")
        page.until("document.querySelector('#verdict-word').textContent.startsWith('leak')")
        row = page.texts("#endpoint-rows tr:first-child > *")
        assert (row[0], row[-1]) == ("GET /shop/leaky/{number}", "leaks")
        assert float(row[1]) > 1
        assert " to " in row[2]
        assert "Live heap: grew " in page.texts("#verdict-why")[0]
        for curve in ("#rss", "#live"):
            assert page.value(f"document.querySelector('{curve} .curve').getAttribute('d').length") > 200
        assert len(page.texts("#gc-rows tr")) == 3
        assert page.value("document.getElementById('workers').hidden")
        origin = address.partition("/shop")[0]
        asked = [request["url"] for request in page.asked()]
        assert [url for url in asked if url != address and not url.startswith(address + "/")] == []
        assert {url.removeprefix(origin).partition("?")[0].rpartition("/")[2] for url in asked} >= {"leaks", "history"}
        assert page.complaints() == []


def test_the_curves_go_on_by_themselves(chromium: Browser, address: str) -> None:
    with chromium.page(address) as page:
        page.until(LOADED)
        first = page.texts("#state")[0]
        page.until(f"document.getElementById('state').textContent !== '{first}'")
        path = page.value("document.querySelector('#live .curve').getAttribute('d')")
        page.until(f"document.querySelector('#live .curve').getAttribute('d') !== '{path}'")
        # Nothing is left over from the round before.
        assert page.value("document.querySelectorAll('#live .curve').length") == 1


def test_types_are_counted_when_somebody_asks(chromium: Browser, address: str) -> None:
    with chromium.page(address) as page:
        page.until(LOADED)
        assert page.value("document.getElementById('types-table').hidden")
        page.value("document.getElementById('count').click()")
        page.until("!document.getElementById('types-table').hidden")
        assert page.texts("#types-caption")[0].startswith("Process ")
        assert page.value("document.querySelectorAll('#type-rows tr').length") <= 12
        assert not [one for one in page.asked() if one["method"] == "POST"]
        assert page.complaints() == []


def test_a_name_of_the_users_is_text_and_no_markup(chromium: Browser, address: str) -> None:
    with chromium.page(address) as page:
        page.until("document.getElementById('endpoint-rows').textContent.includes('<b>bold</b>')")
        assert f"GET /shop{ODD}/{{number}}" in page.texts("#endpoint-rows th")
        assert page.value("document.querySelectorAll('main b, main img').length") == 0
        assert page.complaints() == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_is_readable_and_fits(chromium: Browser, address: str, width: int, dark: bool) -> None:
    with chromium.page(address, width=width, dark=dark) as page:
        page.until(LOADED)
        page.value("document.getElementById('count').click()")
        page.until("document.querySelectorAll('#type-rows tr').length > 0")
        page.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        seen, poor = page.value(CONTRASTS)
        assert seen > 60
        assert poor == []
        assert page.value("document.documentElement.scrollWidth") <= width
        levels = page.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(levels) < 64) is dark


def test_a_screen_reader_finds_its_way(chromium: Browser, address: str) -> None:
    with chromium.page(address, width=390) as page:
        page.until(LOADED)
        nodes = page.command("Accessibility.getFullAXTree")["nodes"]
        found: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                role = node["role"]["value"]
                found.setdefault(role, []).append(node.get("name", {}).get("value", ""))
        assert {"banner", "main", "contentinfo", "heading", "status"} <= set(found)
        regions = {"Verdict", "Memory", "Endpoints", "Growth by type", "Garbage collector"}
        assert set(found["region"]) == regions
        # On a phone too the tables are tables, though none is drawn as one.
        assert "What the requests of each keep of the live heap, the most first" in found["table"]
        assert {"Endpoint", "MB/min", "99 % interval"} <= set(found["columnheader"])
        curves = [name for name in found["image"] if " now, " in name]
        assert [name.partition(":")[0] for name in curves] == ["RSS", "Live heap"]
        for role in ("button", "combobox", "checkbox"):
            assert all(found[role]), role


def test_without_the_server_it_says_so_and_asks_less_often(chromium: Browser, address: str) -> None:
    offline: dict[str, Any] = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    with chromium.page(address) as page:
        page.until(LOADED)
        page.command("Network.emulateNetworkConditions", offline=True, **offline)
        page.until("document.getElementById('problem').textContent === 'The server cannot be reached.'")
        assert page.texts("#state") == ["Trying again in 4 s"]
        page.until("document.getElementById('state').textContent === 'Trying again in 8 s'")
        # What was seen stays in sight.
        assert not page.value("document.getElementById('figures').hidden")
        page.command("Network.emulateNetworkConditions", offline=False, **offline)
        # Another window is asked for at once.
        page.value("document.getElementById('window').dispatchEvent(new Event('change'))")
        page.until("document.getElementById('problem').hidden")


def test_the_token_is_asked_for_before_anything_is_shown_and_no_script_can_read_it(
    chromium: Browser, tmp_path: Path
) -> None:
    options = f"token='secret', prefix='/ops/memory', {OPTIONS}"
    with served(tmp_path, source=SHOP, options=options) as server, visited(server):
        address = f"http://127.0.0.1:{server.port}/ops/memory"
        with chromium.page(address) as page:
            page.until("document.activeElement.name === 'token'")
            # Nothing was loaded that tells what this is.
            assert page.value("[document.title, document.scripts.length]") == ["Unauthorized", 0]
            _enter(page, "wrong")
            page.until("document.querySelector('[role=alert]').textContent === 'This is not the token.'")
            _enter(page, "secret")
            page.until(LOADED)
            assert page.value("location.pathname") == "/ops/memory/"
            assert page.value("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
            assert not [one["url"] for one in page.asked() if "secret" in one["url"]]
            page.value("document.getElementById('baseline').click()")
            page.until("!document.getElementById('types-table').hidden")
            page.command("Page.reload")
            page.until(f"document.readyState === 'complete' && {LOADED}")
            page.value("document.getElementById('forget').click()")
            page.until("document.readyState === 'complete' && document.activeElement.name === 'token'")
            # That a refusal is in the console is the browser's doing.
            assert [one for one in page.complaints() if "401 (Unauthorized)" not in one] == []


def _enter(page: Any, token: str) -> None:
    page.until("document.readyState === 'complete' && document.forms.length === 1")
    page.value(f"document.forms[0].token.value = '{token}'")
    page.value("document.querySelector('button').click()")


ROTATED = """
    @app.get("/rotate")
    async def rotate():
        from pytest_memleak.monitor import teardown
        teardown(app)
        setup_memory_monitoring(app, token="another")
"""


def test_a_new_token_ends_what_the_old_one_has_opened(chromium: Browser, tmp_path: Path) -> None:
    with (
        served(tmp_path, source=SHOP + ROTATED, options=f"token='secret', {OPTIONS}") as server,
        chromium.page(f"http://127.0.0.1:{server.port}{PREFIX}/") as page,
    ):
        _enter(page, "secret")
        page.until("!document.getElementById('figures').hidden")
        server.get("/rotate")
        assert page.until("document.getElementById('problem').textContent.includes('asks for the token again (401)')")


def test_each_worker_has_a_curve_of_its_own(chromium: Browser, tmp_path: Path) -> None:
    command = ("uvicorn", "app:app", "--workers=2", "--log-level=warning", "--port={port}", "--timeout-keep-alive=0")
    with served(tmp_path, *command, source=SHOP, options=OPTIONS) as server, visited(server):
        address = f"http://127.0.0.1:{server.port}{PREFIX}/"
        with chromium.page(address) as page:
            page.until("document.querySelectorAll('#rss .curve').length === 2")
            page.until("!document.getElementById('workers').hidden")
            pids = page.value("[...document.querySelectorAll('#worker-choice input')].map((one) => Number(one.value))")
            assert len(set(pids)) == 2
            for pid in pids:
                page.value(f"document.querySelector('#worker-choice input[value=\"{pid}\"]').click()")
                page.until(f"document.getElementById('process').textContent.startsWith('Worker {pid} of 2')")
                assert f"RSS of worker {pid}: " in page.texts("#rss p")[0]
            assert page.complaints() == []


def test_what_a_tab_keeps_is_bounded(chromium: Browser, address: str) -> None:
    with chromium.page(address) as page:
        page.until(LOADED)
        found = page.value(
            """
            import("./workers.js").then(({ Workers }) => {
              const workers = new Workers();
              const reading = (t) => ({ t, rss_bytes: 1e6 + t, live_bytes: null });
              for (let t = 0; t < 20000; t += 1) {
                workers.add(workers.heard(1, t), { readings: [reading(t / 10)] }, t ? 1 : 60);
              }
              const points = workers.byPid.get(1).points;
              const span = [points.length, points[0].t, points.at(-1).t];
              for (let pid = 2; pid < 200; pid += 1) workers.heard(pid, 30000 + pid);
              const many = workers.all.length;
              workers.heard(500, 10000000);
              return [...span, many, workers.all.length, workers.chosen];
            })
            """
        )
        size, first, last, many, left, chosen = found
        assert 700 < size <= 1500
        assert (first, round(last)) == (0, 2000)
        assert (many, left, chosen) == (12, 1, 500)
