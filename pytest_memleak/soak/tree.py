"""The harness's handle on a command whose process tree a keeper owns."""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

from pytest_memleak.soak.bounded_log import predecessor
from pytest_memleak.soak.keeper import DRAIN_S, Order, lines_of
from pytest_memleak.soak.remains import KILL_S, kill_all, strays

START_S: Final = 30.0
"""How long a keeper may take to start its command: 0.1 s on an idle machine, and a loaded one is some tens slower."""

GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL: uvicorn and gunicorn end idle workers in well under one second, and a request that takes
longer than this is not what a soak sends."""

ANSWER_S: Final = KILL_S + DRAIN_S + 5.0
"""How long after the grace a keeper may take to report the end: all its own waits, and room for a loaded machine."""

TAIL_BYTES: Final = 65_536
"""How much of a log's end is read for a message: its last lines, were each as long as a kilobyte or two."""


class StartError(Exception):
    """A command that could not be started, or a server that did not come up; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a command ended."""

    returncode: int | None
    """As `subprocess` has it: negative for a signal; None where nobody is left who could know."""

    stopped: bool = False
    """Whether we ended it."""

    oom_kills: int | None = None
    """Processes of the command's cgroup that the kernel's out-of-memory killer took meanwhile; None where unknown."""

    left: int = 0
    """Processes of the tree that SIGKILL did not end."""

    @property
    def words(self) -> str:
        """What happened, as the end of a sentence: "the server was killed by SIGTERM"."""
        left = f", and {self.left} of its processes could not be killed" if self.left else ""
        return self._end() + left

    def _end(self) -> str:
        if self.returncode is None:
            return "was killed, since its keeper had died" if not self.left else "lost its keeper"
        if self.returncode >= 0:
            plain = f"exited with code {self.returncode}"
        else:
            plain = f"was killed by {_signal_name(-self.returncode)}"
        if self.stopped:
            return f"was stopped ({plain.removeprefix('was ')})"
        return plain + (self._why_killed() if _signal_name(-self.returncode) == "SIGKILL" else "")

    def _why_killed(self) -> str:
        if self.oom_kills is None:
            return " (whether by the kernel's out-of-memory killer is unknown: see dmesg)"
        if self.oom_kills:
            return " (the kernel's out-of-memory killer: memory.events)"
        return " (not by the kernel's out-of-memory killer: memory.events)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@final
