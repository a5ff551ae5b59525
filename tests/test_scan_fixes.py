"""`--fix`: what is rewritten, and what is left alone."""

from __future__ import annotations

import ast
import textwrap

import pytest
from scan_support import finding

from pytest_memleak.scan.module import Module

pytest.importorskip("libcst")

from pytest_memleak.scan import fixes, plans


def rewritten(source: str, line: int, pattern: str = "file_handle", holder: str = "") -> str | None:
    """The text after the rewrite that is planned for a line; None where none is."""
    made = finding(source, line, pattern, holder=holder)
    plan = plans.plan(Module(ast.parse(source)), source.splitlines(), made, bounds=True)
    return None if plan is None else fixes._rewritten(source, plan)


def dedented(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


MENDED = {
    "a block up to the last use": (
        """
        def load(p):
            # the file
            f = open(p)  # opened
            for row in f:
                print(row)
            text = f.read()

            # after
            return text
        """,
        """
        def load(p):
            # the file
            with open(p) as f:  # opened
                for row in f:
                    print(row)
                text = f.read()

            # after
            return text
        """,
    ),
    "a close at the end is the with's": (
        """
        async def save(p, x):
            g = 1
            f = open(p, 'w')
            json.dump(x, f)
            f.close()
            return g
        import json
        """,
        """
        async def save(p, x):
            g = 1
            with open(p, 'w') as f:
                json.dump(x, f)
            return g
        import json
        """,
    ),
    "a file without a name": (
        """
        def load(p):

            f = 1
            x = "é" and f
            return open(p).read().strip()
        """,
        """
        def load(p):

            f = 1
            x = "é" and f
            with open(p) as file:
                return file.read().strip()
        """,
    ),
    "a file for a function of its text": (
        "import json\ndef load(p):\n\treturn json.loads(open(p).read()).get('a')\n",
        "import json\ndef load(p):\n\twith open(p) as f:\n\t\treturn json.loads(f.read()).get('a')\n",
    ),
    "a file for a reader": (
        "import json\ndef load(p):\n\treturn json.load(open(p))['é']\n",
        "import json\ndef load(p):\n\twith open(p) as f:\n\t\treturn json.load(f)['é']\n",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_file_that_is_used_in_one_block_gets_a_with(name: str) -> None:
    before, after = (dedented(text) for text in MENDED[name])
    line = next(number for number, text in enumerate(before.splitlines(), 1) if "open(" in text)
    assert rewritten(before, line) == after


LEFT = {
    "returned": "f = open(p)\nx = f.read()\nreturn f",
    "kept": "f = open(p)\nself.f = f",
    "given to a function that may keep it": "f = open(p)\nx = Reader(f)\nreturn x.all()",
    "read by what outlives it": "import csv\nf = open(p)\nrows = csv.reader(f)\nreturn list(rows)",
    "a generator over it": "f = open(p)\nrows = (row for row in f)\nreturn rows",
    "yielding": "f = open(p)\nfor row in f:\n    yield row",
    "used in a function within": "f = open(p)\ndef g():\n    return f.read()\nreturn g",
    "used in a lambda": "f = open(p)\nreturn lambda: f.read()",
    "used in another block": "if p:\n    f = open(p)\nreturn f.read()",
    "used before, in the round before": "for q in p:\n    if q: f.read()\n    f = open(p)",
    "assigned twice": "f = open(p)\nf.read()\nf = None",
    "never used": "f = open(p)\nreturn 1",
    "a global": "global f\nf = open(p)\nf.read()",
    "deleted": "f = open(p)\nf.read()\ndel f",
    "a method not called": "f = open(p)\nread = f.read\nreturn read",
    "on one line with others": "x = 1; f = open(p); f.read()",
    "after something that may have written it": "return g(p) + open(p).read()",
    "of somebody else": "from shop import open\nf = open(p)\nf.read()",
    "a descriptor": "import os\nf = os.open(p, 0)\nos.close(f)",
    "a default of several": "f = g = open(p)\nf.read()",
    "an argument of a call that may keep it": "return Image(open(p))",
    "in a condition": "if open(p).read():\n    return 1",
    "open while something else runs": "return g(open(p).read())",
    "open while it is run": "exec(open(p).read(), {})",
    "with a function of the caller's": "import json\nreturn json.load(open(p), object_hook=self.hook)",
    "lazily": "return (x for x in open(p).read())",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_sure_is_left_alone(name: str) -> None:
    source = "def load(self, p):\n" + textwrap.indent(LEFT[name], "    ") + "\n"
    line = next(number for number, text in enumerate(source.splitlines(), 1) if "open(" in text)
    changed = rewritten(source, line)
    if name == "lazily":  # the text has been read before the generator starts
        assert changed is None or "with open(p) as f" in changed
    else:
        assert changed is None


BOUNDS = {
    "from functools import cache, wraps\n@cache\ndef g(x): ...\n": (
        "from functools import cache, wraps, lru_cache\n@lru_cache(maxsize=1024)\ndef g(x): ...\n"
    ),
    "import functools\n@functools.cache\ndef g(x): ...\n": (
        "import functools\n@functools.lru_cache(maxsize=1024)\ndef g(x): ...\n"
    ),
    "from functools import lru_cache as lru\n@lru(None, typed=True)\ndef g(x): ...\n": (
        "from functools import lru_cache as lru\n@lru(maxsize=1024, typed=True)\ndef g(x): ...\n"
    ),
    "from functools import lru_cache\n@lru_cache(maxsize=128)\ndef g(x): ...\n": None,
    "from functools import cache as kept\n@kept\ndef g(x): ...\n": None,
    "from shop import cache\n@cache\ndef g(x): ...\n": None,
}


@pytest.mark.parametrize("source", BOUNDS)
def test_a_cache_gets_a_bound(source: str) -> None:
    assert rewritten(source, 2, "unbounded_cache") == BOUNDS[source]


def test_a_deque_gets_a_bound_where_it_is_made() -> None:
    source = "from collections import deque\nSEEN = deque()\nOTHER = deque()\ndef g(x):\n    SEEN.append(x)\n"
    changed = rewritten(source, 5, "global_accumulation", holder="app.SEEN")
    assert changed == source.replace("SEEN = deque()", "SEEN = deque(maxlen=1000)")
    assert rewritten(source.replace("SEEN = deque()", "SEEN = []"), 5, "global_accumulation", "app.SEEN") is None
