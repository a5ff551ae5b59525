"""Where the port of its own listens, when nobody says where."""

from __future__ import annotations

import socket
from typing import Any

import psutil
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

from fastapi import Depends, FastAPI
from monitor_support import ask, free_port, scope_of
from waiting import until

from pytest_memleak.monitor import setup_memory_monitoring, teardown


async def admit() -> None: ...


@pytest.mark.parametrize(
    "options, address",
    [
        ({}, "127.0.0.1"),
        ({"token": "secret"}, "0.0.0.0"),
        ({"dependencies": [Depends(admit)]}, "0.0.0.0"),
        ({"token": "secret", "host": "127.0.0.1"}, "127.0.0.1"),
        ({"host": "0.0.0.0"}, "0.0.0.0"),
    ],
    ids=["nothing", "a token", "dependencies", "a token and an address", "an address"],
)
def test_without_a_word_on_who_may_ask_it_is_this_machine_alone(
    options: dict[str, Any], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMLEAK_TOKEN", raising=False)
    port = free_port()
    app = FastAPI()
    setup_memory_monitoring(app, port=port, interval_s=0.05, **options)
    try:
        ask(app, scope_of("/none"))
        until(lambda: listening(port), "the port")
        assert listening(port) == {address}
    finally:
        teardown(app)
    until(lambda: not listening(port), "the port given back")


def listening(port: int) -> set[str]:
    """The addresses at which this process listens on a port."""
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN and one.laddr.port == port}


def test_a_taken_address_is_told_with_its_host(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = FastAPI()
        monitor = setup_memory_monitoring(app, port=port, metrics=False)
        monitor.read()
        teardown(app)
    assert f"port {port} of 127.0.0.1 is not free" in capsys.readouterr().err
