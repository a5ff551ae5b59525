"""The view from outside: RSS of a process tree, and which process listens at an address."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable
from typing import Any

import psutil

from pytest_memleak.soak.plan import PlanError


def tree_rss(pid: int) -> dict[str, Any] | None:
    """RSS in bytes of a process and its children together, and how many they are; None when it is gone.

    Pages that workers share (a preloaded app) are counted for each.
    """
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.Error:
        return None
    sizes = list(_sizes(members))
    if not sizes:
        return None
    return {"rss_bytes": sum(sizes), "processes": len(sizes)}


def _sizes(members: Iterable[psutil.Process]) -> Iterable[int]:
    for member in members:
        try:
            if member.status() != psutil.STATUS_ZOMBIE:
                yield int(member.memory_info().rss)
        except psutil.Error:
            continue  # gone meanwhile


def uss_of(pid: int) -> int | None:
    """The unique set size of a process tree in bytes, None where it cannot be read."""
    try:
        root = psutil.Process(pid)
        return sum(int(member.memory_full_info().uss) for member in (root, *root.children(recursive=True)))
    except (psutil.Error, OSError):
        return None


def process_behind(url: str) -> int:
    """The pid of the local process that listens at a URL's port: the oldest of its tree.

    Raises PlanError when it is on another machine, or cannot be found.
    """
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise PlanError(f"url: expects http://HOST:PORT, got {url!r}")
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise PlanError(f"url: the memory of {parts.hostname} cannot be seen from here; run the soak on that machine")
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        raise PlanError(f"url: not allowed to look up who listens at port {port}; name the process by --pid") from None
    owners = {
        found.pid
        for found in connections
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid
    }
    if not owners:
        raise PlanError(f"url: no process is seen to listen at {parts.hostname}:{port}; name it by --pid")
    return min(owners, key=_age_order)


def _age_order(pid: int) -> tuple[float, int]:
    try:
        return psutil.Process(pid).create_time(), pid
    except psutil.Error:
        return float("inf"), pid
