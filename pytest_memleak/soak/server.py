"""The server of a soak: the command that starts it, the port it listens on, and the wait until it answers."""

from __future__ import annotations

import http.client
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pytest_memleak.slugs import see
from pytest_memleak.soak.tree import StartError, Tree

HEALTHY_S: Final = 60.0
"""How long a server may take to answer: one that loads a model or migrates a database takes half of it."""

ANSWER_S: Final = 10.0
"""How long one answer may take: the first request often imports and connects, and a second would not speed it up."""

PAUSE_S: Final = 0.05
"""Between two questions: a refused connection costs some 0.1 ms, and no person notices the delay."""

PLACEHOLDERS: Final = ("{port}", "{bind}")
"""What tells a command where to listen. ``{host}`` is replaced as well, but a command with it alone has no port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command and where it will listen."""

    command: tuple[str, ...]
    host: str
    port: int

    @property
    def url(self) -> str:
        """Its root, without a slash at the end; where the server listens on every address, by the loopback one."""
        return f"http://{_in_url({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(self.host, self.host))}:{self.port}"


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on; another process may take it before the server does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def default_command(app: str, host: str, port: int) -> Launch:
    """The command of uvicorn for an app such as ``shop.main:app``, or ``shop.main:create_app()`` for a factory.

    Raises StartError for an app without a colon. uvicorn is looked for as the server starts, in its own process.
    """
    module, colon, name = app.partition(":")
    if not (module and colon and name):
        raise StartError(f"the app {app!r} does not name an object: write MODULE:NAME, such as {_guess(app)}")
    target, factory = (app[:-2], ["--factory"]) if app.endswith("()") else (app, [])
    # Its access log would be one line per request: the bounded log's last hours would be nothing else.
    options = ["--host", host, "--port", str(port), "--no-access-log", "--log-level", "warning", *factory]
    return Launch(command=(sys.executable, "-m", "uvicorn", target, *options), host=host, port=port)


def launch_of(app: str, command: Sequence[str], host: str, port: int) -> Launch:
    """The user's command if there is one, else uvicorn's for the app, on a free port unless one is named.

    Raises StartError for what is no command or no app, and for a port where somebody listens already.
    """
    place = port or free_port(host)
    launch = users_command(command, host, place) if command else default_command(app, host, place)
    if port:
        _refuse_taken(launch, "leave its port away to have a free one")
    return launch


def _guess(app: str) -> str:
    """What the user may have meant by an app without a colon: a file or a module."""
    module = ".".join(Path(app.partition(":")[0].removesuffix(".py")).parts)
    return f"{module or 'shop.main'}:app"


def users_command(command: Sequence[str], host: str, port: int) -> Launch:
    """The user's command with ``{host}``, ``{port}`` and ``{bind}`` (host:port) replaced; other braces stay.

    A command without them must say ``--port NUMBER`` (and may say ``--host``): then that is where it listens.
    Raises StartError where neither is said, or where somebody else listens on that port already.
    """
    if any(placeholder in word for word in command for placeholder in PLACEHOLDERS):
        values = {"{host}": host, "{port}": str(port), "{bind}": f"{_in_url(host)}:{port}"}
        return Launch(command=tuple(_replaced(word, values) for word in command), host=host, port=port)
    own_port = _option(command, "--port")
    if own_port is None or not own_port.isdecimal():
        raise StartError(
            see(
                "command-without-port",
                f"the command {' '.join(command)!r} does not say which port to listen on: "
                "write {port} or {bind} where the number or host:port belongs",
            )
        )
    launch = Launch(command=tuple(command), host=_option(command, "--host") or "127.0.0.1", port=int(own_port))
    _refuse_taken(launch, "write {port} in the command to use a free port")
    return launch


def _replaced(word: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


def _option(command: Sequence[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE``, the last one as every parser has it."""
    value = None
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == name:
            value = following
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value or None


def _refuse_taken(launch: Launch, way_out: str) -> None:
    """A server that runs already would answer in the place of ours, which can only fail to bind."""
    address = urlsplit(launch.url)
    with suppress(OSError), socket.create_connection((address.hostname or "", launch.port), timeout=ANSWER_S):
        raise StartError(see("port-in-use", f"something listens on {launch.url} already: end it, or {way_out}"))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def wait_until_healthy(
    url: str,
    tree: Tree,
    *,
    path: str = "/",
    timeout_s: float = HEALTHY_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait for the server's first answer below 500; returns the seconds it took.

    A 404 or a 401 is an answer of a working server. A 5xx is waited out, since a server may say 503 until it is ready;
    one that says nothing else is refused, for its soak would measure how it builds error pages.
    Raises StartError, with the log's last lines, when the server ends or does not answer in time.
    """
    began = clock()
    where = url.rstrip("/") + path
    failing: int | None = None
    while True:
        if ended := tree.poll():
            said = see("server-did-not-start", f"the {tree.name} {ended.words} before it answered on {where}")
            raise StartError(f"{said}; {log_end(tree)}")
        left_s = timeout_s - (clock() - began)
        if left_s <= 0:
            what = f"answered {failing}" if failing else "did not answer"
            said = see("server-did-not-start", f"the {tree.name} {what} on {where} within {timeout_s:g} s")
            raise StartError(f"{said}; {log_end(tree)}")
        status = _status(where, min(left_s, ANSWER_S))
        if status is not None and status < 500:
            return clock() - began
        failing = status or failing
        sleep(PAUSE_S)


def _status(url: str, timeout_s: float) -> int | None:
    """The status of one GET; None without an answer."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    try:
        connection.request("GET", target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def log_end(tree: Tree, lines: int = 10) -> str:
    """The last lines of a tree's log, as the end of a sentence."""
    tail = tree.log_tail(lines)
    return f"its log ends:\n{tail}" if tail else "its log is empty"


def process_ids(pid: int) -> list[int]:
    """A process and its descendants, sorted; empty when it is gone. Orphans are not descendants of `pid` any more."""
    import psutil

    try:
        root = psutil.Process(pid)
        return sorted({pid, *(child.pid for child in root.children(recursive=True))})
    except psutil.NoSuchProcess:
        return []
