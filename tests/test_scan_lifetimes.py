"""What must be closed: files, connections and pools, those that somebody closes and those that nobody can."""

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
    assert suspect.fixable


def test_a_use_that_is_not_known_costs_confidence() -> None:
    (suspect,) = found(in_function("f = open(p)\nknown.prepare(f)"))
    assert suspect.confidence is Confidence.MEDIUM


def test_what_a_module_opens_lives_as_long_as_the_process_and_what_it_drops_is_found() -> None:
    assert found("LOG = open('log')") == []
    (suspect,) = found("TEXT = open('readme').read()")
    assert suspect.driver is Driver.IMPORT
    assert suspect.fixable


def test_a_name_of_its_own_is_not_the_builtin() -> None:
    assert found("from webbrowser import open\ndef show(p):\n    open(p)\n") == []


POOL = """
    from concurrent import futures
    class Store{bases}:
        def __init__(self, pool=None):
            self.pool = pool or futures.ThreadPoolExecutor(4)
        def work(self, loop, job):
            return loop.run_in_executor(self.pool, job)
"""


def pooled(more: str = "", bases: str = "") -> list[Suspect]:
    return found(textwrap.dedent(POOL.format(bases=bases)) + textwrap.indent(textwrap.dedent(more), "    "))


def test_a_pool_on_self_that_nothing_shuts_down_is_found_per_object() -> None:
    (suspect,) = pooled()
    assert suspect.driver is Driver.INSTANCE
    assert suspect.holder == "Store.pool"
    assert suspect.unless == ("closes:Store.pool", "closes:*.pool")
    assert suspect.message == (
        "a thread pool from `concurrent.futures.ThreadPoolExecutor(…)` is kept in `self.pool` "
        "and nothing shuts it down: every `Store` leaves one open"
    )


def test_a_close_that_closes_half_is_named() -> None:
    (suspect,) = pooled("def close(self):\n    self.other.close()\n")
    assert suspect.message.endswith("; `Store.close()` closes `self.other` but not this")


@pytest.mark.parametrize(
    "more",
    [
        "def close(self):\n    self.pool.shutdown()\n",
        "def close(self):\n    pool, self.pool = self.pool, None\n    pool.shutdown()\n",
        "def close(self):\n    pool = self.pool\n    pool.shutdown()\n",
        "def use(self):\n    with self.pool: pass\n",
        "def shared(self):\n    return self.pool\n",
        "def share(self, other):\n    x = other(self.pool)\n",
    ],
)
def test_a_pool_on_self_that_is_shut_down_or_shown_is_not(more: str) -> None:
    assert pooled(more) == []


def test_a_base_of_another_file_may_close_and_a_harmless_one_does_not() -> None:
    assert pooled(bases="(Base)") == []
    assert pooled(bases="(other.Store)") == []
    assert len(pooled(bases="(ABC)")) == 1


def test_an_object_made_at_import_lives_as_long_as_the_process() -> None:
    assert found(textwrap.dedent(POOL.format(bases="")) + "\nSTORE = Store()\n") == []


@pytest.mark.parametrize(
    "source,count",
    [
        ("from multiprocessing import Pool\ndef f():\n    Pool().map(g, [1])\n", 1),
        ("import multiprocessing as mp\ndef f():\n    p = mp.pool.ThreadPool(2)\n    p.map(g, [1])\n", 1),
        ("from multiprocessing import Pool\ndef f():\n    p = Pool()\n    p.map(g, [1])\n    p.terminate()\n", 0),
        ("from game import Pool\ndef f():\n    Pool().swim()\n", 0),
        ("from concurrent.futures import ProcessPoolExecutor\ndef f():\n    return ProcessPoolExecutor()\n", 0),
    ],
)
def test_pools_by_any_spelling(source: str, count: int) -> None:
    assert len(found(source)) == count


@pytest.mark.parametrize(
    "source,count",
    [
        ("import sqlite3\ndef f():\n    c = sqlite3.connect('x')\n    c.execute('y')\n", 1),
        ("from .utils import sqlite3\ndef f():\n    c = sqlite3.connect('x')\n    c.execute('y')\n", 1),
        ("import asyncpg\nasync def f():\n    c = await asyncpg.connect('x')\n    await c.fetch('y')\n", 1),
        ("import asyncpg\nasync def f():\n    c = await asyncpg.connect('x')\n    return c\n", 0),
        ("def f(db):\n    c = db.connect()\n    c.execute('x')\n", 1),
        ("def f(db):\n    db.connect()\n    db.execute('x')\n", 0),
        ("def f(signal):\n    x = signal.connect(g)\n", 0),
        ("from app.db import SessionLocal\ndef f():\n    s = SessionLocal()\n    s.add(1)\n", 1),
        ("from app.db import SessionLocal\ndef get_db():\n    s = SessionLocal()\n    yield s\n", 1),
        (
            "from app.db import SessionLocal\ndef g():\n    s = SessionLocal()\n    yield s\n    s.close()\n",
            0,
        ),
        ("from app.db import SessionLocal\ndef get_db():\n    with SessionLocal() as s: yield s\n", 0),
        ("from sqlalchemy.orm import sessionmaker\nMake = sessionmaker()\ndef f():\n    Make().query(1)\n", 1),
        ("from sqlalchemy.orm import Session\ndef f(e):\n    with Session(e) as s: s.add(1)\n", 0),
        ("import boto3\ndef f():\n    s = boto3.Session()\n    s.client('s3')\n", 0),
        ("def f(pool):\n    c = pool.getconn()\n    c.execute(1)\n    pool.putconn(c)\n", 0),
        ("async def f(pool):\n    c = await pool.acquire()\n    await c.execute(1)\n", 1),
        ("async def f(pool):\n    async with pool.acquire() as c: await c.execute(1)\n", 0),
        ("from pymongo import MongoClient\ndef f():\n    return MongoClient().db\n", 0),
        (
            "from sqlalchemy import create_engine\ndef f(u):\n    e = create_engine(u)\n    with e.begin(): pass\n",
            1,
        ),
        ("from sqlalchemy import create_engine\ndef f(u):\n    e = create_engine(u)\n    print(e.dialect)\n", 0),
    ],
)
def test_connections_sessions_and_engines(source: str, count: int) -> None:
    assert len(found(source)) == count


def test_a_client_of_http_is_called_so_and_a_session_of_requests_is_a_guess() -> None:
    (client,) = found("import httpx\nasync def f(u):\n    return await httpx.AsyncClient().get(u)\n")
    assert client.message.startswith("an HTTP client from `httpx.AsyncClient()` is used on the spot by `.get()`")
    assert "AsyncClient" in client.fix
    (session,) = found("import requests\ndef f(u):\n    s = requests.Session()\n    s.get(u)\n")
    assert session.confidence is Confidence.LOW


def test_deep_nesting_ends() -> None:
    chain = "open(p)" + " or x" * 3000
    assert len(found(f"def f(p, x):\n    y = {chain}\n    y.read()\n")) == 1
    lines = "".join("    f = f or g\n    g = g or f\n" for _ in range(40))
    assert len(found(f"def f(p, g):\n    f = open(p)\n{lines}    f.read()\n")) <= 1
