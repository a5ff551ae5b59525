"""Whose a line is: the process or the pod that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Owner(NamedTuple):
    """A process by `pid`, within `place` (a pod, a container, a worker's name, a host) where a line tells."""

    place: str = ""
    pid: int = 0

    def __str__(self) -> str:
        return " ".join([*([self.place] if self.place else []), *([f"pid {self.pid}"] if self.pid else [])])


NOBODY: Final = Owner()

# A pid in brackets is gunicorn's `[time] [pid] [LEVEL]` and syslog's `python[pid]:`; the kernel's time has a point.
_PID: Final = re.compile(
    rb"""(?<![A-Za-z])[pP][iI][dD]["']?[ \t]?[=:#]?[ \t]?["']?(\d{1,10})\b|(?<!\S)\[(\d{1,10})\](?=\s)|"""
    rb"""\w\[(\d{1,10})\]: |\b[pP]rocess(?: ?\[|[=:#] ?)(\d{1,10})\b|"""
    rb"""\b((?:ForkPoolWorker|SpawnPoolWorker|SpawnProcess|ForkProcess)-[\d:]{1,16})"""
)
_POD: Final = re.compile(
    rb"""\b(?:pod|pod_name|podName|container|container_name|instance|hostname|host)=["']?([\w.:/\-]{1,253})"""
)
_COMPOSE: Final = re.compile(rb"([\w.\-]{1,128})\s{1,40}\|\s")
_KUBECTL: Final = re.compile(rb"\[pod/([\w.\-]{1,253})/[\w.\-]{1,253}\]\s")

_PIDS: Final = ("pid", "process_id", "processId", "_PID", "worker_pid", "process", "SYSLOG_PID")
_PLACES: Final = (
    *("pod", "pod_name", "podName", "container_name", "CONTAINER_NAME", "containerName", "container"),
    *("instance", "hostname", "host", "_HOSTNAME", "worker", "processName", "process_name"),
)
_NESTED: Final = ("kubernetes", "k8s", "labels", "record", "docker", "metadata")
_LONGEST_NAME: Final = 253  # Kubernetes' own limit


def of_text(line: bytes) -> Owner:
    """The owner that a line of text names."""
    place = _COMPOSE.match(line) if b"|" in line else None
    if place is None and b"[pod/" in line:
        place = _KUBECTL.match(line)
    if place is None and b"=" in line:
        place = _POD.search(line)
    process = _PID.search(line)
    name = place[1].decode("utf-8", "replace") if place else ""
    if process is None:
        return Owner(name, 0) if name else NOBODY
    if process[5]:
        return Owner(process[5].decode(), 0)
    return Owner(name, int(process[1] or process[2] or process[3] or process[4]))


def of_record(record: Mapping[str, Any], around: Owner = NOBODY) -> Owner:
    """The owner that a JSON object names, else the one around it."""
    place, pid = _place(record), _pid(record)
    if not place:
        for key in _NESTED:
            inner = record.get(key)
            if isinstance(inner, dict) and (place := _place(inner)):
                break
    return Owner(place or around.place, pid or around.pid) if place or pid else around


def _pid(record: Mapping[str, Any]) -> int:
    for key in _PIDS:
        value = record.get(key)
        if isinstance(value, dict):
            value = value.get("pid", value.get("id"))
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**10:
            return value
    return 0


def _place(record: Mapping[str, Any]) -> str:
    for key in _PLACES:
        value = record.get(key)
        if isinstance(value, dict):
            value = value.get("name")
        if isinstance(value, str) and value:
            return value[:_LONGEST_NAME]
    return ""
