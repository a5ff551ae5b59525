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
    "a user's settings": ("from functools import cache\n@cache\ndef get_user_settings(user_id): ...", CACHE, 2),
    "the type of a document": ("from functools import cache\n@cache\ndef document_type(doc_id): ...", CACHE, 2),
    "the name of whom": ("from functools import cache\n@cache\ndef load(db, name): return db.fetch(name)", CACHE, 2),
    "a cache made by a call": (
        "from functools import lru_cache\ndef f(url): ...\ng = lru_cache(maxsize=None)(f)",
        CACHE,
        3,
    ),
    "another": ("import functools\ndef f(url): ...\nf = functools.cache(f)", CACHE, 3),
    "settings by user": ("user_settings = {}\ndef f(user_id, s):\n    user_settings[user_id] = s", CACHE, 3),
    "tools by session": ("TOOLS = {}\ndef register_tools(session, t):\n    TOOLS[session.id] = t", CACHE, 3),
    "a new name for each user": (
        "S = {}\ndef f(user_id):\n    if user_id in S:\n        raise ValueError\n    S[user_id] = 1",
        CACHE,
        5,
    ),
    "every object": ("class C:\n    s = []\n    def __init__(self):\n        C.s.append(self)", GLOBAL, 4),
    "every object by its name": ("S = {}\nclass C:\n    def __init__(self, k):\n        S[k] = self", CACHE, 4),
    "an update with a key": ("S = {}\ndef f(k):\n    S.update({k: 1})", CACHE, 3),
    "asked with anything": (
        "S = {}\ndef _f(k):\n    S[k] = 1\ndef g(x):\n    _f('a')\n    _f(x)",
        CACHE,
        3,
    ),
    "one by number": (
        "S = []\ndef f(n):\n    for x in S:\n        if x.n == n:\n            return x\n    S.append(n)",
        GLOBAL,
        6,
    ),
    "what a wrapper keeps": (
        (
            "from functools import wraps\nS = {}\ndef d(fn):\n    @wraps(fn)\n    def w(k):\n"
            "        S[k] = fn(k)\n    return w"
        ),
        CACHE,
        6,
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
    "what a decorator knows": (
        "from functools import wraps\nS = {}\ndef d(fn):\n    S[fn.key] = 1\n    @wraps(fn)\n    def w(k):\n"
        "        return fn(k)\n    return w"
    ),
    "a module by its number": "S = {}\ndef f(module):\n    d = module.__dict__\n    S[id(d)] = module.__name__",
    "files of the code": (
        "import traceback\nS = []\ndef f(tb):\n    n = traceback.extract_tb(tb)[-1][0]\n"
        "    if n not in S:\n        S.append(n)"
    ),
    "names of keyword arguments": "S = {}\ndef f(**kw):\n    for k, v in kw.items():\n        S[k] = 1",
    "read in a range": (
        "import collections\nS = collections.defaultdict(int)\ndef f(n):\n    for i in range(n):\n        print(S[i])"
    ),
    "asked with constants": "S = {}\ndef _f(k):\n    S[k] = 1\ndef g():\n    _f('a')\n    _f(k='b')",
    "one of each class": (
        "S = []\nclass A: ...\ndef f():\n    for x in S:\n        if isinstance(x, A):\n            return x\n"
        "    a = A()\n    S.append(a)\n    return a"
    ),
    "every object of the module": (
        "class C:\n    s = []\n    def __init__(self):\n        C.s.append(self)\na = C()\nb = C()"
    ),
    "a name that must be new": "S = set()\ndef f(o):\n    assert o.key not in S\n    S.add(o.key)",
    "what is deprecated": (
        "import warnings\nS = {}\ndef f(k):\n    S[k] = 1\n    warnings.warn(k, DeprecationWarning)"
    ),
    "from the configuration": "S = {}\ndef f(o):\n    config = o.config\n    S[config.url] = 1",
    "a cache by import path": (
        "from functools import cache\nfrom importlib import import_module\n@cache\ndef f(path):\n"
        "    where, _, what = path.partition('.')\n    return import_module(where)"
    ),
    "a cache by environment": (
        "import os\nfrom functools import cache\n@cache\ndef f(name):\n    return os.environ[name]"
    ),
    "a cache by class": "from functools import cache\n@cache\ndef f(of):\n    return of.__mro__",
    "a cache by choice": (
        "from functools import cache\nfrom django.conf import settings\n@cache\ndef _f(conf=None): ...\n"
        "def f(conf=None):\n    if conf is None:\n        conf = settings.ROOT\n    return _f(conf)"
    ),
    "a cache of a class": "from functools import cache\nclass C:\n    @cache\n    def f(cls): ...",
    "a cache that is emptied": (
        "from functools import cache\ndef f(url): ...\ng = cache(f)\ndef h():\n    g.cache_clear()"
    ),
    "a cache of a call's own": "from functools import cache\ndef f(url): ...\ndef g():\n    return cache(f)(1)",
    "no parameters": "from functools import cache\n@cache\ndef f(): ...",
    "bounded by default": "from functools import lru_cache\n@lru_cache\ndef f(k): ...",
    "few values": "from functools import cache\n@cache\ndef f(flag: bool): ...",
    "self alone, the latest": "from functools import lru_cache\nclass C:\n    @lru_cache(1)\n    def f(self): ...",
    "another cache": "from other import cache\n@cache\ndef f(k): ...",
    "a token that is reset": (
        "from contextvars import ContextVar\nV = ContextVar('V')\ndef f(x):\n    t = V.set(x)\n    V.reset(t)"
    ),
}


@pytest.mark.parametrize("source", CLEAN.values(), ids=CLEAN)
def test_what_is_bounded_is_not_reported(source: str) -> None:
    assert places(source) == []


ARGUED = {
    "in a test": ("S = {}\ndef f(k):\n    S[k] = 1", "app.tests.cache", Confidence.LOW),
    "bounded, and nobody ends it": (
        "import functools\nclass C:\n    @functools.lru_cache\n    def f(self, k): ...",
        "app.cache",
        Confidence.LOW,
    ),
    "bounded, on what is closed": (
        "import functools\nclass C:\n    @functools.lru_cache\n    def f(self, k): ...\n    def close(self): ...",
        "app.cache",
        Confidence.MEDIUM,
    ),
    "bounded, on what is known weakly": (
        (
            "import functools, weakref\nALL = weakref.WeakSet()\nclass C:\n    def __init__(self):\n"
            "        ALL.add(self)\n    @functools.lru_cache\n    def f(self, k): ..."
        ),
        "app.cache",
        Confidence.MEDIUM,
    ),
    "keyed by who knows what": (
        "import functools, lib\n@functools.cache\ndef f(thing):\n    return lib.made(thing)",
        "app.cache",
        Confidence.LOW,
    ),
    "said once": (
        "import functools\n@functools.cache\ndef f(url: str) -> None:\n    print(url)",
        "app.cache",
        Confidence.LOW,
    ),
    "by name, and the function says of what": (
        "import functools\n@functools.cache\ndef get_setting(name: str):\n    return load(name)",
        "app.cache",
        Confidence.LOW,
    ),
}


@pytest.mark.parametrize("source,name,confidence", ARGUED.values(), ids=ARGUED)
def test_what_may_be_all_there_is_is_less_sure(source: str, name: str, confidence: Confidence) -> None:
    (suspect,) = unbounded_cache.find(Module(ast.parse(source), name))
    assert suspect.confidence is confidence


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
    assert suspect.unless == ("shrinks:app.cache.C.s", "shrinks:Base.s", "shrinks:*.s")


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
