"""Servers in processes of their own, and a client that is fast enough to keep one of them busy.

The client is a few lines on asyncio's transports: it reads a status and a length, and costs a tenth of what the
server does. It has a core of its own, where the machine has two.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import dataclasses
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
from pytest_runs import CHECKOUT

from pytest_memleak.soak.server import default_command, free_port, wait_until_healthy
from pytest_memleak.soak.tree import Tree

CPU: Final = "MEMLEAK_BENCHMARK_CPU"
"""The variable that names the core of a server."""

_SERVER_CPU, _CLIENT_CPU = 0, 1

# An answer that takes longer is none: a server that hangs must not hang the benchmark.
_LIMIT_S: Final = 60.0

Request = Callable[[], bytes]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one server did for a while: how long each answer took, and its status."""

    seconds: float
    latencies_s: array.array[float]
    statuses: collections.Counter[int]

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that so large a share of the answers kept."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def get(path: str, *, method: str = "GET", body: str = "") -> bytes:
    """A request as it goes over the wire; a body is JSON."""
    fields = "" if method == "GET" else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n{body}".encode()


class _Connection(asyncio.Protocol):
    """Sends a request when it is told to, and tells when the whole answer is there."""

    def __init__(
        self, answered: Callable[[_Connection, int, bytes], None], lost: Callable[[_Connection], None]
    ) -> None:
        self._answered, self._lost = answered, lost
        self._data = b""
        self._wanted = 0
        self._transport: Any = None
        self.due_s = 0.0
        self.unanswered = b""
        """The request whose answer has not begun."""

        self.is_waiting = False
        """Whether an answer is still to come."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        self._lost(self)

    def send(self, request: bytes, due_s: float) -> None:
        self.due_s = due_s
        self.unanswered = request
        self.is_waiting = True
        self._transport.write(request)

    def close(self) -> None:
        self._lost = _nothing
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data += data
        self.unanswered = b""
        if not self._wanted:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._data.lower().index(b"content-length: ", 0, end) + 16
            self._wanted = end + 4 + int(self._data[at : self._data.index(b"\r", at)])
        if len(self._data) >= self._wanted:
            whole, self._data, self._wanted = self._data, b"", 0
            self.is_waiting = False
            self._answered(self, int(whole[9:12]), whole)


def _nothing(_connection: _Connection) -> None: ...


class Client:
    """Connections to one server, for one slice."""

    def __init__(self, port: int, request: Request, connections: int) -> None:
        self._port, self._request, self._size = port, request, connections
        self._latencies_s = array.array("d")
        self._statuses: collections.Counter[int] = collections.Counter()
        self._over: asyncio.Future[None]
        self._left = 0
        self._busy = 0
        self._until_s = 0.0
        self._idle: list[_Connection] = []
        self._late: collections.deque[float] = collections.deque()
        self._is_paced = False
        self._open: list[_Connection] = []
        self._tasks: set[asyncio.Future[None]] = set()

    async def busy(self, *, seconds: float = _LIMIT_S * 60, requests: int = sys.maxsize) -> Slice:
        """Each connection sends the next request as soon as it has an answer."""
        async with self._opened() as connections:
            begun = time.perf_counter()
            self._left, self._until_s = requests, begun + seconds
            for connection in connections:
                self._next(connection, begun)
            await self._over
            return self._slice(begun)

    async def paced(self, per_s: float, *, seconds: float) -> Slice:
        """So many requests a second, whatever becomes of them: one that waits for a connection waits, as users do."""
        self._is_paced = True
        async with self._opened() as connections:
            self._idle = connections
            begun = time.perf_counter()
            total = self._left = int(per_s * seconds)
            sent = 0
            while sent < total:
                due = begun + sent / per_s
                ahead_s = due - time.perf_counter()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                self._send_at(due)
                sent += 1
            await asyncio.wait_for(self._over, _LIMIT_S)
            return self._slice(begun)

    @contextlib.asynccontextmanager
    async def _opened(self) -> Any:
        self._over = asyncio.get_running_loop().create_future()
        made = [await self._connect() for _ in range(self._size)]
        gc.disable()  # a pause of the client would be the server's latency
        try:
            yield made
        finally:
            gc.enable()
            for connection in self._open:
                connection.close()

    def _slice(self, begun: float) -> Slice:
        seconds = time.perf_counter() - begun
        return Slice(seconds=seconds, latencies_s=self._latencies_s, statuses=self._statuses)

    def _next(self, connection: _Connection, now: float) -> None:
        if self._left > 0 and now < self._until_s:
            self._left -= 1
            self._busy += 1
            connection.send(self._request(), now)
        elif not self._busy and not self._over.done():
            self._over.set_result(None)

    def _send_at(self, due: float) -> None:
        if self._idle:
            self._idle.pop().send(self._request(), due)
        else:
            self._late.append(due)

    def _answered(self, connection: _Connection, status: int, _whole: bytes) -> None:
        now = time.perf_counter()
        self._latencies_s.append(now - connection.due_s)
        self._statuses[status] += 1
        if not self._is_paced:
            self._busy -= 1
            self._next(connection, now)
            return
        self._left -= 1
        if self._late:
            connection.send(self._request(), self._late.popleft())
        else:
            self._idle.append(connection)
        if not self._left and not self._over.done():
            self._over.set_result(None)

    def _lost(self, connection: _Connection) -> None:
        """uvicorn hangs up after an error that nobody caught: what was not answered yet is asked again."""
        if self._over.done() or not connection.is_waiting:
            return
        if connection.unanswered:
            task = asyncio.ensure_future(self._again(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._over.set_exception(ConnectionError("the server closed a connection in the middle of an answer"))

    async def _again(self, lost: _Connection) -> None:
        connection = await self._connect()
        connection.send(lost.unanswered, lost.due_s)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: _Connection(self._answered, self._lost), "127.0.0.1", self._port)
        self._open.append(made)
        return made


async def ask(port: int, path: str, *, method: str = "GET", body: str = "") -> tuple[int, bytes, float]:
    """One request on a connection of its own: status, body, and seconds from the request to the whole answer."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[int, bytes, float]] = loop.create_future()

    def answered(connection: _Connection, status: int, whole: bytes) -> None:
        taken_s = time.perf_counter() - connection.due_s
        answer.set_result((status, whole.partition(b"\r\n\r\n")[2], taken_s))

    def lost(_connection: _Connection) -> None:
        if not answer.done():
            answer.set_exception(ConnectionError("the server closed the connection"))

    _, connection = await loop.create_connection(lambda: _Connection(answered, lost), "127.0.0.1", port)
    connection.send(get(path, method=method, body=body), time.perf_counter())
    try:
        return await asyncio.wait_for(answer, _LIMIT_S)
    finally:
        connection.close()


