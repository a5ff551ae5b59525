"""Process trees and servers of a soak: real processes, ended in every way that they and the harness can end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from waiting import until

from pytest_memleak.soak.bounded_log import LOG_BYTES, BoundedLog
from pytest_memleak.soak.remains import MARK, kill_all, memory_events, oom_kills
from pytest_memleak.soak.server import (
    Launch,
    default_command,
    free_port,
    process_ids,
    users_command,
    wait_until_healthy,
)
from pytest_memleak.soak.tree import Exit, StartError, Tree

PATIENCE_S = 60.0
"""Longer than anything here takes on a machine ten times slower; nothing waits that long where all is well."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' kernel")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""

FORKS_TWICE = """
import os, signal, time
def sleeps(): signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b"pid %d\\n" % os.getpid()); time.sleep(600)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: sleeps()
    os._exit(0)
os.wait()
sleeps()
"""


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie: some containers' PID 1 buries nobody."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int]) -> bool:
    return not any(map(lives, pids))


def start(folder: Path, *command: str, **environment: str) -> Tree:
    return Tree.start(
        command, log=folder / "server.log", environment={**os.environ, **environment}, cwd=folder, name="server"
    )


def python(folder: Path, program: str) -> Tree:
    return start(folder, sys.executable, "-c", dedent(program))


def said(tree: Tree, *words: str) -> None:
    until(lambda: all(word in tree.log_tail(100) for word in words), f"{words} in the log")


def pids_said(tree: Tree, count: int) -> list[int]:
    def found() -> list[int]:
        return [int(line.split()[1]) for line in tree.log_tail(100).splitlines() if line.startswith("pid ")]

    until(lambda: len(found()) == count, f"{count} process ids in the log")
    return found()


def keeper_of(tree: Tree) -> psutil.Process:
    keeper = psutil.Process(tree.pid).parent()
    assert keeper is not None
    return keeper


def ended(tree: Tree) -> Exit:
    until(tree.poll, "the command's end")
    exit_ = tree.poll()
    assert exit_ is not None
    return exit_


# The end of a command


@pytest.mark.parametrize(
    "program, words",
    [
        ("raise SystemExit(0)", "exited with code 0"),
        ("raise SystemExit(3)", "exited with code 3"),
        pytest.param("import os; os.kill(os.getpid(), 15)", "was killed by SIGTERM", marks=posix),
        pytest.param("import os; os.abort()", "was killed by SIGABRT", marks=posix),
    ],
)
def test_a_command_that_ends_by_itself_is_told_in_words(tmp_path: Path, program: str, words: str) -> None:
    with python(tmp_path, program) as tree:
        exit_ = ended(tree)
    assert (exit_.words, exit_.stopped, exit_.left) == (words, False, 0)


@posix
def test_a_kill_that_nobody_owns_up_to_is_told_with_what_the_kernel_knows(tmp_path: Path) -> None:
    with python(tmp_path, "import os; os.kill(os.getpid(), 9)") as tree:
        exit_ = ended(tree)
    assert exit_.words.startswith("was killed by SIGKILL (")
    assert "out-of-memory" in exit_.words


@pytest.mark.parametrize(
    "exit_, words",
    [
        (Exit(returncode=-9, oom_kills=1), "was killed by SIGKILL (the kernel's out-of-memory killer: memory.events)"),
        (
            Exit(returncode=-9, oom_kills=0),
            "was killed by SIGKILL (not by the kernel's out-of-memory killer: memory.events)",
        ),
        (
            Exit(returncode=-9),
            "was killed by SIGKILL (whether by the kernel's out-of-memory killer is unknown: see dmesg)",
        ),
        (Exit(returncode=-9, stopped=True), "was stopped (killed by SIGKILL)"),
        (Exit(returncode=0, stopped=True), "was stopped (exited with code 0)"),
        (Exit(returncode=-77), "was killed by signal 77"),
        (Exit(returncode=1, left=2), "exited with code 1, and 2 of its processes could not be killed"),
        (Exit(returncode=None), "was killed, since its keeper had died"),
        (Exit(returncode=None, left=1), "lost its keeper, and 1 of its processes could not be killed"),
    ],
)
@posix
def test_words(exit_: Exit, words: str) -> None:
    assert exit_.words == words


