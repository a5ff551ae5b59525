"""What the agent costs a server, how exactly a soak attributes, and what it says of the shop's two versions.

throughput   requests/s of a hello-world under uvicorn with the agent reading it, over those without, from runs that
             alternate; the client keeps one core busy, the server the other
attribution  a real soak of three minutes at 100 requests/s, ten endpoints, one of which keeps 1 kB per request: its
             interval holds 1 kB and lies above those of the nine
shop         soaks of the leaky and of the fixed shop: LEAK with every leak at its line, and CLEAN below 0.05 MB/min

Goal: throughput of at least 95 %, one endpoint accused and no other, the fixed shop below 0.05 MB/min.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pytest_runs import CHECKOUT, MISSED, OK, say, table

from pytest_memleak import bootstrap, wire
from pytest_memleak.soak.channel import Channel
from pytest_memleak.soak.server import default_command, free_port, wait_until_healthy
from pytest_memleak.soak.tree import Tree

_SHARE: Final = 0.95
_CONNECTIONS: Final = 32
_KEPT_BYTES: Final = 1_000
_FIXED_MB_PER_MIN: Final = 0.05

_HELLO: Final = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/hello")
async def hello():
    return {"hello": "world"}
"""

_TEN: Final = """\
from fastapi import FastAPI

app = FastAPI()
kept = []


def make(number):
    async def endpoint(n: int):
        if number == 3:
            kept.append(bytes(1_000 - 33))  # with its header, 1,000 B of malloc
        return {"made": [str(value) for value in range(20 * (number + 1))]}

    app.get(f"/endpoint{number}/{{n}}")(endpoint)


for number in range(10):
    make(number)
"""

_TEN_LOAD: Final = """\
import itertools
from locust import FastHttpUser, constant_throughput, task

numbers = itertools.count()


def make(number):
    def call(user):
        user.client.get(f"/endpoint{number}/{next(numbers)}", name=f"/endpoint{number}")

    call.__name__ = f"endpoint{number}"
    return call


class Visitor(FastHttpUser):
    wait_time = constant_throughput(5)
    tasks = [make(number) for number in range(10)]
"""


class _Client(asyncio.Protocol):
    """Sends the next request as soon as the answer is there; all answers are of one length."""

    def __init__(self, request: bytes, length: int, counts: list[int]) -> None:
        self._request, self._length, self._counts = request, length, counts
        self._received = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received >= self._length:
            self._received -= self._length
            self._counts[0] += 1
            self._transport.write(self._request)


async def _drive(port: int, seconds: float) -> float:
    """Requests/s over some seconds, after a warm-up of one."""
    request = f"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if b": " in line)
    length = len(head) + int(fields[b"content-length"])
    writer.close()
    counts = [0]
    loop = asyncio.get_running_loop()
    for _ in range(_CONNECTIONS):
        await loop.create_connection(lambda: _Client(request, length, counts), "127.0.0.1", port)
    await asyncio.sleep(1.0)
    before, begun = counts[0], time.perf_counter()
    await asyncio.sleep(seconds)
    return (counts[0] - before) / (time.perf_counter() - begun)


@contextlib.contextmanager
def _server(folder: Path, *, with_agent: bool) -> Iterator[int]:
    launch = default_command("hello:app", "127.0.0.1", free_port())
    environment = dict(os.environ)
    with Channel() as channel:
        if with_agent:
            environment[wire.AGENT_CHANNEL], environment[wire.AGENT_KEY] = channel.address, channel.key
            environment["PYTHONPATH"] = str(bootstrap.FOLDER)
        log = folder / "server.log"
        stop = threading.Event()
        listener = threading.Thread(target=_listen, args=(channel, stop))
        with Tree.start(launch.command, log=log, environment=environment, cwd=folder, name="server") as tree:
            wait_until_healthy(launch.url, tree)
            listener.start()
            try:
                yield launch.port
            finally:
                stop.set()
                listener.join()


def _listen(channel: Channel, stop: threading.Event) -> None:
    """As a soak of half an hour does."""
    while not stop.is_set():
        message = channel.next(0.2)
        if message is not None and message.body is not None and message.body["kind"] == "hello":
            channel.send(message.peer, {"kind": "pace", "interval_s": 2.0})


