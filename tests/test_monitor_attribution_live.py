"""Who leaks, at 32 requests at once on a real server: the one that does, and no other."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import re
from pathlib import Path
from typing import Any

import pytest
from monitor_support import PREFIX, Served, served
from waiting import until

pytestmark = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None for name in ("fastapi", "numpy", "prometheus_client", "scipy", "uvicorn")
    ),
    reason="needs the extra monitor, and uvicorn",
)

KEPT = 40_000
"""Bytes that each request of the leaking endpoint keeps."""

AT_ONCE = 32
ROUNDS = 30
IN_ROUND = 96
OPTIONS = "interval_s=0.05, history_minutes=10"

SHOP = f"""
    import asyncio
    from fastapi import FastAPI
    from pytest_memleak.monitor import setup_memory_monitoring

    app = FastAPI()
    KEPT = []

    async def work():
        # More than is kept, in pieces of its size: given back, and while others are inside.
        used = [bytearray({KEPT}) for _ in range(3)]
        await asyncio.sleep(0.002)
        del used

    @app.get("/leaky/{{number}}")
    async def leaky(number: int):
        await work()
        KEPT.append(bytes({KEPT}))
        return number

    @app.get("/innocent/{{number}}")
    async def innocent(number: int):
        await work()
        return number

    @app.get("/idle/{{number}}")
    async def idle(number: int):
        return number

    setup_memory_monitoring(app, %s)
"""

LEAKY, INNOCENT = "GET /leaky/{number}", ("GET /innocent/{number}", "GET /idle/{number}")


async def _one(port: int, paths: list[str]) -> None:
    """A visitor: one request after another, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while paths:
        writer.write(f"GET {paths.pop()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()


def visit(server: Served, chance: random.Random, *, leaks: bool) -> None:
    """Thirty-two visitors at once, as traffic is: all endpoints at any time, in a mix that changes."""
    names = ["leaky", "innocent", "idle"] if leaks else ["innocent", "idle", "idle"]
    paths = [f"/{name}/{number}" for number, name in enumerate(chance.choices(names, _mix(chance), k=IN_ROUND))]

    async def all_of_them() -> None:
        await asyncio.gather(*(_one(server.port, paths) for _ in range(AT_ONCE)))

    asyncio.run(all_of_them())


def _mix(chance: random.Random) -> list[float]:
    return [0.2 + chance.random() for _ in range(3)]


def watched(server: Served, *, leaks: bool) -> dict[str, Any]:
    """What the monitor says of `ROUNDS` rounds, each of which has a reading of its own."""
    chance = random.Random(7)

    def readings() -> int:
        return len(server.get(PREFIX + "/history?minutes=9")["readings"])

    def round_of_visits() -> None:
        visit(server, chance, leaks=leaks)
        seen = readings()
        until(lambda: readings() > seen, "a reading")

    visit(server, chance, leaks=leaks)
    # What the first verdict loads is no growth.
    server.get(PREFIX + "/leaks")
    for _ in range(ROUNDS):
        round_of_visits()
    # A few seconds are too short for the collector to come by itself, and uvicorn drops its connections in cycles.
    code, said = server.ask(PREFIX + "/gc-collect?force=true", method="POST")
    assert code == 200, said
    last = server.get(PREFIX + "/leaks")

    def later() -> dict[str, Any] | None:
        # The visitors do not stop meanwhile, and do not come more densely: both would be judged.
        round_of_visits()
        found: dict[str, Any] = server.get(PREFIX + "/leaks")
        return found if found["t"] > last["t"] else None

    found = until(later, "a verdict on all of it")
    assert found
    return found


def kept_by(server: Served) -> dict[str, float]:
    """Bytes that a request keeps, as Prometheus is told."""
    _, text = server.ask("/metrics")
    rows = re.findall(r'^memleak_endpoint_kept_bytes_per_request\{endpoint="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def test_the_leak_is_laid_to_the_endpoint_that_leaks_and_to_no_other(tmp_path: Path) -> None:
    with served(tmp_path, source=SHOP, options=OPTIONS) as server:
        found = watched(server, leaks=True)
        told = kept_by(server)
    whole = found["mb_per_min"]["value"]
    assert whole > 1
    shares = {tuple(share["endpoints"]): share for share in found["endpoints"]}
    assert sum(share["requests"] for share in shares.values()) > ROUNDS * IN_ROUND / 2
    mine = shares[(LEAKY,)]
    assert mine["leaks"], found["why"]
    assert KEPT * 0.9 < mine["bytes_per_request"]["value"] < KEPT * 1.1
    assert mine["mb_per_min"]["value"] + found["unattributed_mb_per_min"] >= 0.9 * whole
    # What is not laid to it is little more than what it was not: the start of the program.
    assert found["unattributed_mb_per_min"] < 0.5 * whole
    for name in INNOCENT:
        assert (shares[(name,)]["leaks"], shares[(name,)]["mb_per_min"]["value"]) == (False, 0), found
    assert KEPT * 0.9 < told[LEAKY] < KEPT * 1.1
    assert [told[name] for name in INNOCENT] == [0, 0]


def test_where_none_leaks_none_is_blamed(tmp_path: Path) -> None:
    with served(tmp_path, source=SHOP, options=OPTIONS) as server:
        found = watched(server, leaks=False)
        told = kept_by(server)
    assert {name for share in found["endpoints"] for name in share["endpoints"]} == set(INNOCENT)
    assert found["verdict"] != "leak", (found["why"], found["shape"])
    assert [share for share in found["endpoints"] if share["leaks"] or share["mb_per_min"]["value"]] == []
    assert told == dict.fromkeys(INNOCENT, 0.0)
