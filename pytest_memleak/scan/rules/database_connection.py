"""MLK004: a connection, session or client that is opened and never closed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan import clients, connects
from pytest_memleak.scan.borrowers import words
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.half_entered import half_entered
from pytest_memleak.scan.module import Function, Module
from pytest_memleak.scan.suspect import Suspect
from pytest_memleak.scan.unclosed import Made, suspects

CODE: Final = "MLK004"
PATTERN: Final = "database_connection"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a connection closed, or released to its pool, anywhere in the function",
    "a connection returned, yielded by a generator that closes it, or given to something that may close it",
    "one in an attribute that anything in the program closes, or of a class with a base that closes such",
    "an engine, or a session of requests, that lives as long as the process or the object it is kept in",
)

_DRIVERS: Final = frozenset(
    {
        "sqlite3",
        "sqlite3.dbapi2",
        "psycopg",
        "psycopg2",
        "pymysql",
        "MySQLdb",
        "mysql.connector",
        "asyncpg",
        "aiosqlite",
        "aiomysql",
        "aiopg",
        "pyodbc",
        "aioodbc",
        "oracledb",
        "cx_Oracle",
        "duckdb",
        "pymssql",
        "mariadb",
        "psycopg.Connection",
        "psycopg.AsyncConnection",
        "snowflake.connector",
    }
)
_COMMITTING: Final = frozenset({"sqlite3", "dbapi2", "psycopg2"})
"""Drivers whose `with connection:` commits or rolls back, and does not close."""

_POOLS: Final = frozenset({"asyncpg.create_pool", "aiomysql.create_pool", "aiopg.create_pool"})
_ENGINES: Final = frozenset({"create_engine", "create_async_engine"})
_HTTP: Final = frozenset({"httpx.Client", "httpx.AsyncClient", "aiohttp.ClientSession", "aiohttp.client.ClientSession"})
_REQUESTS: Final = frozenset({"requests.Session", "requests.session", "requests.sessions.Session"})
_SESSIONS: Final = frozenset({"Session", "AsyncSession"})
_FACTORIES: Final = frozenset(
    {
        "SessionLocal",
        "AsyncSessionLocal",
        "SessionFactory",
        "AsyncSessionFactory",
        "session_factory",
        "async_session_factory",
        "sessionmaker",
        "async_sessionmaker",
        "session_maker",
        "async_session_maker",
        "async_session",
    }
)
_MAKERS: Final = frozenset({"sessionmaker", "async_sessionmaker"})
_SQL: Final = ("sqlalchemy", "sqlmodel")
_CONNECTED: Final = frozenset({"db", "database", "engine", "pool"})
_GIVING: Final = frozenset({"acquire", "getconn", "get_connection"})
_NAMES: Final = (
    frozenset({"connect", "create_pool", "Client", "AsyncClient", "ClientSession", "Session", "session"})
    | _ENGINES
    | _GIVING
)
_OPENING: Final = ("connect", "begin", "execute", "raw_connection")
_ONCE: Final = frozenset({"main", "upgrade", "downgrade", "cli"})
"""Functions that a process runs once."""

_HTTP_FIX: Final = (
    "close it: async with httpx.AsyncClient() as client: …, or one client for the process, closed at its end"
)
_ENGINE_FIX: Final = "make one for the process, at module level or in the lifespan, and dispose of it at its end"


def find(module: Module) -> Iterator[Suspect]:
    """The connections, sessions and clients that nobody closes."""
    yield from suspects(module, _made(module))
    yield from half_entered(module)


def _made(module: Module) -> Iterator[Made]:
    uses_sql = any(origin.split(".")[0] in _SQL for origin in module.imports.values())
    made_here = frozenset(_made_here(module))
    for call in module.calls:
        name = last_name(call.func)
        one = None
        if name in _NAMES:
            one = _connection(module, call, name) or _client(module, call, name)
        if one is None and name in clients.NAMES:
            one = clients.client(module, call)
        if one is None and (name in made_here or name in _SESSIONS or name in _FACTORIES):
            one = _session(module, call, name, uses_sql)
        if one is None and not name and _is_maker(module, call.func):
            one = Made(call=call, noun="a session")
        if one is not None:
            yield one


def _made_here(module: Module) -> Iterator[str]:
    """The names that the file assigns a maker of sessions to."""
    for maker in _MAKERS:
        for use in [*module.names.get(maker, ()), *module.attributes.get(maker, ())]:
            above = module.up[module.up[use]]
            if isinstance(above, ast.Assign | ast.AnnAssign):
                targets = above.targets if isinstance(above, ast.Assign) else [above.target]
                yield from (last_name(target) for target in targets)


def _connection(module: Module, call: ast.Call, name: str) -> Made | None:
    func = call.func
    if name == "connect":
        origin = module.dotted(func).rpartition(".")[0]
        # An application may choose its sqlite3 in a module of its own: `from app.sqlite import sqlite3`.
        if (origin in _DRIVERS or origin.endswith(".sqlite3")) and _is_imported(module, func):
            commits = origin.rpartition(".")[2] in _COMMITTING
            return Made(call=call, noun="a connection", on_success=Confidence.LOW, commits=commits)
        if not isinstance(func, ast.Attribute):
            return None
        named = _ends_in(func.value, _CONNECTED) and _is_used(module, call)
        if named or connects.is_queried(module, call):
            return Made(call=call, noun="a connection", confidence=Confidence.MEDIUM)
        return connects.connected_client(module, call)
    if name in _GIVING and isinstance(func, ast.Attribute):
        if _ends_in(func.value, frozenset({"pool"})) and _is_used(module, call):
            # What a pool has lent out and nobody gives back is missing there, until it has none left.
            sure = Confidence.MEDIUM
            return Made(call=call, noun="a connection", closing="releases it", on_success=sure)
    elif name == "create_pool":
        # Others have one of their own that awaits the first connections.
        known = module.dotted(func) in _POOLS
        if known or (_is_imported(module, func) and isinstance(module.up[call], ast.Await)):
            sure = Confidence.HIGH if known else Confidence.MEDIUM
            return Made(call=call, noun="a connection pool", lasting=True, confidence=sure, on_success=Confidence.LOW)
    return None


def _client(module: Module, call: ast.Call, name: str) -> Made | None:
    if name in _ENGINES:
        if (
            module.dotted(call.func).split(".")[0] in _SQL
            and _runs_often(module, call)
            and not _is_unpooled(call)
            and _connects(module, call)
        ):
            fix = _ENGINE_FIX
            return Made(
                call=call,
                noun="an engine",
                closing="disposes of it",
                on_self=False,
                fix=fix,
                confidence=Confidence.LOW,
            )
    elif name in {"Client", "AsyncClient", "ClientSession", "Session", "session"}:
        callee = module.dotted(call.func)
        if callee in _HTTP:
            return Made(call=call, noun="an HTTP client", fix=_HTTP_FIX, on_success=Confidence.LOW)
        if callee in _REQUESTS:
            return Made(call=call, noun="an HTTP session", confidence=Confidence.LOW, on_self=False)
    return None


def _session(module: Module, call: ast.Call, name: str, uses_sql: bool) -> Made | None:
    func = call.func
    callee = module.dotted(func)
    root = callee.split(".")[0]
    if name in _SESSIONS and root in _SQL:
        return Made(call=call, noun="a session")
    if isinstance(func, ast.Name):
        value = module.value_of(func)
        if value is not None:
            if isinstance(value, ast.Call) and last_name(value.func) in _MAKERS:
                return Made(call=call, noun="a session")
            return None
        if name in _SESSIONS and uses_sql and _is_unpacked(module, func):
            return Made(call=call, noun="a session", confidence=Confidence.MEDIUM)
        if func.id not in module.imports or root in _SQL or module.imports[func.id] == func.id:
            return None
        if name in _FACTORIES and last_name(func) not in _MAKERS:
            return Made(call=call, noun="a session")
        if name in _SESSIONS and uses_sql and root not in _OTHERS:
            return Made(call=call, noun="a session", confidence=Confidence.MEDIUM)
    elif name in _FACTORIES and root not in _SQL and isinstance(func, ast.Attribute) and name not in _MAKERS:
        return Made(call=call, noun="a session", confidence=Confidence.MEDIUM)
    return None


_OTHERS: Final = frozenset(
    {"requests", "boto3", "aiobotocore", "aioboto3", "botocore", "aiohttp", "httpx", "curl_cffi"}
)
"""They have sessions too, of another kind."""


def _is_unpacked(module: Module, name: ast.Name) -> bool:
    """Whether a name is a local that is one of several from a call: `engine, Session = self._open()`, in a file that
    makes makers of sessions."""
    owner = module.owner(name, name.id)
    if owner is None or isinstance(owner, ast.Module) or _MAKERS.isdisjoint(module.imports):
        return False
    stores = [use for use in module.uses(owner, name.id) if isinstance(use.ctx, ast.Store)]
    return bool(stores) and all(isinstance(module.up[use], ast.Tuple) for use in stores)


def _is_maker(module: Module, func: ast.expr) -> bool:
    """`sessionmaker(bind=engine)()`."""
    return (
        isinstance(func, ast.Call)
        and last_name(func.func) in _MAKERS
        and module.dotted(func.func).split(".")[0] in _SQL
    )


def _ends_in(node: ast.expr, ends: frozenset[str]) -> bool:
    # A class is no pool yet: `SandboxPool.connect(…)` makes one.
    name = last_name(node)
    return not name[:1].isupper() and not ends.isdisjoint(words(name)[-1:])


def _is_used(module: Module, call: ast.Call) -> bool:
    above = module.up[call]
    if isinstance(above, ast.Await):
        above = module.up[above]
    # What is only asked whether it worked is no connection.
    return not isinstance(above, ast.Expr | ast.If | ast.While | ast.UnaryOp | ast.BoolOp | ast.Assert)


def _is_imported(module: Module, func: ast.expr) -> bool:
    while isinstance(func, ast.Attribute):
        func = func.value
    return isinstance(func, ast.Name) and func.id in module.imports


def _connects(module: Module, call: ast.Call) -> bool:
    """Whether an engine is used in its own function: before that it has opened nothing."""
    above = module.up[call]
    if not isinstance(above, ast.Assign | ast.AnnAssign):
        return isinstance(above, ast.Attribute) and above.attr in _OPENING
    target = above.targets[0] if isinstance(above, ast.Assign) else above.target
    return any(
        last_name(use.value) == last_name(target) and module.function(use) is module.function(call)
        for name in _OPENING
        for use in module.attributes.get(name, ())
    )


def _runs_often(module: Module, call: ast.Call) -> bool:
    """Not at import, not in what a process runs once, not behind a cache."""
    function: Function | None = module.function(call)
    if function is None:
        return False
    if function.name in _ONCE or "migration" in function.name or "lifespan" in function.name:
        return False
    names = {last_name(one.func if isinstance(one, ast.Call) else one) for one in function.decorator_list}
    return names.isdisjoint({"cache", "lru_cache", "cached_property", "fixture", "command"})


def _is_unpooled(call: ast.Call) -> bool:
    return any(
        keyword.arg == "poolclass" and last_name(keyword.value) in {"NullPool", "StaticPool"}
        for keyword in call.keywords
    )
