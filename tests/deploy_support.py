"""What the tests of deploy/ share: its files, and the whole stack as real processes, in a hurry."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from fleet_support import PROMETHEUS, free_port
from waiting import until

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = ROOT / "deploy"
RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))


def program(*names: str) -> str | None:
    """A program of Prometheus's family, from MEMLEAK_TEST_PROGRAMS (a folder) or PATH."""
    folder = os.environ.get("MEMLEAK_TEST_PROGRAMS")
    return next((found for name in names if (found := shutil.which(name, path=folder) or shutil.which(name))), None)


PROMTOOL: Final = program("promtool")
AMTOOL: Final = program("amtool")
ALERTMANAGER: Final = program("alertmanager", "prometheus-alertmanager")

DEBIANS_TEMPLATE: Final = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Debian's Alertmanager does not start without it, wherever its own package was unpacked."""

FASTER: Final = 120
"""Of the time in the rules: the two hours of life that a leak must have are a minute."""

LEAK_BYTES_PER_S: Final = 4_000_000
"""480 MB in an hour of that time: above the rate of MemoryLeak, which is 1.7 MB/s here, and below MemoryLeakFast's."""

AGENT_BYTES: Final = 60_000
"""Of the name of the browser, which the leaky shop keeps with each visit."""

APP: Final = """
import sys
import uvicorn
from shop.main import app
from pytest_memleak.monitor import setup_memory_monitoring

port, own_port = map(int, sys.argv[1:])
setup_memory_monitoring(app, port=own_port, host="127.0.0.1", interval_s=0.25)
# a header longer than a browser would send
uvicorn.run(app, port=port, log_level="warning", http="h11", h11_max_incomplete_event_size=200_000)
"""

TOKEN: Final = "a-token-of-the-test"


def load(path: Path) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def quicker(text: str) -> str:
    """A configuration with all its times, in durations and in seconds, divided."""
    unit_ms = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    text = re.sub(r"\b(\d+)([smhd])\b", lambda found: f"{int(found[1]) * unit_ms[found[2]] // FASTER}ms", text)
    text = re.sub(r"(?<=/ )(3600|900|60)\b", lambda found: f"{int(found[1]) / FASTER:g}", text)
    return re.sub(r"(?<=[>,] )(1800|2700|7200|10800|14400)\b", lambda found: f"{int(found[1]) / FASTER:g}", text)


@dataclasses.dataclass
class Stack:
    """The addresses of what runs, and what the receiver was told: path and body."""

    prometheus: str
    alertmanager: str
    leaky: str
    clean: str
    told: list[tuple[str, dict[str, Any]]]
    end_clean: Callable[[], None]

    def ask(self, path: str, **query: str) -> Any:
        """What Prometheus's API answers."""
        return answer(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}")["data"]

    def alerts(self) -> set[tuple[str, str]]:
        """Those that fire: name and instance."""
        found = [one for one in self.ask("alerts")["alerts"] if one["state"] == "firing"]
        return {(one["labels"]["alertname"], one["labels"].get("instance", "")) for one in found}


def answer(url: str, **headers: str) -> Any:
    """The JSON behind a URL; what the server says where it refuses."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as got:
            return json.load(got)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.read().decode()}") from None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Two shops, of which one leaks, a Prometheus, an Alertmanager as in production and one with webhooks."""
    with contextlib.ExitStack() as stack:
        told: list[tuple[str, dict[str, Any]]] = []
        receiver = stack.enter_context(_receiver(told))
        shops = [(free_port(), free_port()) for _ in range(2)]
        _leaky, clean = (_shop(stack, folder, *ports) for ports in shops)
        own = [f"127.0.0.1:{own_port}" for _, own_port in shops]
        addresses = [*(f"127.0.0.1:{port}/" for port, _ in shops), *(f"{one}/metrics" for one in own)]
        until(lambda: all(_is_up(f"http://{address}") for address in addresses), "the shops are open")
        managers = [_alertmanager(stack, folder, name, receiver) for name in ("alertmanager", "alertmanager.webhook")]
        prometheus = _prometheus(stack, folder, own, managers)
        stack.enter_context(_shopping(shops[0][0], leaks=True))
        stack.enter_context(_shopping(shops[1][0], leaks=False))
        yield Stack(prometheus, managers[0], own[0], own[1], told, lambda: _end(clean))


def _is_up(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(stack: contextlib.ExitStack, log: Path, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    stack.callback(_end, process)
    return process


def _started(stack: contextlib.ExitStack, log: Path, command: list[str], url: str) -> None:
    """A server that answers at its URL, or what it said as it ended."""
    process = _start(stack, log, command)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        return _is_up(url)

    until(is_ready, f"{command[0]} is ready")


def _shop(stack: contextlib.ExitStack, folder: Path, port: int, own_port: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT / "examples" / "leaky_shop"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", APP, str(port), str(own_port)]
    return _start(stack, folder / f"shop-{port}.log", command, PYTHONPATH=path, MEMLEAK_TOKEN=TOKEN)


def _prometheus(stack: contextlib.ExitStack, folder: Path, targets: list[str], managers: list[str]) -> str:
    """deploy/'s own, but for times and addresses."""
    rules = folder / "rules"
    rules.mkdir()
    for path in RULES:
        (rules / path.name).write_text(quicker(path.read_text(encoding="utf-8")), encoding="utf-8")
    config = load(DEPLOY / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"] = [{**config["scrape_configs"][0], "static_configs": [{"targets": targets}]}]
    addresses = [manager.removeprefix("http://") for manager in managers]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": addresses}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn",
        "--rules.alert.resend-delay=1s",
    ]  # fmt: skip
    _started(stack, folder / "prometheus.log", command, f"{url}/-/ready")
    return url


def _alertmanager(stack: contextlib.ExitStack, folder: Path, name: str, receiver: str) -> str:
    """deploy/'s own: the secrets are files that lead to the receiver."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "slack_url").write_text(f"{receiver}/slack\n", encoding="utf-8")
    (secrets / "pagerduty_key").write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    text = quicker((DEPLOY / "alertmanager" / f"{name}.yml").read_text(encoding="utf-8"))
    text = text.replace("/run/secrets", str(secrets)).replace("http://receiver:9099", f"{receiver}/webhook")
    text = text.replace("global:\n", f"global:\n  pagerduty_url: {receiver}/pagerduty\n")
    config = folder / f"{name}.yml"
    config.write_text(text, encoding="utf-8")
    shutil.copytree(DEPLOY / "alertmanager" / "templates", folder / "templates", dirs_exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(ALERTMANAGER), f"--config.file={config}", f"--storage.path={folder / name}", "--cluster.listen-address=",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    _started(stack, folder / f"{name}.log", command, f"{url}/-/ready")
    return url


@contextlib.contextmanager
def _receiver(told: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.append((self.path, body))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _shopping(port: int, *, leaks: bool) -> Iterator[None]:
    """Requests until it is over; what leaks, leaks by the clock: a busy machine makes it late, not slower."""
    over = threading.Event()

    def shop() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            begun, sent = time.monotonic(), 0
            while not over.wait(0.01):
                try:
                    if leaks and sent * AGENT_BYTES < (time.monotonic() - begun) * LEAK_BYTES_PER_S:
                        sent += 1
                        connection.request("POST", "/visits?page=home", headers={"user-agent": "x" * AGENT_BYTES})
                    else:
                        connection.request("GET", "/products")
                    connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    connection.close()

    thread = threading.Thread(target=shop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
