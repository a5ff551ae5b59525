"""Connections, sessions, engines and clients, those that somebody closes and those that nobody does."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import database_connection, file_handle, thread_pool
from pytest_memleak.scan.suspect import Suspect

RULES = (file_handle, database_connection, thread_pool)


def found(source: str) -> list[Suspect]:
    module = Module(ast.parse(textwrap.dedent(source)), "app.things")
    return [suspect for rule in RULES for suspect in rule.find(module)]


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


def test_what_looks_up_a_database_keeps_its_client() -> None:
    source = "from pymongo import MongoClient\nclass Channel:\n    def _open(self, name):\n"
    source += "        client = MongoClient()\n        return client[name]\n"
    (suspect,) = found(source)
    assert suspect.confidence is Confidence.HIGH or suspect.confidence is Confidence.MEDIUM
    assert found(source + "    def close(self):\n        self._open('x').client.close()\n") == []


@pytest.mark.parametrize(
    "source,count",
    [
        ("import pandas as pd\ndef f(q, e):\n    return pd.read_sql(q, e.connect())\n", 1),
        ("import pandas as pd\ndef f(q, e):\n    c = e.connect()\n    return pd.read_sql(q, con=c)\n", 1),
        ("import pandas as pd\ndef f(q, e):\n    with e.connect() as c: return pd.read_sql(q, c)\n", 0),
        ("def f(q, e):\n    c = e.connect()\n    return c.execute(q)\n", 1),
        ("def f(q, e):\n    c = e.connect()\n    try: return c.execute(q)\n    finally: c.close()\n", 0),
        ("def f(q, e):\n    c = e.connect()\n    c.wave(q)\n", 0),
        ("async def f(q):\n    c = Client(q)\n    await c.connect()\n    await c.run()\n", 1),
        ("async def f(q):\n    c = Prisma(q)\n    await c.db.connect()\n    await c.db.run()\n", 1),
        ("async def f(q):\n    c = Prisma(q)\n    await c.db.connect()\n    await c.db.disconnect()\n", 0),
        ("async def f(q):\n    c = Client(q)\n    await c.connect()\n    return c\n", 0),
        ("async def f(q):\n    c = Client(q)\n    await c.connect()\n    q.keep(c.pool)\n", 0),
        ("async def f(q):\n    c = find(q)\n    await c.connect()\n    await c.run()\n", 0),
        ("async def f(q):\n    c = Client(q)\n    with raises(E):\n        await c.connect()\n", 0),
    ],
)
def test_what_is_done_with_it_tells_a_connection(source: str, count: int) -> None:
    assert len(found(source)) == count


PARKED = """
import aiosqlite
OPEN = []
async def get(request, path):
    connection = await aiosqlite.connect(path)
    {store}
    return await connection.execute_fetchall("x")
"""


@pytest.mark.parametrize(
    "store,count",
    [
        ("request.app.state.connections.append(connection)", 1),
        ("OPEN.append(connection)", 1),
        ("OPEN.append(connection); request.keep(connection)", 0),
        ("OPEN.append(connection); OPEN.remove(connection)", 0),
        ("request.state.connections.append(connection)", 0),
    ],
)
def test_what_is_parked_where_nothing_empties_is_never_closed(store: str, count: int) -> None:
    assert len(found(PARKED.format(store=store))) == count


def test_a_parked_connection_is_cleared_by_who_empties_its_container() -> None:
    (suspect,) = found(PARKED.format(store="request.app.state.connections.append(connection)"))
    assert suspect.unless == ("empties:state.connections",)
    assert suspect.message == (
        "a connection from `aiosqlite.connect(…)` is kept in `app.state.connections`, which nothing empties, "
        "and nothing closes it before the process ends: every call leaves one open"
    )