async def ask_json(port: int, path: str, *, method: str = "GET") -> dict[str, Any]:
    """The JSON object of an answer; raises RuntimeError where there is none."""
    status, body, _ = await ask(port, path, method=method)
    if status != 200:
        raise RuntimeError(f"{method} {path}: {status}, {body.decode()[:200]}")
    found: dict[str, Any] = json.loads(body)
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs."""

    port: int
    pid: int


@contextlib.contextmanager
def served(app: str, folder: Path, **variables: str) -> Iterator[Served]:
    """`uvicorn app` on a free port, on a core that the client leaves alone; its log is in `folder`."""
    launch = default_command(app, "127.0.0.1", free_port())
    environment = {**os.environ, **variables, CPU: str(_SERVER_CPU)}
    # This checkout is measured, whatever is installed.
    paths = [str(CHECKOUT), str(CHECKOUT / "benchmarks"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    log = folder / f"{launch.port}.log"
    with Tree.start(launch.command, log=log, environment=environment, cwd=folder, name="server") as tree:
        wait_until_healthy(launch.url, tree)
        yield Served(port=launch.port, pid=tree.pid)


def cpu_s(pid: int) -> float:
    """Processor time of a process until now: of its threads that live, in nanoseconds, where Linux tells them."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        texts = []
    if texts:
        return sum(int(text.split()[0]) for text in texts) / 1e9
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def keep_to(cpu: str | None = None) -> None:
    """Keep this process, and the threads that it will start, to one core; the client's by default."""
    wanted = _CLIENT_CPU if cpu is None else int(cpu)
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1 and wanted in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {wanted})
