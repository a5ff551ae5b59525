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


def test_a_base_of_another_file_clears_by_its_facts_and_a_known_one_closes() -> None:
    (suspect,) = pooled(bases="(Base)")
    assert suspect.unless == ("closes:Store.pool", "closes:Base.pool", "closes:*.pool")
    assert len(pooled(bases="(ABC)")) == 1
    assert pooled(bases="(logging.Handler)") == []


def test_attributes_that_are_closed_by_name() -> None:
    assert pooled("def close(self):\n    for name in self.names:\n        getattr(self, name).shutdown()\n") == []
    assert len(pooled("def show(self, name):\n    print(getattr(self, name))\n")) == 1


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


def test_what_is_closed_on_one_way_is_not_rewritten_and_names_the_other() -> None:
    (suspect,) = found("def f(p):\n    f = open(p)\n    if p:\n        return 1\n    f.close()\n")
    assert not suspect.fixable
    assert (
        suspect.message == "a file from `open(…)` is closed on one way out only: the `return` in line 4 leaves it open"
    )


MAKER = """
import sqlite3
def connected(p):
    c = sqlite3.connect(p)
    c.row_factory = sqlite3.Row
    return c
"""


@pytest.mark.parametrize(
    "source,count",
    [
        ("def f():\n    c = connected(1)\n    return c.execute('x').fetchall()\n", 1),
        ("def f():\n    with connected(1) as c: c.execute('x')\n", 1),
        ("def f():\n    c = connected(1)\n    try: c.execute('x')\n    finally: c.close()\n", 0),
        ("def f():\n    return connected(1)\n", 0),
    ],
)
def test_a_function_that_makes_a_new_one_is_followed_to_its_callers(source: str, count: int) -> None:
    assert len(found(MAKER + source)) == count
    assert found((MAKER + source).replace("def connected", "@cache\ndef connected")) == []
    assert found((MAKER + source).replace("    return c\n", "    ALL.append(c)\n    return c\n", 1)) == []


def test_what_a_script_opens_once_is_less_sure() -> None:
    (suspect,) = found("def main(p):\n    f = open(p)\n    f.read()\nif __name__ == '__main__':\n    main('x')\n")
    assert (suspect.confidence, suspect.driver) == (Confidence.MEDIUM, Driver.IMPORT)


def test_an_object_made_at_import_lives_as_long_as_the_process() -> None:
    private = textwrap.dedent(POOL.format(bases="")).replace("Store", "_Store")
    assert found(private + "\nSTORE = _Store()\n") == []


def test_others_make_further_objects_of_a_public_class_that_takes_arguments() -> None:
    (suspect,) = found(textwrap.dedent(POOL.format(bases="")) + "\nSTORE = Store()\n")
    assert suspect.confidence is Confidence.LOW


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
        ("def f(pool):\n    d = pool.get_connection()\n    d.addCallback(print)\n", 0),
        ("async def f(mill_db):\n    if not await mill_db.connect(): raise E\n", 0),
        ("import gzip, io\ndef f(b):\n    return gzip.GzipFile(fileobj=io.BytesIO(b)).read()\n", 0),
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


MANAGED = """
import contextlib, ftplib, socket
{decorator}
def opened(host):
    ftp = ftplib.FTP(host)
    {body}
"""


@pytest.mark.parametrize(
    "decorator,body,confidence",
    [
        ("@contextlib.contextmanager", "yield ftp\n    ftp.close()", Confidence.MEDIUM),
        ("@contextlib.contextmanager", "try: yield ftp\n    finally: ftp.quit()", None),
        ("@contextlib.contextmanager", "with ftp: yield ftp", None),
        ("", "names = listing(ftp)\n    ftp.close()", Confidence.LOW),
        ("", "try: ftp.login()\n    finally: ftp.close()", None),
        ("", "ftp.close()", None),
    ],
)
def test_what_is_closed_after_the_yield_is_not_where_the_block_raises(
    decorator: str, body: str, confidence: Confidence | None
) -> None:
    suspects = found(MANAGED.format(decorator=decorator, body=body))
    assert [one.confidence for one in suspects] == ([] if confidence is None else [confidence])


SHARED = """
from concurrent.futures import ThreadPoolExecutor
class App:
    def __init__(self, pool=None):
        if pool is None:
            pool = ThreadPoolExecutor(5)
        self.runner = Runner(workers=pool)
"""


def test_a_default_pool_that_is_shared_out_is_shut_down_by_who_has_it() -> None:
    (suspect,) = found(SHARED)
    assert suspect.confidence is Confidence.LOW
    assert suspect.unless == (
        "closes:*._workers",
        "closes:*.workers",
        "closes:Runner._workers",
        "closes:Runner.workers",
    )
    assert found(SHARED + "    def close(self):\n        self.runner.workers.shutdown()\n") == []


def test_a_property_shows_what_it_returns_to_who_closes_it() -> None:
    shown = "@property\ndef workers(self):\n    return self.pool\n"
    (suspect,) = pooled(shown)
    assert "closes:*.workers" in suspect.unless
    assert pooled(shown + "def close(self):\n    self.workers.shutdown()\n") == []


def test_what_looks_up_a_database_keeps_its_client() -> None:
    source = "from pymongo import MongoClient\nclass Channel:\n    def _open(self, name):\n"
    source += "        client = MongoClient()\n        return client[name]\n"
    (suspect,) = found(source)
    assert suspect.confidence is Confidence.HIGH or suspect.confidence is Confidence.MEDIUM
    assert found(source + "    def close(self):\n        self._open('x').client.close()\n") == []
