"""What a function opens and ends on one way out only, or never: subscriptions, images, what `__aenter__` takes."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import database_connection, event_listener, file_handle
from pytest_memleak.scan.suspect import Suspect


def found(source: str) -> list[Suspect]:
    module = Module(ast.parse(textwrap.dedent(source)), "app.main")
    return [each for rule in (database_connection, event_listener, file_handle) for each in rule.find(module)]


def _sure(source: str) -> list[str]:
    return [each.confidence.value for each in found(source)]


SUBSCRIBED = {
    "never ended": ("async for x in sub: break", ["MEDIUM"]),
    "ended on success": ("async for x in sub: break\nawait sub.unsubscribe()", ["LOW"]),
    "ended at once": ("sub.on = 1\nawait sub.unsubscribe()", []),
    "ended in a finally": ("try:\n    async for x in sub: break\nfinally:\n    await sub.stop()", []),
    "handed on": ("async for x in sub: break\nreturn sub", []),
    "given to with": ("async with sub: await sub.next()", []),
    "kept in a closure": ("def f():\n    return sub.x\nawait sub.next()", []),
    "not read": ("return 1", []),
}


@pytest.mark.parametrize("lines, sure", SUBSCRIBED.values(), ids=SUBSCRIBED)
def test_a_subscription_ends_on_every_way_out(lines: str, sure: list[str]) -> None:
    source = "async def f(bus):\n    sub = await bus.subscribe('a')\n" + textwrap.indent(lines, "    ")
    assert _sure(source) == sure


IMAGES = {
    "on the spot": ("return Image.open(image_path).size", ["MEDIUM"]),
    "in a local": ("i = Image.open(image_path)\nw, h = i.size\nreturn w, h, i.getbands()", ["MEDIUM"]),
    "read": ("i = Image.open(image_path)\ni.load()\nreturn i.size", []),
    "given on": ("i = Image.open(image_path)\nprint(i.size)\nreturn i", []),
    "closed": ("with Image.open(image_path) as i:\n    return i.size", []),
    "a stream": ("return Image.open(stream).size", []),
}


@pytest.mark.parametrize("lines, sure", IMAGES.values(), ids=IMAGES)
def test_an_image_opened_for_its_header_is_closed(lines: str, sure: list[str]) -> None:
    source = "from PIL import Image\ndef f(image_path, stream):\n" + textwrap.indent(lines, "    ")
    assert _sure(source) == sure


_GIVEN_BACK = """\
try:
    await self.c.begin()
except BaseException:
    await self._pool.release(self.c)
    raise
"""
ENTERED = {
    "awaits more": ("self.c = await self._pool.acquire()\nawait self.c.begin()", ["LOW"]),
    "gives it back": ("self.c = await self._pool.acquire()\n" + _GIVEN_BACK, []),
    "awaits nothing more": ("await self.ready()\nself.c = await self._pool.acquire()", []),
}


@pytest.mark.parametrize("lines, sure", ENTERED.values(), ids=ENTERED)
def test_what_is_acquired_on_entering_is_given_back_when_that_fails(lines: str, sure: list[str]) -> None:
    source = "class T:\n    async def __aenter__(self):\n" + textwrap.indent(lines, " " * 8)
    source += "\n    async def __aexit__(self, *a):\n        await self._pool.release(self.c)"
    assert _sure(source) == sure