def test_the_out_of_memory_counter_is_read_from_the_process_s_cgroup(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text("4:memory:/old\n0::/app.slice/web\n")
    assert memory_events(7, proc=tmp_path / "proc", cgroups=tmp_path / "cgroups") is None
    (tmp_path / "cgroups/app.slice/web").mkdir(parents=True)
    events = tmp_path / "cgroups/app.slice/web/memory.events"
    events.write_text("low 0\noom 5\noom_kill 3\noom_group_kill 0\n")
    assert memory_events(7, proc=tmp_path / "proc", cgroups=tmp_path / "cgroups") == events
    assert oom_kills(events) == 3
    assert memory_events(8, proc=tmp_path / "proc", cgroups=tmp_path / "cgroups") is None
    assert oom_kills(None) is None
    assert oom_kills(tmp_path / "missing") is None
    events.write_text("low 0\n")
    assert oom_kills(events) is None


@posix
def test_what_the_command_left_behind_dies_with_it(tmp_path: Path) -> None:
    program = """
        import os, time
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(1, b"pid %d\\n" % os.getpid())
                os.write(write, b"said")
                time.sleep(600)
            os._exit(0)
        os.wait()
        os.read(read, 4)
        os._exit(4)
    """
    with python(tmp_path, program) as tree:
        orphans = pids_said(tree, 1)
        assert ended(tree).words == "exited with code 4"
        assert gone(orphans)


# Commands that do not start


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError) as raised:
        start(tmp_path, "frobnicate-7", "--port", "1")
    assert str(raised.value) == "the server did not start: the command frobnicate-7 was not found"


@posix
def test_a_command_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no program")
    with pytest.raises(StartError, match=r"^the server did not start: the command ./notes.txt is not executable$"):
        start(tmp_path, "./notes.txt")
    (tmp_path / "notes.txt").chmod(0o755)
    with pytest.raises(StartError, match=r"the command ./notes.txt could not be started: Exec format error$"):
        start(tmp_path, "./notes.txt")


@posix
def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"the folder .*/absent to run .* in cannot be entered: No such file"):
        Tree.start([sys.executable], log=tmp_path / "log", environment={}, cwd=tmp_path / "absent", name="server")


