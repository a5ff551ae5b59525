"""`memleak detect` as a user calls it: a real process, its report, its exit code, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from watch_support import hear_ctrl_c, keeping

pytest.importorskip("scipy")


def memleak(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_memleak", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180, cwd=folder)


def test_a_leak_is_told_kept_and_compared(tmp_path: Path) -> None:
    with keeping(600, children=1) as process:
        found = memleak("detect", "8", "0.2", "--pid", str(process.pid), "--save", "before", folder=tmp_path)
    assert (found.returncode, found.stderr.count("\n")) == (1, 1), found.stderr
    for words in ("LEAK DETECTED in ", "initial RSS:", "final RSS:", "total growth:", "growth rate:", "duration:"):
        assert words in found.stdout
    assert "severity:      critical" in found.stdout
    assert "is reached in" in found.stdout
    again = memleak("report", "before", folder=tmp_path)
    assert again.returncode == 1
    assert "LEAK DETECTED" in again.stdout
    with keeping(600, children=1, does="drop") as process:
        clean = memleak("detect", "8", "0.2", "--pid", str(process.pid), "--save", "after", "--json", folder=tmp_path)
    assert clean.returncode == 0, clean.stdout
    result = json.loads(clean.stdout)
    assert (result["version"], result["verdict"]["outcome"]) == (1, "CLEAN")
    assert 0 < result["cores"] < 2
    fixed = memleak("verify", "before", "after", folder=tmp_path)
    assert fixed.returncode == 0, fixed.stdout
    assert fixed.stdout.startswith("FIXED")
    with keeping(0, does="idle") as process:
        done = memleak("detect", "8", "0.2", "--pid", str(process.pid), "--save", "idle", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "of a core meanwhile: if nobody called it" in " ".join(done.stdout.split())
    unknown = memleak("verify", "before", "idle", folder=tmp_path)
    assert unknown.returncode == 3, unknown.stdout
    assert "it may not have been called as often" in " ".join(unknown.stdout.split())


def test_a_command_is_started_watched_and_stopped(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text("import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)\n")
    found = memleak("detect", "6", "0.2", "--", sys.executable, "server.py", folder=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "NO LEAK" in found.stdout
    import psutil

    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_process_that_ends_while_it_is_watched(tmp_path: Path) -> None:
    found = memleak("detect", "60", "0.2", "--", sys.executable, "-c", "import time; time.sleep(3)", folder=tmp_path)
    # As many readings as a busy machine leaves room for may be too few.
    assert found.returncode in (0, 3), found.stdout + found.stderr
    assert "the command exited with code 0" in " ".join(found.stdout.split())


def test_ctrl_c_ends_with_what_was_seen() -> None:
    with keeping(0) as process:
        command = [sys.executable, "-m", "pytest_memleak", "detect", "600", "0.1", "--pid", str(process.pid)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,  # noqa: PLW1509  (no lock)
        ) as watching:
            assert watching.stderr is not None
            watching.stderr.readline()
            time.sleep(1)
            watching.send_signal(signal.SIGINT)
            said, errors = watching.communicate(timeout=60)
    assert "Traceback" not in errors
    assert watching.returncode in (0, 3)
    assert "it was interrupted" in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--pid", "4194305"), "--pid: no process 4194305 runs here"),
        (("--pid", "1", "--port", "80"), "--pid and --port name the process twice: use one of them"),
        (("--pid", "1", "--", "sleep", "5"), "--pid and -- COMMAND name the process twice"),
        (("--",), "nothing stands behind --"),
        (("--", "no-such-program-anywhere"), "the command no-such-program-anywhere was not found"),
        (("10", "20"), "an interval of 20 s leaves no reading in 10 s"),
        (("soon",), "DURATION: expects a time such as 30m, 90s or 1h30m, got 'soon'"),
        (("60", "often"), "INTERVAL: expects a time"),
        (("--medium", "9"), "the thresholds have to rise from medium to critical, got 9, 5, 20"),
        (("--url", "shop"), "--url: expects http://HOST:PORT, got 'shop'"),
    ],
)
def test_what_it_refuses(arguments: Sequence[str], words: str) -> None:
    found = memleak("detect", *arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert words in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


def test_a_command_that_ends_at_once_shows_its_last_lines() -> None:
    found = memleak("detect", "--", sys.executable, "-c", "print('the port is taken'); raise SystemExit(3)")
    assert found.returncode == 2
    assert "exited with code 3 before it could be read twice; its last lines:\nthe port is taken" in found.stderr


def test_the_only_server_here_or_the_list(tmp_path: Path) -> None:
    program = tmp_path / "hypercorn"
    program.write_text("import time; print('up', flush=True); time.sleep(600)")
    servers = []
    try:
        for _ in range(2):
            servers.append(subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True))
            assert servers[-1].stdout is not None
            assert servers[-1].stdout.readline() == "up\n"
        found = memleak("detect", "5", "1")
        assert found.returncode == 2
        for server in servers:
            assert f"--pid {server.pid} " in found.stderr
    finally:
        for server in servers:
            server.kill()
            server.communicate()
