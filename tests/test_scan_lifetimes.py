"""What must be closed: files and descriptors, those that somebody closes and those that nobody can."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import database_connection, file_handle, thread_pool
from pytest_memleak.scan.suspect import Suspect

RULES = (file_handle, database_connection, thread_pool)


def found(source: str) -> list[Suspect]:
    module = Module(ast.parse(textwrap.dedent(source)), "app.things")
    return [suspect for rule in RULES for suspect in rule.find(module)]


def in_function(body: str) -> str:
    head = "import os, json, csv, subprocess, sys, tempfile, requests\nfrom pathlib import Path\n"
    head += "from contextlib import closing, redirect_stdout\n"
    return f"{head}def load(p, stack, path, known):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


LOST = (
    "return open(p).read()",
    "for line in open(p): known(line)",
    "open(p)",
    "return json.load(open(p))",
    "return [row for row in csv.reader(open(p))]",
    "subprocess.run(['ls'], stdout=open(p, 'w'))",
    "requests.post(p, files={'f': open(p, 'rb')})",
    "with redirect_stdout(open(os.devnull, 'w')): pass",
    "known['file'] = open(os.devnull, 'w')",
    "return tempfile.NamedTemporaryFile().name",
    "f = open(p)\nreturn f.read()",
    "f: object = open(p)\njson.load(f)",
    "a, b = open(p), 1\nprint(a, b)",
    "if (f := open(p)):\n    f.read()",
    "f = p or open(p)\nf = f or known\nf.read()",
    "f = open(p)\ndef inner(g): g.read()\ninner(f)",
    "f = open(p)\nknown.prepare(f)",
    "f = Path(p).open()\nreturn f.read()",
    "return path.open().read()",
    "requests.post(p, files=[('f', open(p, 'rb'))])",
    "return known.audio.transcriptions.create(file=open(p, 'rb'))",
    "files = {'f': (p, open(p, 'rb'))}\nreturn requests.post(p, files=files)",
)


KEPT = (
    "with open(p) as f: pass",
    "f = open(p)\nwith f: pass",
    "f = open(p)\ntry: f.read()\nfinally: f.close()",
    "with closing(open(p)) as f: pass",
    "f = open(p)\nwith closing(f): pass",
    "f = stack.enter_context(open(p))",
    "stack.callback(open(p).close)",
    "f = open(p)\ndef done(): f.close()\nreturn done",
    "return open(p)",
    "f = open(p)\nreturn f",
    "yield open(p)",
    "return lambda: open(p)",
    "return known(open(p))",
    "known.file = open(p)",
    "known.append(open(p))",
    "return [open(one) for one in p]",
    "f = open(p)\nknown.register(f)",
    "f = open(p)\nx = known(f)",
    "f = open(p)\ndef inner(g): g.close()\ninner(f)",
    "f = open(p)\ndef inner(g): return g\nx = inner(f)",
    "f = open(p)\ng = f\ng.close()",
    "global f\nf = open(p)",
    "f = open(p)\nreturn {'f': f}",
    "sys.stdout = open(os.devnull, 'w')",
    "f = getattr(open(p), 'close')",
    "known.file.open(p)",
    "known.GzipFile(fileobj=open)",
    "files = {'f': open(p, 'rb')}\nrequests.post(p, files=files)\nfiles['f'].close()",
    "with known.raises(OSError):\n    open(p)",
    "a, b = open(p), open(p)\na.close()\nb.close()",
)


@pytest.mark.parametrize("body", LOST)
def test_a_file_that_nobody_can_close_is_found_once(body: str) -> None:
    (suspect,) = found(in_function(body))
    assert suspect.driver is Driver.CALL


@pytest.mark.parametrize("body", KEPT)
def test_a_file_that_is_closed_or_handed_on_is_not(body: str) -> None:
    assert found(in_function(body)) == []


def test_the_sentence_names_the_call_and_the_variable() -> None:
    (suspect,) = found(in_function("f = open(p)\nreturn f.read()"))
    assert suspect.message == "a file from `open(…)` is kept in `f` and nothing closes it: every call leaves one open"
    assert suspect.confidence is Confidence.HIGH


def test_a_use_that_is_not_known_costs_confidence() -> None:
    (suspect,) = found(in_function("f = open(p)\nknown.prepare(f)"))
    assert suspect.confidence is Confidence.MEDIUM


def test_what_a_module_opens_lives_as_long_as_the_process_and_what_it_drops_is_found() -> None:
    assert found("LOG = open('log')") == []
    (suspect,) = found("TEXT = open('readme').read()")
    assert suspect.driver is Driver.IMPORT


def test_a_name_of_its_own_is_not_the_builtin() -> None:
    assert found("from webbrowser import open\ndef show(p):\n    open(p)\n") == []


@pytest.mark.parametrize(
    "source,confidence",
    [
        ("import sqlite3\ndef f():\n    with sqlite3.connect('x') as c: c.execute('y')\n", "MEDIUM"),
        ("import sqlite3\ndef f():\n    c = sqlite3.connect('x')\n    with c: c.execute('y')\n", "MEDIUM"),
        ("import sqlite3\ndef f():\n    c = sqlite3.connect('x')\n    with c: pass\n    c.close()\n", None),
        ("import sqlite3\ndef f():\n    with sqlite3.connect('x') as c: return c\n", None),
        ("import psycopg\ndef f():\n    with psycopg.connect('x') as c: c.execute('y')\n", None),
        ("def f(pool):\n    c = pool.getconn()\n    c.execute(1)\n    pool.putconn(c)\n", "MEDIUM"),
        ("def f(pool):\n    c = pool.getconn()\n    pool.putconn(c)\n", None),
        (
            "def f(pool):\n    c = pool.getconn()\n    try: c.execute(1)\n    finally: pool.putconn(c)\n",
            None,
        ),
        (
            "def f(pool):\n    c = pool.getconn()\n    try: c.execute(1)\n    except E: pool.putconn(c)\n",
            None,
        ),
        ("def f(p):\n    f = open(p)\n    if p: return 1\n    f.close()\n", "MEDIUM"),
        ("def f(p):\n    f = open(p)\n    if not f: return 1\n    f.close()\n", None),
        ("def f(p):\n    f = open(p)\n    f.read()\n    f.close()\n", None),
        ("def f(p):\n    try: f = open(p)\n    except E: return 1\n    f.close()\n", None),
    ],
)
def test_what_is_closed_on_one_way_only(source: str, confidence: str | None) -> None:
    assert [suspect.confidence.value for suspect in found(source)] == ([confidence] if confidence else [])


def test_what_is_closed_on_one_way_names_the_other() -> None:
    (suspect,) = found("def f(p):\n    f = open(p)\n    if p:\n        return 1\n    f.close()\n")
    assert (
        suspect.message == "a file from `open(…)` is closed on one way out only: the `return` in line 4 leaves it open"
    )


def test_what_a_script_opens_once_is_less_sure() -> None:
    (suspect,) = found("def main(p):\n    f = open(p)\n    f.read()\nif __name__ == '__main__':\n    main('x')\n")
    assert (suspect.confidence, suspect.driver) == (Confidence.MEDIUM, Driver.IMPORT)


def test_deep_nesting_ends() -> None:
    chain = "open(p)" + " or x" * 3000
    assert len(found(f"def f(p, x):\n    y = {chain}\n    y.read()\n")) == 1
    lines = "".join("    f = f or g\n    g = g or f\n" for _ in range(40))
    assert len(found(f"def f(p, g):\n    f = open(p)\n{lines}    f.read()\n")) <= 1


@pytest.mark.parametrize(
    "body,count",
    [
        ("_, name = tempfile.mkstemp()\nreturn name", 1),
        ("return tempfile.mkstemp()[1]", 1),
        ("fd, name = tempfile.mkstemp()\nos.write(fd, b'x')", 1),
        ("pair = tempfile.mkstemp()\nreturn pair[1]", 1),
        ("fd, name = tempfile.mkstemp()\nos.close(fd)", 0),
        ("fd, name = tempfile.mkstemp()\nwith os.fdopen(fd, 'w') as f: f.write('x')", 0),
        ("fd, name = tempfile.mkstemp()\nreturn fd, name", 0),
        ("return tempfile.mkstemp()", 0),
    ],
)
def test_a_descriptor_of_mkstemp_is_nobodys_but_the_callers(body: str, count: int) -> None:
    assert len(found(in_function(body))) == count


@pytest.mark.parametrize(
    "body,count",
    [
        ("with gzip.GzipFile(fileobj=open(p, 'wb')) as f: f.write(b'')", 1),
        ("return zipfile.ZipFile(open(p, 'rb')).namelist()", 1),
        ("with open(p, 'wb') as raw:\n    with gzip.GzipFile(fileobj=raw) as f: f.write(b'')", 0),
        ("return zipfile.ZipFile(open(p, 'rb'))", 0),
        ("known.format(error).print(file=open(p, 'w'))", 1),
        ("x = Parser(open(p))\nreturn x.parse()", 1),
        ("x = Parser(open(p))\nreturn x", 0),
        ("with Parser(open(p)) as x: return x.parse()", 0),
    ],
)
def test_what_wraps_a_file_does_not_close_it(body: str, count: int) -> None:
    assert len(found("import gzip, zipfile\n" + in_function(body))) == count
