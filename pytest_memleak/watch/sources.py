"""Where the readings of a watch come from: a process that is found, a command that is started, or a monitor's URL."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pytest_memleak.model_watch import WatchResult
from pytest_memleak.soak.tree import Exit, StartError, Tree
from pytest_memleak.watch import act, target
from pytest_memleak.watch.monitor_url import MonitorSampler
from pytest_memleak.watch.plan import Plan, WatchError
from pytest_memleak.watch.sampling import Gone, Snapshot, TreeSampler
from pytest_memleak.watch.target import Target

# A keeper tells the end of its command within milliseconds; a loaded machine takes some hundred times as long.
_WORD_S: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How the user names what to watch: at most one of these; none means the one server that runs here."""

    pid: int = 0
    name: str = ""
    port: int = 0
    url: str = ""
    token: str = ""
    command: tuple[str, ...] | None = None

    def given(self) -> list[str]:
        """The ways that were used."""
        ways = {"--pid": self.pid, "--name": self.name, "--port": self.port, "--url": self.url}
        return [way for way, value in ways.items() if value] + (["-- COMMAND"] if self.command is not None else [])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A sampler with what it reads: its words, and the oldest process (0 where it is elsewhere)."""

    sampler: act.Sampler
    words: str
    root_pid: int

    def watch(self, plan: Plan, progress: Callable[[act.Progress], None]) -> WatchResult:
        """Watch it; raises as `act.watch` does."""
        return act.watch(self.sampler, plan, target=self.words, root_pid=self.root_pid, progress=progress)


@contextlib.contextmanager
def opened(wanted: Wanted) -> Iterator[Source]:
    """The source that is wanted; a command is started, and stopped at the end.

    Raises TargetError, WatchError or StartError.
    """
    given = wanted.given()
    if len(given) > 1:
        raise WatchError(f"{' and '.join(given)} name the process twice: use one of them")
    if wanted.command is not None:
        with _started(wanted.command) as tree:
            found = target.by_pid(tree.pid)
            yield dataclasses.replace(_of_tree(found), sampler=_OfCommand(TreeSampler(found), tree))
        return
    if wanted.url:
        with MonitorSampler(wanted.url, wanted.token) as monitor:
            yield Source(sampler=monitor, words=wanted.url, root_pid=0)
        return
    yield _of_tree(find(wanted))


def find(wanted: Wanted) -> Target:
    """The process that pid, name or port name, or the one server that runs here. Raises TargetError."""
    if wanted.pid:
        return target.by_pid(wanted.pid)
    if wanted.name:
        return target.by_name(wanted.name)
    if wanted.port:
        return target.by_port(wanted.port)
    return target.only_server()


def _of_tree(found: Target) -> Source:
    return Source(sampler=TreeSampler(found), words=f"{found.pid} ({found.name})", root_pid=found.pid)


@contextlib.contextmanager
def _started(command: tuple[str, ...]) -> Iterator[Tree]:
    """The user's command in a tree of its own, what it prints in a file; stopped at the end."""
    if not command:
        raise WatchError("nothing stands behind --: expects a command, such as -- uvicorn shop.main:app")
    log = Path(tempfile.gettempdir()) / f"memleak-{os.getpid()}.log"
    with Tree.start(command, log=log, environment=os.environ, cwd=Path.cwd(), name="command") as tree:
        try:
            yield tree
        except (target.TargetError, WatchError):
            words = _end_of(tree).words
            tail = tree.log_tail()
            last = f"; its last lines:\n{tail}" if tail else ""
            raise StartError(f"`{shlex.join(command)}` {words} before it could be read twice{last}") from None
    log.unlink(missing_ok=True)


class _OfCommand:
    """A command's tree, which tells how it ended."""

    def __init__(self, sampler: TreeSampler, tree: Tree) -> None:
        self._sampler = sampler
        self._tree = tree

    def read(self, *, details: bool = False) -> Snapshot:
        """As `TreeSampler.read`."""
        try:
            return self._sampler.read(details=details)
        except Gone:
            raise Gone(f"the command {_end_of(self._tree).words}") from None

    def pids(self) -> list[int]:
        """As `TreeSampler.pids`."""
        return self._sampler.pids()


def _end_of(tree: Tree) -> Exit:
    """How a command that is gone has ended: the keeper's word of it may be on its way."""
    until = time.monotonic() + _WORD_S
    while (ended := tree.poll()) is None and time.monotonic() < until:
        time.sleep(0.01)
    return ended or tree.stop()