class Tree:
    """One command, its process tree and its log. `start` it, and `stop` it: best as a context manager.

    A keeper process does both, and ends the tree too when this process is killed. Its daemon thread here only reads the
    keeper's reports, and delays no exit. The command is in a session of its own: Ctrl-C reaches this process alone,
    which stops the tree as it leaves the context. No signal handler is set, so pytest's and a CLI's stay as they are.
    """

    def __init__(self, keeper: subprocess.Popen[bytes], *, mark: str, log: Path, name: str) -> None:
        """Use `start`."""
        self.name = name
        """What messages call it: "server" makes "the server"."""

        self._keeper = keeper
        self._mark = mark
        self._log = log
        self._began = time.time()  # the clock of the files
        self._pid: int | None = None
        self._failed: str | None = None
        self._exit: Exit | None = None
        self._murmurs: deque[str] = deque(maxlen=5)  # a keeper's traceback ends with what matters
        self._answered = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"memleak reports of {name}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path, name: str) -> Tree:
        """Start a command; `environment` is its whole environment. An earlier log becomes ``NAME.1``.

        Raises StartError where it cannot be started.
        """
        order = Order(
            command=list(command),
            environment=dict(environment),
            cwd=str(cwd.absolute()),
            log=str(log.absolute()),
            grace_s=GRACE_S,
            mark=secrets.token_hex(16),
        )
        tree = cls(_start_keeper(), mark=order.mark, log=log.absolute(), name=name)
        try:
            tree._say(json.dumps(asdict(order)))
            tree._await_start()
        except BaseException:  # Ctrl-C too leaves nothing behind
            tree.stop(0.0)
            raise
        return tree

    def _await_start(self) -> None:
        if not self._answered.wait(START_S):
            raise StartError(f"the {self.name}'s keeper did not start it within {START_S:.0f} s")
        if self._failed is not None:
            raise StartError(f"the {self.name} did not start: {self._failed}")
        if self._pid is None:
            raise StartError(f"the {self.name} did not start: its keeper died: {' '.join(self._murmurs) or 'killed'}")

    @property
    def pid(self) -> int:
        """The process id of the command itself, whether it still runs or not."""
        assert self._pid is not None  # `start` returns no other
        return self._pid

    def poll(self) -> Exit | None:
        """How the command ended; None while it runs."""
        return self._exit

    def stop(self, grace_s: float = GRACE_S) -> Exit:
        """SIGTERM, after `grace_s` seconds SIGKILL; returns when the tree is gone. Again: the same answer, at once."""
        if self._reader.is_alive():
            self._say(f"stop {grace_s}")
            self._reader.join(grace_s + ANSWER_S)
        if self._reader.is_alive():
            self._keeper.kill()  # whereupon the reader reads the end, and kills the tree itself
            self._reader.join(ANSWER_S)
        self._close()
        return self._exit or Exit(returncode=None, stopped=True)

    def log_tail(self, lines: int = 10) -> str:
        """The log's last lines, for a message; empty where there are none."""
        text = _end_of_file(self._log, TAIL_BYTES, since=0.0)
        if len(text) < TAIL_BYTES:  # turned a moment ago; what an earlier command wrote is not this one's
            text = _end_of_file(predecessor(self._log), TAIL_BYTES - len(text), since=self._began) + text
        return "\n".join(text.decode(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Tree:
        """The tree itself."""
        return self

    def __exit__(self, *_raised: object) -> None:
        """Stop it."""
        self.stop()

    def _say(self, line: str) -> None:
        assert self._keeper.stdin is not None
        with suppress(OSError, ValueError):  # dead or closed: the reader knows
            rest = line.encode() + b"\n"
            while rest:  # an environment may be larger than a pipe takes at once
                rest = rest[os.write(self._keeper.stdin.fileno(), rest) :]

    def _read(self) -> None:
        assert self._keeper.stdout is not None
        for line in lines_of(self._keeper.stdout.fileno()):
            self._heed(line)
        self._keeper.wait()
        if self._exit is None and self._failed is None:
            left = kill_all(lambda: strays(self._mark, self._pid))
            self._exit = Exit(returncode=None, left=left)
        self._answered.set()

    def _heed(self, line: bytes) -> None:
        if not line.startswith(b"{"):
            self._murmurs.append(line.decode(errors="replace").strip())
            return
        report = json.loads(line)
        if "started" in report:
            self._pid = report["started"]
        elif "failed" in report:
            self._failed = report["failed"]
        elif "exited" in report:
            self._exit = Exit(
                returncode=report["exited"],
                stopped=report["stopped"],
                oom_kills=report["oom"],
                left=report["left"],
            )
        self._answered.set()

    def _close(self) -> None:
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _end_of_file(path: Path, length: int, *, since: float) -> bytes:
    """The last bytes of a file that was written to since then; empty where there is none."""
    try:
        held = path.stat()
        if not stat.S_ISREG(held.st_mode) or held.st_mtime < since:  # /dev/full has no end
            return b""
        with path.open("rb") as file:
            file.seek(max(0, held.st_size - length))
            return file.read(length)
    except OSError:
        return b""


def _start_keeper() -> subprocess.Popen[bytes]:
    """A keeper in a session of its own, in our environment.

    It runs where the package lies, since ``-m`` puts its folder first on the path, and a user's may have a queue.py.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_memleak.soak.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # its own traceback, should there be one
        bufsize=0,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows' word for it
    )