def throughput(pairs: int, seconds: float) -> bool:
    """Runs without and with the agent, one after the other, `pairs` times."""
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hello.py").write_text(_HELLO, encoding="utf-8")
        for _ in range(pairs):
            rates = []
            for with_agent in (False, True):
                with _server(folder, with_agent=with_agent) as port:
                    client = [sys.executable, __file__, "--client", str(port), "--seconds", f"{seconds:g}"]
                    done = subprocess.run(client, capture_output=True, text=True, check=True)
                    rates.append(float(done.stdout))
            ratios.append(rates[1] / rates[0])
            rows.append([f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{ratios[-1]:.1%}"])
    say(table(["without", "with the agent", "share"], rows))
    median = statistics.median(ratios)
    say(f"throughput: {median:.1%} in the median (goal {_SHARE:.0%})")
    return median >= _SHARE


def _soak(arguments: list[str], *, folder: Path) -> dict[str, Any]:
    """The result of `memleak soak`, as it prints it; its progress goes to stderr, for the eye."""
    command = [sys.executable, "-m", "pytest_memleak", "soak", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    for growth in found["endpoints"]:
        # A bound that is not known is null in JSON.
        each = growth["bytes_per_request"]
        each["low"] = -math.inf if each["low"] is None else each["low"]
        each["high"] = math.inf if each["high"] is None else each["high"]
    return found


def attribution(duration: str) -> bool:
    """Ten endpoints, 20 users of 5 requests/s each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ten.py").write_text(_TEN, encoding="utf-8")
        (folder / "load.py").write_text(_TEN_LOAD, encoding="utf-8")
        options = ["--duration", duration, "--users", "20", "--locustfile", "load.py", "--out", "run"]
        result = _soak(["ten:app", *options, "--health", "/endpoint0/1", "--no-diagnose"], folder=folder)
    rows = []
    for growth in result["endpoints"]:
        each = growth["bytes_per_request"]
        interval = f"{each['low']:.0f} to {each['high']:.0f}"
        rows.append([" + ".join(growth["endpoints"]), f"{growth['requests']}", f"{each['value']:.0f}", interval])
    say(table(["endpoint", "requests", "B/request", "99 %"], rows))
    guilty = [growth for growth in result["endpoints"] if growth["endpoints"] == ["GET /endpoint3/{n}"]]
    others = [growth["bytes_per_request"]["high"] for growth in result["endpoints"] if growth not in guilty]
    accused = [growth for growth in result["endpoints"] if growth["bytes_per_request"]["low"] > 0]
    each = guilty[0]["bytes_per_request"] if guilty else {"low": 0.0, "high": 0.0, "value": 0.0}
    load = result["load"]
    say(f"{load['requests_per_s']:.0f} requests/s; kept {each['value']:.0f} B [{each['low']:.0f}, {each['high']:.0f}]")
    # A list's growth costs an eighth more pointers, 9 B an entry, and malloc rounds up to 16 B.
    is_right = each["low"] <= _KEPT_BYTES + 32 and each["high"] >= _KEPT_BYTES - 16
    reached = accused == guilty and each["low"] > max(others, default=0.0) and is_right
    say(f"attribution: {'the one, and no other' if reached else 'missed'}; the nine are below {max(others):.0f} B")
    return reached


def shop(duration: str, users: int, keep: Path | None) -> bool:
    """Both shops, one after the other, by the load of the examples."""
    reached = True
    for version in ("leaky_shop", "fixed_shop"):
        with tempfile.TemporaryDirectory() as name:
            folder = CHECKOUT / "examples" / version
            out = (keep or Path(name)) / version
            load = str(CHECKOUT / "examples" / "shop_tests" / "locustfile.py")
            options = ["--duration", duration, "--users", str(users), "--locustfile", load, "--out", str(out)]
            result = _soak(["shop.main:app", *options], folder=folder)
        growth, pauses = result["growth"], result["pauses"]
        interval = f"[{growth['low']:.3f}, {growth['high']:.3f}]"
        say(
            f"{version}: {result['outcome']}, {growth['value']:.3f} MB/min {interval}, {len(result['leaks'])} leaks "
            f"told, pauses {pauses['median_ms']:.0f} ms in the median, {pauses['longest_ms']:.0f} ms at most"
        )
        if version == "leaky_shop":
            reached &= result["outcome"] == "LEAK"
        else:
            reached &= result["outcome"] == "CLEAN" and growth["value"] < _FIXED_MB_PER_MIN
    return reached


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["throughput", "attribution", "shop"], action="append")
    parser.add_argument("--pairs", type=int, default=5, help="runs without and with the agent")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run of the throughput")
    parser.add_argument("--duration", default="", help="of each soak (default: 180s; the shop's: 30m)")
    parser.add_argument("--users", type=int, default=10, help="of the shop's soaks")
    parser.add_argument("--keep", type=Path, help="a folder for the shop's runs")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        sys.stdout.write(f"{asyncio.run(_drive(given.client, given.seconds)):.1f}")
        return OK
    wanted = given.only or ["throughput", "attribution", "shop"]
    reached = True
    if "throughput" in wanted:
        reached &= throughput(given.pairs, given.seconds)
    if "attribution" in wanted:
        reached &= attribution(given.duration or "180s")
    if "shop" in wanted:
        reached &= shop(given.duration or "30m", given.users, given.keep)
    return OK if reached else MISSED


if __name__ == "__main__":
    sys.exit(main())
