"""`memleak track-objects` on processes that live, and go on living."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from inspection_support import BLOCKED, LEAKING, NEEDS_GDB, STEADY, running
from soak_support import Running, memleak
from waiting import until

from pytest_memleak.inspection import gdb, injected
from pytest_memleak.inspection.errors import Gone, InspectionError

QUICK = ("--interval", "1", "--samples", "2")
COUNT = {"what": "count", "most": 2_000_000, "mark": [], "most_marks": 10}


def track(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return memleak(folder, "track-objects", *arguments)


@NEEDS_GDB
def test_a_type_that_accumulates_is_named_with_its_holder(tmp_path: Path) -> None:
    with running(tmp_path, LEAKING) as process:
        done = track(tmp_path, "--pid", str(process.pid), *QUICK)
        assert process.poll() is None
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"LEAK DETECTED in {process.pid} (")
    assert "type  " in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("  __main__.Kept"))
    assert row.endswith("LEAK")
    assert "by __main__.KEPT (list) → __main__.Kept" in done.stdout
    assert "at most while gdb was attached" in done.stdout


@NEEDS_GDB
def test_a_process_that_keeps_nothing_is_clean_and_json_has_it_all(tmp_path: Path) -> None:
    with running(tmp_path, STEADY) as process:
        done = track(tmp_path, "--pid", str(process.pid), *QUICK, "--json")
        assert process.poll() is None
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (result["version"], result["outcome"], result["way"]) == (1, "CLEAN", "gdb")
    assert len(result["pauses_s"]) == len(result["times_s"]) == 3
    assert result["pauses_s"][0] > 0


@NEEDS_GDB
def test_a_main_thread_that_waits_in_the_kernel_is_read_too(tmp_path: Path) -> None:
    with running(tmp_path, BLOCKED) as process, gdb.Gdb(process.pid) as inside:
        counts = [inside.ask(COUNT)["counts"]["__main__.Kept"] for _ in range(2)]
        assert process.poll() is None
    assert 0 < counts[0] < counts[1]


@NEEDS_GDB
def test_nothing_stays_in_the_process(tmp_path: Path) -> None:
    def seen() -> tuple[int, int, int]:
        process = psutil.Process(target.pid)
        maps = Path(f"/proc/{target.pid}/maps").read_text().splitlines()
        anonymous = sum(len(line.split()) == 5 and line.split()[4] == "0" for line in maps)
        return process.num_threads(), process.num_fds(), anonymous

    with running(tmp_path, STEADY) as target:
        with gdb.Gdb(target.pid) as inside:
            inside.ask(COUNT)  # the heap grows by what a count needs, once
        before = seen()
        with gdb.Gdb(target.pid) as inside:
            folder = inside._box.folder
            assert folder.stat().st_mode & 0o077 == 0
            inside.ask(COUNT)
            inside.ask(COUNT)
        assert not folder.exists()
        assert seen()[:2] == before[:2]
        assert abs(seen()[2] - before[2]) <= 1
        assert psutil.Process(target.pid).status() != psutil.STATUS_TRACING_STOP


@NEEDS_GDB
def test_ctrl_c_lets_go_of_the_process_and_judges_what_was_seen(tmp_path: Path) -> None:
    with running(tmp_path, LEAKING) as process:
        arguments = ("track-objects", "--pid", str(process.pid), "--interval", "60")
        with Running(tmp_path, *arguments) as inspecting:
            until(lambda: "of 3:00" in inspecting._said[1].read_text(), "the first reading")
            inspecting.process.send_signal(signal.SIGINT)
            done = inspecting.end()
        assert process.poll() is None
        assert psutil.Process(process.pid).status() != psutil.STATUS_TRACING_STOP
    assert done.returncode == 3, done.stderr
    assert "INCONCLUSIVE" in done.stdout
    assert "it was interrupted" in done.stdout


@NEEDS_GDB
def test_ctrl_c_while_gdb_is_attached_waits_until_it_has_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, STEADY) as process, gdb.Gdb(process.pid) as inside:
        real = Path.read_text
        sent: list[bool] = []

        def interrupting(path: Path, *arguments: str, **options: str) -> str:
            text = real(path, *arguments, **options)
            if path.name == "output" and "memleak: before" in text and not sent:
                sent.append(True)
                raise KeyboardInterrupt
            return text

        monkeypatch.setattr(Path, "read_text", interrupting)
        with pytest.raises(KeyboardInterrupt):
            inside.ask(COUNT)
        monkeypatch.undo()
        assert inside.attached_s
        assert inside.ask(COUNT)["pid"] == process.pid
        assert process.poll() is None


@NEEDS_GDB
def test_a_process_that_ends_meanwhile_is_judged_by_what_was_seen(tmp_path: Path) -> None:
    with (
        running(tmp_path, LEAKING) as process,
        Running(tmp_path, "track-objects", "--pid", str(process.pid), "--interval", "2") as inspecting,
    ):
        until(lambda: "of 0:06" in inspecting._said[1].read_text(), "the first reading")
        process.kill()
        process.wait()
        done = inspecting.end()
    assert done.returncode == 3, done.stdout
    assert f"process {process.pid} ended" in done.stdout


@NEEDS_GDB
def test_who_is_traced_already_says_by_whom(tmp_path: Path) -> None:
    script = tmp_path / "hold"
    with running(tmp_path, STEADY) as process:
        script.write_text(f"attach {process.pid}\nshell touch {tmp_path}/held; sleep 60\n")
        with subprocess.Popen(
            ["gdb", "-nx", "-batch", "-x", str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as other:
            try:
                until((tmp_path / "held").exists, "the other debugger")
                done = track(tmp_path, "--pid", str(process.pid), *QUICK)
            finally:
                other.terminate()
                for child in psutil.Process(other.pid).children():
                    child.kill()
    assert done.returncode == 2
    assert f"process {other.pid} (gdb) traces it already" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_no_python_says_so(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        done = track(tmp_path, "--pid", str(process.pid), *QUICK)
        process.kill()
    assert done.returncode == 2
    # Without gdb that is what is missing first.
    assert f"process {process.pid} is no CPython process" in done.stderr or "not installed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--pid", "1", "--port", "80"), "--pid and --port name the process twice"),
        (("--pid", "-4"), "expects the id of a process"),
        (("--port", "99999"), "expects a port"),
        (("--url", "localhost:80"), "expects http://HOST:PORT"),
        (("--url", "http://127.0.0.1:9"), "does not answer"),
        (("--pid", "1", "--interval", "0.1"), "--interval: expects at least 0.5 seconds"),
        (("--pid", "1", "--interval", "soon"), "--interval: expects a time"),
        (("--pid", "1", "--samples", "1"), "--samples: expects 2 to 1000"),
        (("--pid", "1", "--top", "0"), "--top: expects at least 1"),
        (("--pid", "1", "--max-objects", "5"), "--max-objects: expects at least 1000"),
        (("--", "no-such-command"), "did not start"),
        (("--",), "nothing stands behind --"),
        (("--interval", "30", "--", sys.executable, "-c", "print('bye')"), "exited with code 0"),
        (("--interval", "1", "--", "sleep", "60"), "runs no Python that could be entered"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = track(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_gdb_the_message_has_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InspectionError, match="gdb, which is not installed: `"):
        gdb.Gdb(os.getpid())


def test_a_process_that_is_gone_is_gone() -> None:
    with pytest.raises(Gone, match="ended"):
        injected.LetterBox(2**22 + 1)


def test_a_started_command_is_read_without_a_debugger(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LEAKING.replace("\n    ", "\n"))
    arguments = (*QUICK, "--json", "--", sys.executable, str(program))
    done = track(tmp_path, *arguments)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    kept = next(one for one in result["types"] if one["name"] == "__main__.Kept")
    assert kept["leaks"]
    assert kept["held"]["path"] == ["__main__.KEPT (list)", "__main__.Kept"]
    assert result["attached_s"] == []


def test_the_worker_of_a_started_command_is_read_not_its_master(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time\nclass Kept: ...\nKEPT = []\nif os.fork() == 0:\n    weight = bytearray(30_000_000)\n"
        "    while True:\n        KEPT.extend(Kept() for _ in range(20))\n        time.sleep(0.02)\nos.wait()\n"
    )
    done = track(tmp_path, *QUICK, "--", sys.executable, "-W", "ignore", str(program))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "__main__.Kept" in done.stdout


@contextlib.contextmanager
def monitor(answers: list[tuple[int, object]]) -> Iterator[str]:
    """A stub of the monitor that gives its answers in turn, the last one for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/debug/memory/growth?samples=0&types=10000"
            code, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def counts(items: int, pid: int = 7) -> tuple[int, object]:
    return 200, {"types": [{"type": "shop.Item", "count": items}, {"type": "dict", "count": 900}], "pid": pid}


def test_a_monitor_is_read_over_http_and_one_worker_is_stayed_with(tmp_path: Path) -> None:
    with monitor([counts(10), counts(5, 8), counts(60), counts(5, 8), counts(110)]) as url:
        done = track(tmp_path, "--url", url, *QUICK)
    assert done.returncode == 1, done.stderr
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("  shop.Item"))
    assert row == ["shop.Item", "110", "10", "+100", "+1000.0", "LEAK"]
    assert "the monitor tells no holders" in done.stdout


@pytest.mark.parametrize(
    "answer, words",
    [
        ((401, {}), "refuses strangers"),
        ((404, {}), "setup_memory_monitoring"),
        ((200, {"types": 3}), "gave no counts"),
        ((200, b"<html>"), "gave no counts"),
    ],
)
def test_a_monitor_that_refuses_is_one_sentence(tmp_path: Path, answer: tuple[int, object], words: str) -> None:
    with monitor([answer]) as url:
        done = track(tmp_path, "--url", url, *QUICK)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
