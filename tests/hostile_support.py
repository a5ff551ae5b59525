"""Requests of strangers at real servers, from an address that is not this machine's own loopback.

Run as a program, it moves into a network of its own (a Linux namespace with one more address on its loopback
device), serves there, and attacks there; what it has seen is printed as JSON. Where it may not, the servers stay at
the loopback address, and an app around each tells of a peer that is elsewhere.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import dataclasses
import fcntl
import json
import random
import re
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from hostile_requests import PLACES, PREFIX, TOKEN, WORD, Place, Request, hostile
from starlette.applications import Starlette
from starlette.routing import Mount

from pytest_memleak.monitor import setup_memory_monitoring

STRANGER: Final = "192.0.2.7"
"""Of a block that is documentation's and nobody's."""

TELLING: Final = re.compile(
    rb"stalled_ms|Memory monitor|rss_bytes|<svg|import \{|color-scheme: light dark;", re.IGNORECASE
)
"""In each of the monitor's answers, files and metrics, and in no refusal."""

_CONNECTIONS: Final = 16
_PATIENCE_S: Final = 60.0


@dataclasses.dataclass(slots=True, kw_only=True)
class Seen:
    """What the strangers got."""

    statuses: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    refused: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    def note(self, place: Place, request: Request, answer: bytes) -> None:
        """One answer: nothing of the monitor's is in it, and what is plainly for the monitor is refused."""
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        self.statuses[f"{place.name} {status}"] += 1
        is_well = status < 200 or status == 400 or (status >= 300 and status < 500) or (status == 200 and request.app)
        is_wrong = TELLING.search(answer) or (WORD.encode() in answer.partition(b"\r\n\r\n")[2] and not request.app)
        if request.refused:
            self.refused += status == place.status
            is_well = status == place.status and b"location:" not in answer.lower()
        if not is_well or is_wrong or status == 101 or b"set-cookie" in answer.lower():
            self.wrong.append(f"{place.name}: {request.data[:300]!r} got {answer[:600]!r}")


