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
    "a model's table": "S = {}\ndef f(db, model):\n    S[(db.connection_name, model._meta.db_table)] = 1",
    "a given container": "from toolz import memoize\n@memoize(cache=LRU(9))\ndef f(scheduler):\n    return 1",
    "cleared in its file": "S = []\ndef add(x):\n    S.append(x)\n    clear_s()\ndef clear_s():\n    S.clear()",
}


@pytest.mark.parametrize("source", UNLIKELY.values(), ids=UNLIKELY)
def test_what_is_not_even_likely_is_not_reported(source: str) -> None:
    assert found(source) == []


_SET = "class Launcher:\n    def __init__(self):\n        self.a = set()\n    def {name}(self, run, x):\n        {line}"
_HELD = "class {name}:\n    def __init__(self):\n        self.a = {{}}\n    def put(self, x):\n        {line}"
_CODES = (
    "import secrets, time\nclass C:\n    def __init__(self):\n        self.codes = {{}}\n    def put(self):\n"
    "        code = secrets.token_hex(8)\n        self.codes[code] = time.time() + 9\n    def get(self, code):\n"
    "        if self.codes[code] < time.time():\n            del self.codes[code]\n    def use(self, code):\n"
    "        {end}"
)
KEPT_BY_OBJECTS = {
    "data in a set": (_SET.format(name="go", line="self.a.add(run.run_id)"), ["LOW"]),
    "a set that is asked": (
        _SET.format(name="go", line="if x in self.a: return\n        self.a.add((x, 1))"),
        ["LOW"],
    ),
    "not from outside": (_SET.format(name="_go", line="if x in self.a: return\n        self.a.add((x, 1))"), []),
    "not asked": (_SET.format(name="go", line="self.a.add(x)"), []),
    "a storage": (_HELD.format(name="MemoryStorage", line="self.a[x] = self.a.get(x, 0)"), ["LOW"]),
    "a builder": (_HELD.format(name="StorageBuilder", line="self.a[x] = self.a.get(x, 0)"), []),
    "a key made up": (_HELD.format(name="Q", line="import uuid\n        self.a[uuid.uuid4().hex] = x"), ["LOW"]),
    "expired or used": (_CODES.format(end="del self.codes[code]"), ["LOW"]),
    "expired or swept": (_CODES.format(end="self.codes.clear()"), []),
}


@pytest.mark.parametrize("source, sure", KEPT_BY_OBJECTS.values(), ids=KEPT_BY_OBJECTS)
def test_what_objects_keep_for_their_callers_is_likely(source: str, sure: list[str]) -> None:
    assert [each.confidence.value for each in found(source)] == sure


CLEARED = {
    "from time to time": ("def changed(self):\n        self.f.cache_clear()", []),
    "though not at its end": (
        "def changed(self):\n        self.f.cache_clear()\n    def close(self):\n        pass",
        ["HIGH"],
    ),
}


@pytest.mark.parametrize("more, sure", CLEARED.values(), ids=CLEARED)
def test_a_method_whose_cache_is_cleared_holds_no_object_for_long(more: str, sure: list[str]) -> None:
    source = f"import functools\nclass C:\n    @functools.cache\n    def f(self): ...\n    {more}"
    assert [each.confidence.value for each in found(source)] == sure
