"""What outlives a call and grows: the rules for caches and for global containers, on a few lines of source each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import global_accumulation, unbounded_cache
from pytest_memleak.scan.suspect import Suspect


def found(source: str) -> list[tuple[str, Suspect]]:
    module = Module(ast.parse(source), "app.cache")
    return [(rule.CODE, each) for rule in (unbounded_cache, global_accumulation) for each in rule.find(module)]


def places(source: str) -> list[tuple[str, int]]:
    return [(code, getattr(each.node, "lineno", 0)) for code, each in found(source)]


CACHE, GLOBAL = "MLK001", "MLK002"

LEAKS = {
    "a dict by key": ("S = {}\ndef f(k):\n    S[k] = 1", CACHE, 3),
    "an annotated one": ("S: dict[str, int] = {}\ndef f(k):\n    S.setdefault(k, 1)", CACHE, 3),
    "a defaultdict that is read": (
        "import collections\nS = collections.defaultdict(int)\ndef f(k):\n    return S[k]",
        CACHE,
        4,
    ),
    "a list": ("S = []\ndef f(x):\n    S.append(x)", GLOBAL, 3),
    "an augmented list": ("S = []\ndef f(x):\n    global S\n    S += [x]", GLOBAL, 4),
    "a set": ("S = set()\ndef f(x):\n    S.add(x)", GLOBAL, 3),
    "the list within, not the empty one": (
        "S = {}\ndef f(k, x):\n    if k not in S:\n        S[k] = []\n    S[k].append(x)",
        GLOBAL,
        5,
    ),
    "an alias": ("S = {}\ndef f(k):\n    c = S\n    c[k] = 1", CACHE, 4),
    "a class attribute": ("class C:\n    s = {}\n    def f(self, k):\n        self.s[k] = 1", CACHE, 4),
    "an object of the module": (
        "class C:\n    def __init__(self):\n        self.s = {}\n    def f(self, k):\n        self.s[k] = 1\nc = C()",
        CACHE,
        5,
    ),
    "a function attribute": ("def f(k):\n    f.s[k] = 1\nf.s = {}", CACHE, 2),
    "a mutable default": ("def f(k, s={}):\n    s[k] = 1", CACHE, 2),
    "a decorator's closure": (
        "def memo(g):\n    s = {}\n    def w(k):\n        s[k] = g(k)\n        return s[k]\n    return w",
        CACHE,
        4,
    ),
    "expired on read, never deleted": (
        "from time import time\nS = {}\ndef f(k):\n    if k in S and S[k] > time():\n        return S[k]\n    S[k] = 9",
        CACHE,
        6,
    ),
    "a cache without a bound": ("import functools as ft\n@ft.lru_cache(None)\ndef f(k): ...", CACHE, 2),
    "a cache on a method": ("from functools import cache\nclass C:\n    @cache\n    def f(self): ...", CACHE, 3),
    "a bounded one that pins self": (
        "from functools import lru_cache\nclass C:\n    @lru_cache(maxsize=8)\n    def f(self, k): ...",
        CACHE,
        3,
    ),
    "a token that is not used": (
        "from contextvars import ContextVar\nV = ContextVar('V')\ndef f(x):\n    token = V.set(x)",
        GLOBAL,
        4,
    ),
}


@pytest.mark.parametrize("source,code,line", LEAKS.values(), ids=LEAKS)
def test_growth_is_found_on_its_line(source: str, code: str, line: int) -> None:
    assert places(source) == [(code, line)]


KEYED = "S = {}\ndef f(k):\n    S[k] = 1\n"
CLEAN = {
    "popped": KEYED + "def g(k):\n    S.pop(k)",
    "deleted": KEYED + "def g(k):\n    del S[k]",
    "replaced": KEYED + "def g():\n    global S\n    S = {}",
    "popped by another name": KEYED + "def g(k):\n    c = S\n    c.pop(k)",
    "cleared with others": KEYED + "def g():\n    for s in (S, {}):\n        s.clear()",
    "held against a length": KEYED + "def g():\n    return len(S) > 100",
    "passed to what evicts": KEYED + "def g():\n    evict_oldest(S)",
    "discarded when done": "S = set()\ndef f(t):\n    S.add(t)\n    t.add_done_callback(S.discard)",
    "bounded": "from collections import deque\nS = deque(maxlen=9)\ndef f(x):\n    S.append(x)",
    "weak": "import weakref\nS = weakref.WeakSet()\ndef f(x):\n    S.add(x)",
    "local": "def f(k):\n    s = {}\n    s[k] = 1",
    "per object": "class C:\n    def __init__(self):\n        self.s = {}\n    def f(self, k):\n        self.s[k] = 1",
    "a constant": "S = {}\ndef f(x):\n    S['last'] = x",
    "an enum": "import enum\nclass E(enum.Enum):\n    A = 1\nS = {}\ndef f(e: E):\n    S[e] = 1",
    "a type": "S = {}\ndef f(x):\n    S[type(x)] = 1",
    "few of each": "S = {}\ndef f(version, status):\n    S[(version, status)] = 1",
    "few by division": "S = {}\ndef f(x):\n    n = int(x // 60)\n    S[n] = 1",
    "an entry that is there": "S = {}\ndef f(k):\n    if k in S:\n        S[k] = 2",
    "a decorator": (
        "S = {}\ndef on(name):\n    def inner(fn):\n        S[name] = fn\n        return fn\n    return inner"
    ),
    "a metaclass": "S = []\nclass M(type):\n    def __init__(cls, n, b, d):\n        S.append(cls)",
    "a registering function": "S = {}\ndef register_it(k, v):\n    S[k] = v",
    "of a script": (
        "class C:\n    def __init__(self):\n        self.s = {}\n    def f(self, k):\n        self.s[k] = 1\n"
        "if __name__ == '__main__':\n    print(C())"
    ),
    "a default of an inner function": "def f(k):\n    def g(k, s={}):\n        s[k] = 1\n    g(k)",
    "import only": "S = {}\ndef f(k):\n    S[k] = 1\nf('a')\nf('b')",
    "once": "S = []\nD = 0\ndef f(x):\n    global D\n    if D:\n        return\n    D = True\n    S.append(x)",
    "module level": "S = {}\nfor k in range(9):\n    S[k] = 1",
    "in a finally": "S = set()\ndef f(x):\n    S.add(x)\n    try:\n        yield\n    finally:\n        S.remove(x)",
    "no parameters": "from functools import cache\n@cache\ndef f(): ...",
    "bounded by default": "from functools import lru_cache\n@lru_cache\ndef f(k): ...",
    "few values": "from functools import cache\n@cache\ndef f(flag: bool): ...",
    "self alone, bounded": "from functools import lru_cache\nclass C:\n    @lru_cache()\n    def f(self): ...",
    "another cache": "from other import cache\n@cache\ndef f(k): ...",
    "a token that is reset": (
        "from contextvars import ContextVar\nV = ContextVar('V')\ndef f(x):\n    t = V.set(x)\n    V.reset(t)"
    ),
}


@pytest.mark.parametrize("source", CLEAN.values(), ids=CLEAN)
def test_what_is_bounded_is_not_reported(source: str) -> None:
    assert places(source) == []


def test_removal_on_the_success_path_only_is_reported_with_less_confidence() -> None:
    [(code, suspect)] = found("S = set()\nasync def f(x):\n    S.add(x)\n    await x.run()\n    S.remove(x)")
    assert (code, suspect.confidence) == (GLOBAL, Confidence.MEDIUM)
    assert suspect.message == "`S` gains an element per call, and only a call that does not raise removes it"


def test_the_suspect_says_what_holds_and_which_facts_clear_it() -> None:
    [(_, suspect)] = found(KEYED)
    assert suspect.message == "`S` gains an entry per call and nothing removes one"
    assert (suspect.holder, suspect.unless) == ("app.cache.S", ("shrinks:app.cache.S",))
    assert (suspect.confidence, suspect.driver) == (Confidence.HIGH, Driver.CALL)


def test_an_attribute_is_cleared_by_whoever_inherits_it() -> None:
    [(_, suspect)] = found("class C(Base):\n    s = {}\n    def f(self, k):\n        self.s[k] = 1")
    assert suspect.holder == "C.s"
    assert suspect.unless == ("shrinks:C.s", "shrinks:Base.s", "shrinks:*.s")


def test_deep_nesting_is_read_without_recursion() -> None:
    deep = "x" + ".a" * 3000
    node = ast.Name("x", ast.Load())
    tree = ast.parse("S = {}\ndef f(x):\n    S[x] = 1\n    if S.get(x): pass")
    value: ast.expr = node
    for _ in range(deep.count(".")):
        value = ast.Attribute(value, "a", ast.Load(), lineno=3, col_offset=0)
    function = tree.body[1]
    assert isinstance(function, ast.FunctionDef)
    assignment = function.body[0]
    assert isinstance(assignment, ast.Assign)
    assignment.value = value
    assert len(list(unbounded_cache.find(Module(tree)))) == 1


def test_its_own_source_is_clean_of_growing_stores() -> None:
    for path in Path(unbounded_cache.__file__).parents[1].glob("store*.py"):
        assert places(path.read_text()) == [], path