async def attack(host: str, port: int, place: Place, requests: Iterator[Request], seen: Seen) -> None:
    """Send them one after another, on one connection for as long as that lasts."""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for request in requests:
        for _try in range(2):
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            answer, is_over = await asyncio.wait_for(_exchange(reader, writer, request), _PATIENCE_S)
            if is_over:
                writer.close()
                reader = writer = None
            if answer or request.ends:
                break
            # The server had closed the connection after the answer before.
        seen.note(place, request, answer)
    if writer is not None:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> tuple[bytes, bool]:
    """The answer in whole, and whether the connection is over; no bytes where it was closed."""
    try:
        writer.write(request.data)
        if request.ends:
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await _rest(reader), True
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b"", True
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    is_over = b"connection: close" in head.lower()
    if length is None and not request.head and head[9:12] not in (b"204", b"304"):
        return head + await _rest(reader), True
    return head + (b"" if request.head else await reader.readexactly(int(length[1]) if length else 0)), is_over


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side closes, or has said nothing for a while: a second answer too."""
    found = b""
    while True:
        try:
            part = await asyncio.wait_for(reader.read(1 << 16), 0.02)
        except (asyncio.TimeoutError, ConnectionError):
            return found
        if not part:
            return found
        found += part


# Where it is sent to.


def own_network() -> bool:
    """Whether this process is alone in a network now, in which `STRANGER` is its own address."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000 | 0x40000000):  # a user namespace, and in it a network
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            address = struct.pack("<H2x4s8x", socket.AF_INET, socket.inet_aton(STRANGER))
            fcntl.ioctl(device, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # up and running
            fcntl.ioctl(device, 0x8916, struct.pack("16s16s", b"lo:0", address))  # its second address
        with socket.create_server((STRANGER, 0)):
            return True
    except (OSError, AttributeError):
        return False


def elsewhere(app: Any) -> Any:
    """The app, called by a peer of another address."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        moved = {**scope, "client": (STRANGER, 5_000)} if "client" in scope else scope
        await app(moved, receive, send)

    return call


def shop(**options: Any) -> FastAPI:
    """A program of one route."""
    app = FastAPI(openapi_url=None)

    @app.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    setup_memory_monitoring(app, interval_s=5.0, **options)
    return app


async def serve(app: Any, wrap: Callable[[Any], Any], **options: Any) -> tuple[int, Callable[[], Awaitable[None]]]:
    """A real server in this loop, which trusts every forwarded header; its port, and what ends it."""
    config = uvicorn.Config(
        wrap(app), log_level="critical", log_config=None, access_log=False, forwarded_allow_ips="*", **options
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("0.0.0.0", 0))
    task = asyncio.ensure_future(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)

    async def end() -> None:
        server.should_exit = True
        await task

    return listening.getsockname()[1], end


async def main(count: int, seed: int, *, apart: bool) -> dict[str, Any]:
    """Serve and attack; what was seen."""
    is_apart = apart and own_network()
    host, wrap = (STRANGER, lambda app: app) if is_apart else ("127.0.0.1", elsewhere)
    with socket.create_server(("127.0.0.1", 0)) as free:
        own_port = free.getsockname()[1]
    apps = [shop(token=TOKEN), shop(), shop(token=TOKEN), shop(token=TOKEN), shop(token=TOKEN, port=own_port)]
    mounted = Starlette(routes=[Mount("/shop", apps[2])])
    served = [
        await serve(app, wrap, **options)
        for app, options in [
            (apps[0], {}), (apps[1], {}), (mounted, {}), (apps[3], {"root_path": "/v1"}), (apps[4], {}),
        ]
    ]  # fmt: skip
    ports = [port for port, _ in served]
    await _opened(host, ports[4], own_port)
    ports[4] = own_port
    before = [await _metrics(host, port, place) for port, place in zip(ports, PLACES, strict=True)]
    seen, begun = Seen(), time.monotonic()
    await asyncio.gather(
        *(
            attack(host, ports[at % 5], PLACES[at % 5], _some(seed + at, PLACES[at % 5], count, at), seen)
            for at in range(_CONNECTIONS)
        )
    )
    seconds = time.monotonic() - begun
    after = [await _metrics(host, port, place) for port, place in zip(ports, PLACES, strict=True)]
    known = [await _known(host, port, place) for port, place in zip(ports, PLACES, strict=True)]
    for _, end in served:
        await end()
    return {
        "apart": is_apart, "seconds": seconds, "requests": seen.statuses.total(), "statuses": dict(seen.statuses),
        "refused": seen.refused, "wrong": seen.wrong[:5], "before": before, "after": after, "known": known,
    }  # fmt: skip


def _some(seed: int, place: Place, count: int, at: int) -> Iterator[Request]:
    chance = random.Random(seed)
    for _ in range(count // _CONNECTIONS + (at < count % _CONNECTIONS)):
        yield hostile(chance, place)


async def _ask(host: str, port: int, path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write("\r\n".join(lines).encode())
    answer = await asyncio.wait_for(reader.read(), _PATIENCE_S)
    writer.close()
    return answer


async def _opened(host: str, port: int, own_port: int) -> None:
    """Wait for the port of its own, which opens after the first request."""
    for _ in range(int(_PATIENCE_S / 0.05)):
        await _ask(host, port, "/items/1")
        try:
            await _ask(host, own_port, "/metrics")
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return
    raise TimeoutError("the port of its own")


async def _metrics(host: str, port: int, place: Place) -> list[str]:
    """The endpoints that the metrics tell of, after a request that a route serves and one that none does."""
    for path in ("/items/1", "/none", "/metrics"):
        await _ask(host, port, place.before + path)
    text = (await _ask(host, port, place.before + "/metrics")).decode()
    assert WORD not in text, text
    return sorted(set(re.findall(r'endpoint="([^"]*)"', text)))


async def _known(host: str, port: int, place: Place) -> list[int]:
    """How who has the token is answered, from the same address."""
    found = []
    for headers in ([], [f"Authorization: Bearer {TOKEN}"]):
        answer = await _ask(host, port, place.before + PREFIX + "/process-info", *headers)
        found.append(int(answer[9:12]))
        assert (TELLING.search(answer) is not None) == (found[-1] == 200), answer
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), apart="here" not in sys.argv))))
