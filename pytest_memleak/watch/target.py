"""Which process is meant: by pid, by name, by the port it listens at, or the one Python server that runs here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

from pytest_memleak.slugs import see

# How the programs that serve Python web applications are called, as a command or behind `python -m`.
_SERVERS: Final = frozenset(
    {"daphne", "fastapi", "flask", "granian", "gunicorn", "hypercorn", "sanic", "uvicorn", "uwsgi", "waitress-serve"}
)
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*t?(\.exe)?", re.IGNORECASE)

_MOST_WORDS: Final = 100
"""Characters of a command line that one line of a list shows."""


class TargetError(Exception):
    """No process, or more than one, is meant; the message is for the user, its list of candidates included."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The oldest process of the tree to watch. `created_s` tells it from a later one of the same pid."""

    pid: int
    created_s: float
    name: str


def by_pid(pid: int) -> Target:
    """The process of that pid. Raises TargetError when there is none."""
    if pid <= 0:
        raise TargetError(f"--pid: expects the id of a process, got {pid}")
    try:
        return _target(psutil.Process(pid))
    except psutil.NoSuchProcess:
        raise TargetError(f"--pid: no process {pid} runs here; `ps -e` lists those that do") from None


def by_name(name: str) -> Target:
    """The one tree whose oldest process has `name` as its program or in its command line."""
    found = _roots(process for process in _others() if name.lower() in _words(process).lower())
    return _only(found, f"--name {name}", f"no process has {name!r} in its command line")


def by_port(port: int, option: str = "--port") -> Target:
    """The process that listens at a TCP port, the oldest of its tree."""
    if not 0 < port < 65536:
        raise TargetError(f"{option}: expects a port from 1 to 65535, got {port}")
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        sentence = f"{option}: not allowed to look up who listens at port {port}; use --pid"
        raise TargetError(see("which-process", sentence)) from None
    here = [
        found
        for found in connections
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
    ]
    owners = {found.pid for found in here if found.pid}
    if here and not owners:
        sentence = f"{option}: port {port} belongs to another user's process; use --pid, as that user or root"
        raise TargetError(see("which-process", sentence))
    found = _roots(process for process in _others() if process.pid in owners)
    return _only(found, f"{option} {port}", f"no process listens at port {port}")


def only_server() -> Target:
    """The one Python server that runs here; TargetError lists the candidates where it is not one."""
    found = _roots(process for process in _others() if is_server(_command(process)))
    return _only(found, "", "no Python web server is seen to run here")


def is_server(command: Sequence[str]) -> bool:
    """Whether a command line is that of a Python web server."""
    words = [Path(word).name for word in command[:4]]
    if not words:
        return False
    if not _PYTHON.fullmatch(words[0]):
        return words[0] in _SERVERS
    if words[1:2] == ["-m"]:
        return words[2:3] != [] and words[2].split(".")[0] in _SERVERS
    return any(word in _SERVERS for word in words[1:3]) or "runserver" in words[2:]


def _only(found: Sequence[psutil.Process], option: str, none: str) -> Target:
    if len(found) == 1:
        return _target(found[0])
    if not found:
        sentence = f"{none}: name the process by --pid, --name or --port, or start it behind --"
        raise TargetError(see("which-process", sentence))
    lines = [f"  --pid {process.pid:<8} {_words(process)[:_MOST_WORDS]}" for process in found]
    which = f"{option} fits" if option else "here run"
    kind = "processes" if option else "Python servers"
    sentence = f"{which} {len(found)} {kind}: choose one by --pid"
    raise TargetError(see("which-process", "\n".join([sentence, *lines])))


def _target(process: psutil.Process) -> Target:
    with process.oneshot():
        words = _words(process)
        return Target(pid=process.pid, created_s=process.create_time(), name=words[:_MOST_WORDS] or str(process.pid))


def _others() -> Iterable[psutil.Process]:
    """All processes but this one and those that it runs in."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return (process for process in psutil.process_iter() if process.pid not in own)


def _roots(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes that are nobody's child among them: a server, not its workers."""
    found = {process.pid: process for process in processes}
    roots: list[psutil.Process] = []
    for process in found.values():
        try:
            if not any(parent.pid in found for parent in process.parents()):
                roots.append(process)
        except psutil.Error:
            continue  # gone meanwhile
    return sorted(roots, key=lambda process: process.pid)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _words(process: psutil.Process) -> str:
    """The command line, without control characters; the name where it may not be read."""
    words = " ".join(_command(process))
    if not words:
        try:
            words = process.name()
        except psutil.Error:
            words = ""
    return "".join(character if character.isprintable() else " " for character in words)
