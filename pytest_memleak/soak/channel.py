"""Where the agents and the load report: a listener, a thread for each who speaks, one queue for all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import secrets
import shutil
import socket
import tempfile
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from types import TracebackType
from typing import Any, Final

# A message a second from each of a hundred workers for a minute; beyond that the harness is not reading.
_MOST_QUEUED: Final = 6_000

# How soon a thread that waits for room in the queue, or is told to end, has looked up.
_FULL_S: Final = 0.2
_ENDS_S: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What somebody said. `peer` tells speakers apart; the body is None when one has gone."""

    peer: int
    body: dict[str, Any] | None


class Channel:
    """Listens on this machine only; who speaks has the key."""

    def __init__(self) -> None:
        # A socket's path may have 100 characters: the run's own folder may be deeper than that.
        self._folder = Path(tempfile.mkdtemp(prefix="memleak-"))
        self._authkey = secrets.token_bytes(32)
        self._listener = Listener(authkey=self._authkey, backlog=128, **_address(self._folder))
        self._address = str(self._listener.address)
        self._peers: dict[int, Connection[Any, Any]] = {}
        self._listening: list[threading.Thread] = []
        self._closing = False
        self.messages: queue.Queue[Message] = queue.Queue(_MOST_QUEUED)
        self._thread = threading.Thread(target=self._accept, name="memleak-channel", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """For the environment of those who are to speak."""
        return self._address

    @property
    def key(self) -> str:
        """Hexadecimal."""
        return self._authkey.hex()

    def send(self, peer: int, message: dict[str, Any]) -> bool:
        """Tell one of them something; False when it has gone."""
        connection = self._peers.get(peer)
        if connection is None:
            return False
        try:
            connection.send_bytes(json.dumps(message).encode())
        except (OSError, ValueError):
            return False
        return True

    def next(self, timeout_s: float) -> Message | None:
        """The next message, None when there was none in that time."""
        try:
            return self.messages.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Hang up on all. Their threads end, and so does the listener's."""
        self._closing = True
        if hasattr(socket, "AF_UNIX"):
            # A thread that waits for somebody to call is not woken by a close: it is called.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as call:
                call.connect(self.address)
            self._thread.join(_ENDS_S)
        with contextlib.suppress(OSError):
            self._listener.close()
        for connection in list(self._peers.values()):
            _hang_up(connection)
        for thread in self._listening:
            thread.join(_ENDS_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        peer = 0
        while not self._closing:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # somebody else, or one who died in the middle of his greeting
            except OSError:
                return  # closed
            if self._closing:
                connection.close()
                return
            peer += 1
            self._peers[peer] = connection
            name = f"memleak-peer-{peer}"
            thread = threading.Thread(target=self._listen, args=(peer, connection), name=name, daemon=True)
            # Workers that come and go for days: the ended ones are forgotten.
            self._listening = [other for other in self._listening if other.is_alive()] + [thread]
            thread.start()

    def _listen(self, peer: int, connection: Connection[Any, Any]) -> None:
        with contextlib.suppress(OSError, EOFError, TypeError):
            while not self._closing:
                with contextlib.suppress(ValueError):
                    self._deliver(Message(peer=peer, body=json.loads(connection.recv_bytes())))
        self._peers.pop(peer, None)
        with contextlib.suppress(OSError):
            connection.close()
        self._deliver(Message(peer=peer, body=None))

    def _deliver(self, message: Message) -> None:
        """Put it into the queue; where that is full, wait for as long as somebody may still read it."""
        while not self._closing:
            with contextlib.suppress(queue.Full):
                self.messages.put(message, timeout=_FULL_S)
                return


def _hang_up(connection: Connection[Any, Any]) -> None:
    """End a connection for both sides; a thread that reads from it wakes, which a close alone does not do."""
    with contextlib.suppress(OSError, ValueError):
        if os.name == "posix":
            with socket.socket(fileno=os.dup(connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
        else:
            connection.close()


def _address(folder: Path) -> dict[str, Any]:
    if hasattr(socket, "AF_UNIX"):
        return {"address": str(folder / "channel"), "family": "AF_UNIX"}
    return {}
