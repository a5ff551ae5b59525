"""Stores and caches of which a file shows that they are likely to grow, and no more than that."""

from __future__ import annotations

import ast

import pytest

from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import global_accumulation, unbounded_cache
from pytest_memleak.scan.suspect import Suspect


def found(source: str) -> list[Suspect]:
    module = Module(ast.parse(source), "app.cache")
    return [each for rule in (unbounded_cache, global_accumulation) for each in rule.find(module)]


LIKELY = {
    "self alone, bounded": ("from functools import lru_cache\nclass C:\n    @lru_cache()\n    def f(self): ...", "LOW"),
    "another library's": ("from toolz import memoize\n@memoize\ndef f(scheduler):\n    return 1", "LOW"),
    "keys that are taken out beside it": (
        (
            "class C:\n    def __init__(self):\n        self.a = {}\n        self.b = {}\n"
            "    def f(self, k):\n        self.a[k] = k\n        self.b[k] = k\n        self.b.pop(k)"
        ),
        "MEDIUM",
    ),
    "looked up by data": (
        (
            "class C:\n    def __init__(self):\n        self.a = {}\n    def f(self, token):\n"
            "        if token not in self.a:\n            self.a[token] = 1\n        return self.a[token]"
        ),
        "LOW",
    ),
    "emptied for tests": (
        "S = []\ndef add(x):\n    S.append(x)\ndef clear_s():\n    'For tests only.'\n    S.clear()",
        "MEDIUM",
    ),
    "emptied by nobody": ("S = []\ndef add(x):\n    S.append(x)\ndef clear_s():\n    S.clear()", "LOW"),
    "its class's own object": (
        (
            "class C:\n    def __init__(self):\n        self.a = {}\n    @classmethod\n    def get(cls):\n"
            "        cls.one = cls()\n        return cls.one\n    @classmethod\n    def f(cls, k):\n"
            "        one = cls.get()\n        one.a[k] = 1"
        ),
        "MEDIUM",
    ),
    "handlers of an object": (
        (
            "import functools, inspect\n@functools.cache\ndef f(func):\n    return inspect.signature(func)\nclass C:\n"
            "    def g(self, k):\n        h = self.handlers[k]\n        return f(h)"
        ),
        "LOW",
    ),
}


@pytest.mark.parametrize("source, sure", LIKELY.values(), ids=LIKELY)
def test_what_is_likely_only_is_said_to_be_so(source: str, sure: str) -> None:
    assert [each.confidence.value for each in found(source)] == [sure]


UNLIKELY = {
    "an iterator's": (
        "class C:\n    def __init__(self):\n        self.a = {}\n    def __next__(self):\n        return 1\n"
        "    def f(self, token):\n        if token not in self.a:\n            self.a[token] = 1"
    ),
    "a given container": "from toolz import memoize\n@memoize(cache=LRU(9))\ndef f(scheduler):\n    return 1",
    "cleared in its file": "S = []\ndef add(x):\n    S.append(x)\n    clear_s()\ndef clear_s():\n    S.clear()",
}


@pytest.mark.parametrize("source", UNLIKELY.values(), ids=UNLIKELY)
def test_what_is_not_even_likely_is_not_reported(source: str) -> None:
    assert found(source) == []