def test_a_keeper_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_memleak.soak.tree.json.dumps", lambda order: "{no json")
    with pytest.raises(StartError, match=r"^the server did not start: its keeper died: .*JSONDecodeError"):
        start(tmp_path, sys.executable)


# Stopping


def test_stop_ends_the_tree_and_says_so_twice(tmp_path: Path) -> None:
    tree = python(tmp_path, "import time; print('up', flush=True); time.sleep(600)")
    assert tree.poll() is None
    said(tree, "up")
    first = tree.stop()
    assert (first.stopped, first.left) == (True, 0)
    assert tree.stop() is first
    assert tree.poll() is first
    assert gone([tree.pid])


@posix
def test_a_command_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    with python(tmp_path, IGNORES_SIGTERM) as tree:
        said(tree, "deaf")
        assert tree.stop(grace_s=0.1).words == "was stopped (killed by SIGKILL)"


@posix
def test_a_command_that_heeds_sigterm_may_take_its_time(tmp_path: Path) -> None:
    program = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.3)
            print("tidied up", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        time.sleep(600)
    """
    with python(tmp_path, program) as tree:
        said(tree, "up")
        assert tree.stop(grace_s=PATIENCE_S).words == "was stopped (exited with code 0)"
        assert tree.log_tail(1) == "tidied up"


@posix
def test_a_server_behind_a_shell_is_asked_before_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(
        "import signal, time\n"
        "def end(*_):\n    print('tidied up', flush=True)\n    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    with start(tmp_path, "sh", "-c", f"{sys.executable} inner.py; true") as tree:
        said(tree, "up")
        assert tree.stop(grace_s=PATIENCE_S).words == "was stopped (killed by SIGTERM)"
        assert tree.log_tail(1) == "tidied up"


@posix
def test_daemons_that_forked_twice_are_killed(tmp_path: Path) -> None:
    with python(tmp_path, FORKS_TWICE) as tree:
        pids = pids_said(tree, 2)
        assert all(map(lives, pids))
        assert tree.stop(grace_s=0.1).left == 0
        assert gone(pids)


@linux
def test_a_daemon_that_dropped_its_environment_too_is_killed(tmp_path: Path) -> None:
    bare = 'os.write(1, b"pid %d\\n" % os.getpid()); os.execve("/bin/sleep", ["sleep", "600"], {})'
    with python(tmp_path, FORKS_TWICE.replace("if os.fork() == 0: sleeps()", f"if os.fork() == 0: {bare}")) as tree:
        pids = pids_said(tree, 2)
        assert tree.stop(grace_s=0.1).left == 0
        assert gone(pids)


@linux
def test_the_keeper_buries_orphans_while_the_command_lives(tmp_path: Path) -> None:
    program = """
        import os, time
        if os.fork() == 0:
            if os.fork() == 0:
                os.write(1, b"pid %d\\n" % os.getpid())
                time.sleep(0.1)
            os._exit(0)
        os.wait()
        time.sleep(600)
    """
    with python(tmp_path, program) as tree:
        orphan = pids_said(tree, 1)[0]
        until(lambda: not psutil.pid_exists(orphan), "the orphan's burial")
        assert tree.poll() is None


@posix
def test_ctrl_c_in_the_terminal_does_not_reach_the_tree(tmp_path: Path) -> None:
    with python(tmp_path, FORKS_TWICE) as tree:
        pids_said(tree, 2)
        keeper = keeper_of(tree)
        assert len({os.getsid(0), os.getsid(keeper.pid), os.getsid(tree.pid)}) == 3
        keeper.send_signal(signal.SIGINT)
        assert tree.stop(grace_s=0.1).words == "was stopped (killed by SIGKILL)"


@posix
def test_the_command_hears_sigint_as_any_other(tmp_path: Path) -> None:
    with python(tmp_path, "import signal; print(signal.getsignal(signal.SIGINT).__name__)") as tree:
        ended(tree)
        assert tree.log_tail() == "default_int_handler"


@posix
def test_a_keeper_told_to_end_ends_the_tree_in_order(tmp_path: Path) -> None:
    with python(tmp_path, FORKS_TWICE.replace("signal.SIG_IGN", "signal.SIG_DFL")) as tree:
        pids = pids_said(tree, 2)
        keeper_of(tree).send_signal(signal.SIGTERM)
        assert ended(tree).words == "was stopped (killed by SIGTERM)"
        assert gone(pids)


@linux
def test_a_dead_keeper_is_noticed_and_its_tree_killed(tmp_path: Path) -> None:
    with python(tmp_path, FORKS_TWICE) as tree:
        pids = pids_said(tree, 2)
        keeper_of(tree).kill()
        assert ended(tree).words == "was killed, since its keeper had died"
        assert gone(pids)
        assert tree.stop().returncode is None


@linux
def test_a_keeper_that_does_not_answer_is_killed_with_its_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with python(tmp_path, FORKS_TWICE) as tree:
        pids = pids_said(tree, 2)
        keeper_of(tree).suspend()
        monkeypatch.setattr("pytest_memleak.soak.tree.ANSWER_S", 1.0)
        assert tree.stop(grace_s=0.0).returncode is None
        until(lambda: gone(pids), "the tree's end")


def test_what_cannot_be_killed_is_counted_and_waited_for_no_longer() -> None:
    now = iter(range(100))
    undying = psutil.Process()

    class Undying(psutil.Process):
        def kill(self) -> None:
            raise psutil.AccessDenied(undying.pid)

    assert kill_all(lambda: [Undying()], within_s=3, clock=lambda: next(now), sleep=lambda seconds: None) == 1


# The harness killed


HARNESS = """
import os, sys, time
from pathlib import Path
from pytest_memleak.soak.server import users_command, wait_until_healthy, process_ids
from pytest_memleak.soak.tree import Tree
folder, port = Path(sys.argv[1]), int(sys.argv[2])
command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "{bind}", "wsgi:app"]
launch = users_command(command, "127.0.0.1", port)
tree = Tree.start(launch.command, log=folder / "server.log", environment=os.environ, cwd=folder, name="server")
wait_until_healthy(launch.url, tree)
while len(process_ids(tree.pid)) < 3: time.sleep(0.01)
if "--forked" in sys.argv and os.fork() == 0: time.sleep(600)
print(*process_ids(tree.pid), flush=True)
time.sleep(600)
"""


@linux
@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a child that holds its pipes"])
def test_a_harness_killed_by_sigkill_takes_gunicorn_and_its_workers_along(tmp_path: Path, forked: bool) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "wsgi.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'up']\n"
    )
    port = free_port()
    arguments = [sys.executable, "-c", HARNESS, str(tmp_path), str(port), *(["--forked"] if forked else [])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        pids = [int(pid) for pid in harness.stdout.readline().split()]
        others = process_ids(harness.pid)
        try:
            assert len(pids) == 3
            assert len(others) == 1 + 1 + 3 + forked  # itself, the keeper, gunicorn's three
            harness.kill()
            harness.wait()
            until(lambda: gone(pids), "the end of gunicorn")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are no listener
                probe.bind(("127.0.0.1", port))
            until(lambda: sum(map(lives, others)) == forked, "the end of the keeper")
        finally:
            for pid in {*pids, *others}:
                if lives(pid):
                    os.kill(pid, signal.SIGKILL)


# The log


def test_a_chatty_command_has_a_bounded_log_with_its_last_words(tmp_path: Path) -> None:
    megabytes = 30
    program = f"""
        for number in range({megabytes * 10_000}): print("x" * 93, f"{{number:05}}"[-5:])
        print("the end")
    """
    with python(tmp_path, program) as tree:
        assert ended(tree).returncode == 0
        assert tree.log_tail(2).splitlines()[1] == "the end"
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"server.log", "server.log.1"}
    assert max(sizes.values()) <= LOG_BYTES
    assert sum(sizes.values()) > LOG_BYTES


@linux
def test_a_full_disk_does_not_stop_the_command(tmp_path: Path) -> None:
    program = "for _ in range(100_000): print('x' * 50)\nraise SystemExit(7)"
    tree = Tree.start(
        [sys.executable, "-c", program], log=Path("/dev/full"), environment=os.environ, cwd=tmp_path, name="server"
    )
    with tree:
        assert ended(tree).words == "exited with code 7"
        assert tree.log_tail() == ""
    assert Path("/dev/full").is_char_device()


def test_a_log_that_cannot_be_opened_is_done_without(tmp_path: Path) -> None:
    tree = Tree.start(
        [sys.executable, "-c", "print('x'); raise SystemExit(7)"],
        log=tmp_path / "absent" / "server.log",
        environment=os.environ,
        cwd=tmp_path,
        name="server",
    )
    with tree:
        assert ended(tree).words == "exited with code 7"
        assert tree.log_tail() == ""


def test_the_log_s_end_goes_on_in_the_file_before_it_but_not_in_an_earlier_command_s(tmp_path: Path) -> None:
    with python(tmp_path, "print('earlier')") as tree:
        ended(tree)
    with python(tmp_path, "print('x' * 9); print('y' * 9)") as tree:
        ended(tree)
        assert tree.log_tail() == "xxxxxxxxx\nyyyyyyyyy"
        assert (tmp_path / "server.log.1").read_text() == "earlier\n"
        log = BoundedLog(tmp_path / "server.log")  # turns it
        log.write(b"z\n")
        log.close()
        assert tree.log_tail() == "xxxxxxxxx\nyyyyyyyyy\nz"


def test_a_log_keeps_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for text in (b"first", b"second", b"third"):
        log = BoundedLog(path)
        log.write(text)
        log.close()
    assert (path.read_bytes(), (tmp_path / "a.log.1").read_bytes()) == (b"third", b"second")


def test_a_log_turns_exactly_where_it_would_be_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = BoundedLog(path, limit=10)
    log.write(b"12345")
    log.write(b"67890")
    assert path.read_bytes() == b"1234567890"
    log.write(b"x")
    log.close()
    assert (path.read_bytes(), (tmp_path / "a.log.1").read_bytes()) == (b"x", b"1234567890")


def test_a_log_that_cannot_turn_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").mkdir()
    log = BoundedLog(tmp_path / "a.log", limit=10)
    log.write(b"1234567890")
    log.write(b"x")
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"x"


def test_the_environment_is_the_command_s_and_not_the_keeper_s(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the keeper imported what was meant for the server')")
    program = f"import os; print(len(os.environ['LARGE']), {MARK!r} in os.environ, 'HOME' in os.environ)"
    essential = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    tree = Tree.start(
        [sys.executable, "-c", program],
        log=tmp_path / "server.log",
        environment={**essential, "LARGE": "x" * 100_000, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        name="server",
    )
    with tree:
        ended(tree)
        assert tree.log_tail() == "100000 True False"


def test_the_keeper_is_light() -> None:
    program = "import sys, pytest_memleak.soak.keeper; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {module for module in loaded if module.startswith("pytest_memleak")}
    soak = "pytest_memleak.soak"
    assert ours == {"pytest_memleak", soak, f"{soak}.keeper", f"{soak}.bounded_log", f"{soak}.remains"}
    assert not {"asyncio", "ctypes", "http", "numpy", "psutil"} & set(loaded)


# Commands


def test_the_default_command_is_uvicorn_s() -> None:
    launch = default_command("shop.main:app", "127.0.0.1", 8123)
    assert launch.url == "http://127.0.0.1:8123"
    assert launch.command[:4] == (sys.executable, "-m", "uvicorn", "shop.main:app")
    assert " ".join(launch.command[4:]) == "--host 127.0.0.1 --port 8123 --no-access-log --log-level warning"
    factory = default_command("shop.main:create_app()", "127.0.0.1", 8123).command
    assert (factory[3], factory[-1]) == ("shop.main:create_app", "--factory")


@pytest.mark.parametrize(
    "app, suggestion",
    [
        ("shop.main", "shop.main:app"),
        ("shop/main.py", "shop.main:app"),
        ("shop:", "shop:app"),
        (":app", "shop.main:app"),
        ("", "shop.main:app"),
    ],
)
def test_an_app_that_names_no_object(app: str, suggestion: str) -> None:
    with pytest.raises(StartError) as raised:
        default_command(app, "127.0.0.1", 1)
    assert str(raised.value) == f"the app {app!r} does not name an object: write MODULE:NAME, such as {suggestion}"


def test_the_user_s_command_is_told_where_to_listen() -> None:
    launch = users_command(["gunicorn", "-b", "{bind}", "-e", 'X={"a": 1}', "a:b"], "127.0.0.1", 8123)
    assert launch.command == ("gunicorn", "-b", "127.0.0.1:8123", "-e", 'X={"a": 1}', "a:b")
    launch = users_command(["granian", "--host={host}", "--port={port}", "a:b"], "::1", 8123)
    assert launch.command == ("granian", "--host=::1", "--port=8123", "a:b")
    assert launch.url == "http://[::1]:8123"
    assert users_command(["hypercorn", "-b", "{bind}"], "::1", 8123).command[-1] == "[::1]:8123"


@pytest.mark.parametrize("options", [["--host=0.0.0.0", "--port={n}"], ["--port", "1", "--port", "{n}"]])
def test_a_port_that_the_user_s_command_names_is_where_it_listens(options: list[str]) -> None:
    port = free_port()
    launch = users_command(["uvicorn", "a:b", *(word.replace("{n}", str(port)) for word in options)], "::1", 1)
    assert launch.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("options", [[], ["--port"], ["--port", "$PORT"], ["--host", "{host}"]])
def test_a_command_that_does_not_say_where_it_listens(options: list[str]) -> None:
    with pytest.raises(StartError, match=r"^the command 'uvicorn a:b.*' does not say which port .* write \{port\} or"):
        users_command(["uvicorn", "a:b", *options], "127.0.0.1", 1)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"^something listens on http://127.0.0.1:{port} already: end it, or"):
            users_command(["uvicorn", "a:b", "--port", str(port)], "127.0.0.1", 1)


def test_a_free_port_can_be_bound() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname() == ("127.0.0.1", port)


def test_process_ids_of_a_tree_and_of_nobody(tmp_path: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    with python(tmp_path, program) as tree:
        until(lambda: len(process_ids(tree.pid)) > 1, "the child")
        assert tree.pid in process_ids(tree.pid)
    assert process_ids(tree.pid) == []


# Health


APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    status = next(STATUSES) if scope["path"] == "/health" else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], tuple[Launch, Tree]]]:
    """Writes an app and starts it under uvicorn."""
    pytest.importorskip("uvicorn")
    trees: list[Tree] = []

    def serve(program: str) -> tuple[Launch, Tree]:
        (tmp_path / "soaked_app.py").write_text(program)
        launch = default_command("soaked_app:app", "127.0.0.1", free_port())
        trees.append(start(tmp_path, *launch.command))
        return launch, trees[-1]

    yield serve
    for tree in trees:
        tree.stop()


def test_a_404_is_an_answer_and_a_503_is_waited_out(served: Callable[[str], tuple[Launch, Tree]]) -> None:
    launch, tree = served(f"STATUSES = iter([503, 503, 204])\n{APP}")
    assert wait_until_healthy(launch.url, tree, timeout_s=PATIENCE_S) > 0
    pauses: list[float] = []
    wait_until_healthy(launch.url, tree, path="/health", timeout_s=PATIENCE_S, sleep=pauses.append)
    assert len(pauses) == 2


def test_a_server_that_only_fails_is_refused(served: Callable[[str], tuple[Launch, Tree]]) -> None:
    launch, tree = served(f"import itertools\nSTATUSES = itertools.repeat(500)\n{APP}")
    wait_until_healthy(launch.url, tree, timeout_s=PATIENCE_S)
    with pytest.raises(StartError) as raised:
        wait_until_healthy(launch.url, tree, path="/health", timeout_s=0.3)
    assert str(raised.value) == (
        f"the server answered 500 on {launch.url}/health within 0.3 s (memleak explain server-did-not-start); "
        "its log is empty"
    )


def test_a_server_that_ends_at_once_is_told_with_its_last_words(served: Callable[[str], tuple[Launch, Tree]]) -> None:
    launch, tree = served("import a_module_nobody_has")
    with pytest.raises(StartError) as raised:
        wait_until_healthy(launch.url, tree, timeout_s=PATIENCE_S)
    first, *_, last = str(raised.value).splitlines()
    assert first == (
        f"the server exited with code 1 before it answered on {launch.url}/ (memleak explain server-did-not-start); "
        "its log ends:"
    )
    assert last == "ModuleNotFoundError: No module named 'a_module_nobody_has'"


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with python(tmp_path, "import time; print('thinking', flush=True); time.sleep(600)") as tree:
        said(tree, "thinking")
        with pytest.raises(StartError) as raised:
            wait_until_healthy(url, tree, timeout_s=0.2)
    assert str(raised.value) == (
        f"the server did not answer on {url}/ within 0.2 s (memleak explain server-did-not-start); "
        "its log ends:\nthinking"
    )


def test_a_server_that_accepts_and_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, python(tmp_path, "import time; time.sleep(600)") as tree:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StartError, match=r"did not answer on .* within 0.2 s \(.*\); its log is empty$"):
            wait_until_healthy(url, tree, timeout_s=0.2)
