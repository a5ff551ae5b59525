"""A command that we start, with a way into each of its Python processes."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from pytest_memleak import bootstrap
from pytest_memleak.inspection.errors import InspectionError
from pytest_memleak.inspection.injected import LetterBox
from pytest_memleak.soak.tree import StartError, Tree

FOLDER: Final = "MEMLEAK_INSPECTION"
"""Environment: the folder of the pipes."""

_WAIT_S: Final = 30.0
_POLL_S: Final = 0.1


class Started:
    """Orders to one process of a command that we started. Best as a context manager."""

    name = "a thread in the started command"

    def __init__(self, pid: int, folder: Path) -> None:
        """`folder` is that of the pipes. Raises Gone."""
        self.attached_s: list[float] = []
        self._pid = pid
        self._pipe = folder / f"pipe{pid}"
        self._box = LetterBox(pid)

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._box.__exit__()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises InspectionError and Gone."""
        statement = self._box.put(order).encode()
        deadline = time.monotonic() + _WAIT_S
        while not self._write(statement):
            self._box.answer(0.0)  # it raises Gone where the process has ended
            if time.monotonic() > deadline:
                raise InspectionError(f"process {self._pid} does not listen: its thread was not given time to")
            time.sleep(_POLL_S)
        answer = self._box.answer(_WAIT_S)
        if answer is None:
            self._box.withdraw()
            raise InspectionError(f"process {self._pid} did not answer for {_WAIT_S:.0f} s")
        return answer

    def _write(self, statement: bytes) -> bool:
        """Whether somebody was at the other end."""
        try:
            number = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                return False
            raise InspectionError(f"{self._pipe} cannot be written to: {error}") from None
        try:
            os.write(number, statement)  # less than a pipe holds
        finally:
            os.close(number)
        return True


@contextlib.contextmanager
def started(
    command: tuple[str, ...], warm_up_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[Started, str]]:
    """Start a command, wait while it warms up, and give the way into its largest process; stopped at the end.

    Raises StartError and InspectionError.
    """
    if not command:
        raise InspectionError("nothing stands behind --: expects a command, such as -- uvicorn shop.main:app")
    folder = Path(tempfile.mkdtemp(prefix="memleak-pipes-"))
    environment = dict(os.environ)
    environment |= {FOLDER: str(folder), "PYTHONPATH": bootstrap.search_path(environment)}
    log = folder / "output.log"
    try:
        with Tree.start(command, log=log, environment=environment, cwd=Path.cwd(), name="command") as tree:
            _wait(tree, command, warm_up_s, sleep)
            pid = _largest(tree.pid, folder)
            with Started(pid, folder) as way:
                yield way, f"{pid} ({shlex.join(command)[:100]})"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(tree: Tree, command: tuple[str, ...], seconds: float, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended = tree.poll()
        if ended is not None:
            tail = tree.log_tail()
            last = f"; its last lines:\n{tail}" if tail else ""
            raise StartError(f"`{shlex.join(command)}` {ended.words} before the first reading{last}")
        sleep(_POLL_S)


def _largest(root: int, folder: Path) -> int:
    """The largest of the processes that listen: a server's worker rather than its master."""
    sizes: dict[int, int] = {}
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(root)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                if (folder / f"pipe{process.pid}").exists():
                    sizes[process.pid] = int(process.memory_info().rss)
    if not sizes:
        raise InspectionError(
            "the command runs no Python that could be entered: it was started with -I or -E, clears its environment, "
            "or is no Python; read the running process by --pid"
        )
    return max(sizes, key=lambda pid: sizes[pid])
