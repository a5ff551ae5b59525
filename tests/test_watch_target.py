"""Which process is watched: found by pid, name, port, or as the one server that runs here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from watch_support import keeping

from pytest_memleak.watch import target
from pytest_memleak.watch.limits import limit_of
from pytest_memleak.watch.target import TargetError


@pytest.mark.parametrize(
    "command, answer",
    [
        (["/usr/bin/python3", "/home/me/.venv/bin/uvicorn", "shop.main:app"], True),
        (["python3.12", "-m", "uvicorn", "shop.main:app"], True),
        (["/opt/venv/bin/python", "/opt/venv/bin/gunicorn", "-w", "4", "shop.main:app"], True),
        (["gunicorn: master [shop]"], False),
        (["uvicorn", "shop.main:app"], True),
        (["python", "manage.py", "runserver"], True),
        (["python", "-m", "hypercorn.__main__", "shop:app"], True),
        (["python", "-m", "pytest", "uvicorn"], False),
        (["python", "worker.py"], False),
        (["vim", "uvicorn.py"], False),
        ([], False),
    ],
)
def test_what_counts_as_a_python_web_server(command: list[str], answer: bool) -> None:
    assert target.is_server(command) is answer


@pytest.fixture
def listener() -> Iterator[tuple[int, int]]:
    """The pid of a process that listens, and its port."""
    program = (
        "import socket, sys, time; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def test_by_pid() -> None:
    found = target.by_pid(os.getpid())
    assert (found.pid, found.created_s) == (os.getpid(), psutil.Process().create_time())
    assert found.name


def test_by_the_port_at_which_it_listens(listener: tuple[int, int]) -> None:
    pid, port = listener
    assert target.by_port(port).pid == pid


def test_by_a_word_of_its_command_line() -> None:
    word = f"shop-{os.getpid()}"
    with keeping(0, children=2, mark=word) as process:
        assert target.by_name(word).pid == process.pid, "the root, not its children"
        with keeping(0, mark=word) as other, pytest.raises(TargetError) as refused:
            target.by_name(word)
        assert f"--name {word} fits 2 processes: choose one by --pid" in str(refused.value)
        assert f"--pid {process.pid} " in str(refused.value)
        assert f"--pid {other.pid} " in str(refused.value)


@pytest.mark.parametrize(
    "find, words",
    [
        (lambda: target.by_pid(2**22 + 1), "--pid: no process 4194305 runs here"),
        (lambda: target.by_pid(0), "--pid: expects the id of a process, got 0"),
        (lambda: target.by_name("no such words anywhere \x1b"), "no process has "),
        (lambda: target.by_port(0), "--port: expects a port from 1 to 65535, got 0"),
        (lambda: target.by_port(free_port()), "no process listens at port"),
    ],
)
def test_what_is_not_there(find: object, words: str) -> None:
    assert callable(find)
    with pytest.raises(TargetError) as refused:
        find()
    assert words in str(refused.value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


GIB = 1 << 30


@pytest.mark.parametrize(
    "cgroup, files, limit, used",
    [
        ("0::/app\n", {"app/memory.max": "1073741824", "app/memory.current": "500"}, GIB, 500),
        (
            "0::/pod/app\n",
            {"pod/app/memory.max": "max", "pod/memory.max": "2147483648", "pod/memory.current": "7"},
            2 * GIB,
            7,
        ),
        ("0::/../../app\n", {"app/memory.max": "1073741824"}, GIB, None),
        (
            "5:cpu,cpuacct:/a\n4:memory:/docker/x\n",
            {"memory/docker/x/memory.limit_in_bytes": "1073741824", "memory/memory.limit_in_bytes": str(2**63 - 4096)},
            GIB,
            None,
        ),
    ],
)
def test_the_limit_of_a_container(
    tmp_path: Path, cgroup: str, files: dict[str, str], limit: int, used: int | None
) -> None:
    _write(tmp_path / "proc/7/cgroup", cgroup)
    for name, text in files.items():
        _write(tmp_path / "groups" / name, text)
    found = limit_of(7, tmp_path / "proc", tmp_path / "groups")
    assert (found.limit_bytes, found.used) == (limit, used)
    assert found.whose == "the container's limit"


def test_without_a_container_the_machine_is_the_limit(tmp_path: Path) -> None:
    found = limit_of(7, tmp_path, tmp_path)
    assert found.limit_bytes == psutil.virtual_memory().total
    assert found.whose == "the machine's memory"
