"""Keeps one command's process tree: starts it, bounds its log, and ends every process of it.

Run as ``python -m pytest_memleak.soak.keeper``. The first line of its stdin is an `Order` in JSON; a later line
``stop`` (or ``stop SECONDS``), or the end of stdin, ends the tree. On its stdout it reports in lines of JSON:

- ``{"started": pid}``, or ``{"failed": sentence}`` and the exit code 2;
- ``{"exited": returncode, "stopped": bool, "oom": kills or null, "left": processes that would not die}``.

It is a process of its own because nothing can run in a harness that was killed by SIGKILL. It imports the standard
library and two modules that import no more, and psutil only once the command has to end: it is up in some 50 ms.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_memleak.soak.bounded_log import BoundedLog
from pytest_memleak.soak.remains import MARK, kill_all, memory_events, oom_kills, strays

if TYPE_CHECKING:
    import psutil

POLL_S: Final = 0.05
"""Between two looks at the tree: no person notices the delay, and a look is one system call, 20 a second."""

DRAIN_S: Final = 2.0
"""How long the log may take to its end after the tree has: a full pipe is 64 kB. It has no end where a process that
could not be killed holds the pipe."""

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run and how to keep it.

    The command's environment comes here, not as the keeper's own: what a user injects into the server by PYTHONPATH is
    not for the keeper.
    """

    command: list[str]
    environment: dict[str, str]
    cwd: str
    log: str
    grace_s: float
    """Between SIGTERM and SIGKILL, where a stop names no time of its own."""

    mark: str
    """The value of the environment variable `MARK`: any text that no other tree has."""


def lines_of(descriptor: int) -> Iterator[bytes]:
    """The lines of a pipe until its end.

    By `os.read`: a daemon thread inside a buffered reader can abort the interpreter's shutdown.
    """
    rest = b""
    while chunk := _read(descriptor):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


class Keeping:
    """A started command and every process that came of it."""

    def __init__(self, order: Order) -> None:
        """Start it; raises OSError or ValueError."""
        self.order = order
        self.process = subprocess.Popen(
            order.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=order.cwd,
            env={**order.environment, MARK: order.mark},
            start_new_session=True,
        )
        self._events = memory_events(self.process.pid)
        self._oom_before = oom_kills(self._events)
        self._pump = threading.Thread(target=self._copy, daemon=True)
        self._pump.start()

    def _copy(self) -> None:
        assert self.process.stdout is not None
        log = BoundedLog(Path(self.order.log))
        while chunk := _read(self.process.stdout.fileno()):
            log.write(chunk)
        log.close()

    def reap(self) -> int | None:
        """The command's return code, once it has one; buries the tree's orphans, whose parent the keeper has become."""
        if sys.platform == "linux":
            with suppress(ChildProcessError):
                # Looked at before it is reaped: the command itself is Popen's to wait for.
                while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    if dead.si_pid == self.process.pid:
                        self.process.poll()
                    else:
                        os.waitpid(dead.si_pid, 0)
        return self.process.poll()

    def rest(self) -> list[psutil.Process]:
        """What is left of the tree."""
        import psutil

        self.reap()
        descendants = psutil.Process().children(recursive=True)
        return [*{*descendants, *strays(self.order.mark, self.process.pid)}]

    def ask_to_end(self, grace_s: float) -> None:
        """SIGTERM to the command, and once it is gone to those it left (a shell passes none on); waits for them."""
        import psutil

        deadline = time.monotonic() + grace_s
        self.process.terminate()
        while self.reap() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        asked: set[psutil.Process] = set()
        while time.monotonic() < deadline and (rest := self.rest()):
            for process in set(rest) - asked:
                with suppress(psutil.Error):
                    process.terminate()
            asked.update(rest)
            time.sleep(POLL_S)

    def end(self, *, stopped: bool) -> dict[str, object]:
        """Kill what is left, let the log be written to its end, and tell how the command ended."""
        left = kill_all(self.rest)
        self._pump.join(DRAIN_S)
        before, after = self._oom_before, oom_kills(self._events)
        oom = None if before is None or after is None else after - before
        return {"exited": self.reap(), "stopped": stopped, "oom": oom, "left": left}


def main() -> int:
    """Keep one command; returns the exit code."""
    parent = os.getppid()
    lines = lines_of(0)
    ordered = next(lines, b"")
    if not ordered:
        return 0  # the harness died before it said what to run
    order = Order(**json.loads(ordered))
    news: queue.SimpleQueue[float] = queue.SimpleQueue()  # its `put` is safe in a signal handler
    _adopt_orphans()
    _heed_signals(news, order.grace_s)
    try:
        keeping = Keeping(order)
    except (OSError, ValueError) as error:
        _report({"failed": why_not_started(order, error)})
        return 2
    _report({"started": keeping.process.pid})
    threading.Thread(target=_listen, args=(lines, news, order.grace_s), daemon=True).start()
    grace_s = _until_told_or_ended(keeping, news, parent)
    if grace_s is not None:
        keeping.ask_to_end(grace_s)
    _report(keeping.end(stopped=grace_s is not None))
    return 0


def _until_told_or_ended(keeping: Keeping, news: queue.SimpleQueue[float], parent: int) -> float | None:
    """The seconds between SIGTERM and SIGKILL once a stop is due; None when the command has ended by itself."""
    while keeping.reap() is None:
        with suppress(queue.Empty):
            return news.get(timeout=POLL_S)
        # A child that the harness forked holds our stdin open after the harness is dead.
        if os.getppid() != parent:
            return keeping.order.grace_s
    return None


def why_not_started(order: Order, error: OSError | ValueError) -> str:
    """One sentence on a command that could not be started."""
    program = order.command[0] if order.command else ""
    if isinstance(error, OSError) and error.filename == order.cwd:
        return f"the folder {order.cwd} to run {program} in cannot be entered: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return f"the command {program} was not found"
    if isinstance(error, PermissionError):
        return f"the command {program} is not executable"
    return f"the command {program} could not be started: {getattr(error, 'strerror', None) or error}"


def _adopt_orphans() -> None:
    """Have the tree's orphans come to us, not to PID 1: a daemon that forks twice remains a descendant."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _heed_signals(news: queue.SimpleQueue[float], grace_s: float) -> None:
    def stop(_signal: int, _frame: object) -> None:
        news.put(grace_s)

    def ignore(_signal: int, _frame: object) -> None:
        """A function, not SIG_IGN: the command would inherit that, and be deaf to SIGINT."""

    signal.signal(signal.SIGINT, ignore)
    signal.signal(signal.SIGTERM, stop)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, stop)


def _listen(lines: Iterator[bytes], news: queue.SimpleQueue[float], grace_s: float) -> None:
    for line in lines:
        words = line.decode().split()
        if words[:1] == ["stop"]:
            news.put(float(words[1]) if len(words) > 1 else grace_s)
    news.put(grace_s)


def _report(words: dict[str, object]) -> None:
    with suppress(OSError):  # the harness may be gone
        os.write(1, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(main())
