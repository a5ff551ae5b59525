"""Deaths by want of memory, and births: the kernel's OOM killer, gunicorn, uvicorn, Kubernetes, Docker."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pytest_memleak.logs.sizes import KERNEL_KB

KERNEL: Final = "killed by the kernel"
SUSPECTED: Final = "killed, perhaps for memory"
OOM_KILLED: Final = "OOMKilled"


class Death(NamedTuple):
    """Who died. `level` is what it had, in bytes, where the line tells (resident: anonymous, file and shared)."""

    kind: str
    pid: int = 0
    name: str = ""
    """The process' or pod's name."""

    level: float = 0.0
    cgroup: str = ""
    is_limit: bool = False
    """Whether a container's limit was met, and not the machine's end."""


class Birth(NamedTuple):
    """A process began: what was known of this pid, or of a service of one process, is over."""

    pid: int
    is_alone: bool
    """Whether the line comes from a server of one process, so that figures without a pid are its own."""


_WORDS: Final = (
    *(b"illed process", b"oom-kill:", b"SIGKILL", b"OOMKill", b"container oom", b"ooting worker", b"ed server process"),
)
"""What every line has that is told here: quick to look for."""

_KILLED: Final = re.compile(rb"[Kk]illed process (\d{1,10})[, ]{1,3}(?:UID \d{1,10},? )?\(([^)]{1,64})\)")
_PARTS: Final = re.compile(rb"(?:anon|file|shmem)-rss:(\d{1,15})kB")
_CONSTRAINT: Final = re.compile(rb"oom-kill:constraint=(\w{1,40})")
_FIELD: Final = re.compile(rb"(task_memcg|task|pid)=([^,\s]{1,400})")
_WORKER: Final = re.compile(rb"Worker \(pid:(\d{1,10})\) was sent SIGKILL")
_BOOTING: Final = re.compile(rb"Booting worker with pid:? (\d{1,10})")
_STARTED: Final = re.compile(rb"Started server process \[(\d{1,10})\]")
_DOCKER: Final = re.compile(rb"container oom [0-9a-f]{6,64}(?: \((.{0,2000})\))?")
_DOCKER_NAME: Final = re.compile(rb"\bname=([^,)\s]{1,253})")
# `kubectl get pods`: [NAMESPACE] NAME READY STATUS RESTARTS AGE
_PODS: Final = re.compile(rb"(?:(\S{1,253})\s+)?(\S{1,253})\s+\d{1,3}/\d{1,3}\s+(?:Init:)?OOMKilled")
_POD: Final = re.compile(
    rb"""\b(?:pod|pods|involvedObject\.name)["']?[/=: ]["']?([\w.\-]{1,253}(?:/[\w.\-]{1,253})?)"""
)


def find(line: bytes) -> Death | Birth | None:
    """What a line tells of a death or a birth."""
    for word in _WORDS:
        if word in line:
            break
    else:
        return None
    return _of_worker(line) or _of_kernel(line) or _of_container(line)


def _of_worker(line: bytes) -> Death | Birth | None:
    match = _BOOTING.search(line)
    if match is not None:
        return Birth(int(match[1]), False)
    match = _STARTED.search(line)
    if match is not None:
        return Birth(int(match[1]), True)
    match = _WORKER.search(line)
    return Death(SUSPECTED, int(match[1]), "worker") if match else None


def _of_kernel(line: bytes) -> Death | None:
    match = _KILLED.search(line)
    if match is not None:
        level = sum(float(part) for part in _PARTS.findall(line)) * KERNEL_KB
        limit = b"emory cgroup out of memory" in line
        return Death(KERNEL, int(match[1]), match[2].decode("utf-8", "replace"), level, is_limit=limit)
    match = _CONSTRAINT.search(line)
    if match is None:
        return None
    fields = {name: value.decode("utf-8", "replace") for name, value in _FIELD.findall(line)}
    pid = fields.get(b"pid", "")
    return Death(
        KERNEL,
        int(pid) if pid.isascii() and pid.isdigit() and len(pid) <= 10 else 0,
        fields.get(b"task", ""),
        cgroup=fields.get(b"task_memcg", ""),
        is_limit=b"MEMCG" in match[1],
    )


def _of_container(line: bytes) -> Death | None:
    match = _DOCKER.search(line)
    if match is not None:
        found = _DOCKER_NAME.search(match[1] or b"")
        return Death(OOM_KILLED, name=found[1].decode("utf-8", "replace") if found else "", is_limit=True)
    if b"OOMKill" not in line:
        return None
    match = _PODS.match(line)
    if match is not None:
        name = b"/".join(part for part in match.groups() if part).decode("utf-8", "replace")
        return Death(OOM_KILLED, name=name, is_limit=True)
    match = _POD.search(line)
    return Death(OOM_KILLED, name=match[1].decode("utf-8", "replace") if match else "", is_limit=True)
