"""Clients of databases and of other servers, which hold connections until they are closed."""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.model_scan import Confidence
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.lifetimes import End, Fate, fate
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.unclosed import Made

_MONGO: Final = frozenset({"MongoClient", "AsyncMongoClient", "AsyncIOMotorClient", "MotorClient"})

_SINGLE: Final = frozenset(
    {
        *(f"ftplib.{name}" for name in ("FTP", "FTP_TLS")),
        *(f"smtplib.{name}" for name in ("SMTP", "SMTP_SSL", "LMTP")),
        *(f"imaplib.{name}" for name in ("IMAP4", "IMAP4_SSL")),
        *(f"poplib.{name}" for name in ("POP3", "POP3_SSL")),
        *(f"http.client.{name}" for name in ("HTTPConnection", "HTTPSConnection")),
        "paramiko.SSHClient",
        "paramiko.Transport",
        "pika.BlockingConnection",
        "aio_pika.connect",
        "aio_pika.connect_robust",
        "nats.connect",
        "ldap3.Connection",
    }
)
"""One connection each."""

_POOLED: Final = frozenset(
    {
        "psycopg_pool.ConnectionPool",
        "psycopg_pool.AsyncConnectionPool",
        "psycopg2.pool.SimpleConnectionPool",
        "psycopg2.pool.ThreadedConnectionPool",
        "neo4j.GraphDatabase.driver",
        "neo4j.AsyncGraphDatabase.driver",
        "cassandra.cluster.Cluster",
        "elasticsearch.AsyncElasticsearch",
        "opensearchpy.AsyncOpenSearch",
        "grpc.insecure_channel",
        "grpc.secure_channel",
        "grpc.aio.insecure_channel",
        "grpc.aio.secure_channel",
        "arq.create_pool",
        "arq.connections.create_pool",
        "aioredis.create_redis_pool",
    }
)
"""Many connections or threads each, which are often kept for as long as the process."""

_REDIS: Final = frozenset({"Redis", "StrictRedis", "RedisCluster", "from_url"})

NAMES: Final = _MONGO | _REDIS | frozenset(name.rpartition(".")[2] for name in _SINGLE | _POOLED)


def client(module: Module, call: ast.Call) -> Made | None:
    """The client that a call makes, if any."""
    name, callee = last_name(call.func), module.dotted(call.func)
    if name in _MONGO:
        if callee.split(".")[0] not in {"pymongo", "motor"}:
            return None
        kept = _kept_as_database(module, call)
        sure = Confidence.HIGH if kept is None else Confidence.MEDIUM
        return Made(call=call, noun="a database client", confidence=sure, lasting=True, fate=kept)
    if callee in _SINGLE:
        return Made(call=call, noun="a connection", on_success=Confidence.LOW)
    if callee in _POOLED:
        return Made(call=call, noun="a pool of connections", confidence=Confidence.MEDIUM, on_success=Confidence.LOW)
    if name in _REDIS and callee.split(".")[0] in {"redis", "aioredis"}:
        # The synchronous one closes its connections when it is collected.
        is_async = callee.startswith(("redis.asyncio.", "aioredis."))
        return Made(
            call=call,
            noun="a Redis client",
            confidence=Confidence.MEDIUM if is_async else Confidence.LOW,
            lasting=True,
            on_success=Confidence.LOW if is_async else None,
        )
    return None


def _kept_as_database(module: Module, call: ast.Call) -> Fate | None:
    """How a client of MongoDB is lost whose databases are all that is looked up in it and handed on: `client[name]`
    keeps the client and its threads, and none of the two is closed by what closes the other."""
    target = _local(module, call)
    if target is None:
        return None
    function = module.function(call)
    uses = [use for use in module.uses(module.scope(target), target.id) if isinstance(use.ctx, ast.Load)]
    handed = [use for use in uses if fate(module, use, inline=False).end is not End.LOST]
    if function is None or not handed or any(not _looks_up(module, use) for use in handed):
        return None
    if any(last_name(use.value) == "client" for name in ("close", "aclose") for use in module.attributes.get(name, ())):
        return None  # `database.client.close()`
    each = module.class_of(call) is None and not _is_called_within(module, function.name)
    return Fate(end=End.LOST, how=f"is left behind `{target.id}[…]`, which is handed on,", guessed=each)


def _looks_up(module: Module, use: ast.Name) -> bool:
    above = module.up[use]
    if isinstance(above, ast.Subscript):
        return above.value is use
    return isinstance(above, ast.Attribute) and not isinstance(module.up[above], ast.Call)


def _local(module: Module, call: ast.Call) -> ast.Name | None:
    above = module.up[call]
    target = above.targets[0] if isinstance(above, ast.Assign) and len(above.targets) == 1 else None
    if not isinstance(target, ast.Name) or module.owner(target, target.id) is not module.function(target):
        return None
    return target


def _is_called_within(module: Module, name: str) -> bool:
    """Whether a function of the file calls another by its name: more often than once, at import."""
    return any(
        isinstance(module.up[use], ast.Call) and module.function(use) is not None for use in module.names.get(name, ())
    )
