"""The monitor on a port of its own: apart from the app's, where a firewall can tell them apart.

A server of its own in a thread. Of several workers one has the port; when it ends, another takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from pytest_memleak.slugs import see

_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class OwnPort:
    """Serves an app on a port, as soon as that is free."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._app = app
        self._address = (host, port)
        self._server: Any = None
        self._told = False
        self._turn = threading.Lock()

    @property
    def is_serving(self) -> bool:
        """Whether this process has the port."""
        return self._server is not None

    def forget(self) -> None:
        """A forked child has no server thread; its parent has the port."""
        self._server = None
        self._turn = threading.Lock()

    def open(self, *_reading: object) -> None:
        """Take the port if it is free; called now and then."""
        with self._turn:
            if self._server is not None or not self._can_serve():
                return
            try:
                listening = _listen(*self._address)
            except OSError as error:
                if error.errno not in _TAKEN or not self._told:
                    self._told = True
                    host, port = self._address
                    sys.stderr.write(
                        f"memleak: port {port} of {host} is not free ({error.strerror}): while another worker or"
                        " program has it, this process's monitor is not reachable there\n"
                    )
                return
            self._server = server = _server(self._app)
            thread = threading.Thread(target=_serve, args=(server, listening), name="memleak-port", daemon=True)
            thread.start()

    def _can_serve(self) -> bool:
        if importlib.util.find_spec("uvicorn") is not None:
            return True
        if not self._told:
            self._told = True
            sys.stderr.write(
                see(
                    "missing-extra",
                    f"memleak: nothing listens on port {self._address[1]}, which uvicorn would serve and which is not "
                    "installed: python -m pip install 'pytest-memleak[monitor]'",
                )
                + "\n"
            )
        return False

    def close(self) -> None:
        """Give the port back."""
        with self._turn:
            server, self._server = self._server, None
        if server is not None:
            server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # The port of a worker that has just ended; one that lives keeps it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(64)
    except OSError:
        listening.close()
        raise
    return listening


def _server(app: Any) -> Any:
    import uvicorn

    config = uvicorn.Config(
        # The peer is the socket's, whatever a header says.
        app, log_level="warning", access_log=False, lifespan="off", proxy_headers=False, loop="asyncio",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def _serve(server: Any, listening: socket.socket) -> None:
    run: Callable[..., Any] = server.serve
    with contextlib.closing(listening):
        asyncio.run(run(sockets=[listening]))
