"""`memleak analyze-logs` as users run it: real files, real pipes, exit codes, texts and JSON."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner
from watch_support import hear_ctrl_c

from pytest_memleak.cli import app

pytest.importorskip("scipy")


ENVIRONMENT = {**os.environ, "PYTHONUTF8": "1"}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def _runner() -> CliRunner:
    """One that keeps stderr apart; click before 8.2 has to be told."""
    try:
        return CliRunner(mix_stderr=False)  # type: ignore[call-arg]  # newer ones do not know it
    except TypeError:
        return CliRunner()


def memleak(*arguments: str, cwd: Path, data: bytes = b"", width: int = 80) -> Done:
    """Run the command in this process; another would import scipy each time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(cwd)
        patched.setenv("COLUMNS", str(width))
        # By its module: in the package the command's own name stands for the function.
        patched.setattr(sys.modules["pytest_memleak.cli.analyze_logs"], "_SLOWEST_S", 0.5)
        done = _runner().invoke(app, ["analyze-logs", *arguments], input=data)
    return Done(done.exit_code, done.stdout, done.stderr)


def gunicorn(*, leak_mb_per_min: float, minutes: int = 50, pids: tuple[int, ...] = (41, 42)) -> str:
    """The log of an app that writes its memory every half minute."""
    noise = random.Random(1)
    lines = []
    for at in range(2 * minutes):
        for pid in pids:
            stamp = f"[2026-01-01 {12 + at // 120}:{at // 2 % 60:02}:{at % 2 * 30:02} +0000] [{pid}]"
            lines.append(f"{stamp} [INFO] GET /items 200")
            level = 120 + leak_mb_per_min * at / 2 + noise.gauss(0, 0.5)
            lines.append(f"{stamp} [INFO] memory usage: {level:.1f} MB")
    return "\n".join(lines) + "\n"


def test_a_leak(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text(gunicorn(leak_mb_per_min=3))
    done = memleak("app.log", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("LEAK DETECTED in app.log, severity ")
    assert "  figures:       200 of text\n" in done.stdout
    assert "  pid 41 " in done.stdout
    assert "┤" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_no_leak_in_rotated_and_packed_files(tmp_path: Path) -> None:
    import gzip

    lines = gunicorn(leak_mb_per_min=0).splitlines(keepends=True)
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress("".join(lines[:100]).encode()))
    (tmp_path / "app.log.1").write_text("".join(lines[100:250]))
    (tmp_path / "app.log").write_text("".join(lines[250:]))
    done = memleak("app.log*", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert (done.returncode, result["version"], result["outcome"], result["name"]) == (0, 1, "CLEAN", "app.log")
    assert result["files"] == ["app.log.2.gz", "app.log.1", "app.log"]
    assert (result["lines"], result["figures"]) == (400, [["text", 200]])
    (series,) = result["series"]
    assert (series["readings"], series["lives"], series["is_timed"]) == (200, 2, True)
    assert all(one["times_s"] == sorted(one["times_s"]) for one in series["tracks"])


def test_too_little_is_inconclusive(tmp_path: Path) -> None:
    done = memleak("-", cwd=tmp_path, data=b"RSS: 100 MB\nRSS: 120 MB\n")
    assert done.returncode == 3
    assert done.stdout.startswith("INCONCLUSIVE in standard input\n")
    assert "there are no times in the log" in " ".join(done.stdout.split())


def test_without_times_the_interval_counts(tmp_path: Path) -> None:
    data = "".join(f"RSS: {100 + at / 2:.1f} MB\n" for at in range(100)).encode()
    assert memleak(cwd=tmp_path, data=data).returncode == 1
    slow = memleak("--interval", "3600", "--max-mb-per-min", "1", cwd=tmp_path, data=data)
    assert (slow.returncode, "count as 60 min 0 s apart" in " ".join(slow.stdout.split())) == (0, True)


def test_one_pod_of_three_leaks(tmp_path: Path) -> None:
    noise = random.Random(1)
    text = "".join(
        f"2026-01-01 12:{at:02}:00\nNAME   CPU(cores)   MEMORY(bytes)\n"
        + "".join(
            f"web-{pod}   1m   {200 + (4 * at if pod == 2 else 0) + noise.randint(-1, 1)}Mi\n" for pod in (1, 2, 3)
        )
        for at in range(60)
    )
    done = memleak("-", cwd=tmp_path, data=text.encode(), width=120)
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  web-") and line.count("MB") >= 2]
    assert [(row[0], row[-2:]) for row in rows] == [
        ("web-2", ["LEAK", "DETECTED"]), ("web-1", ["NO", "LEAK"]), ("web-3", ["NO", "LEAK"]),
    ]  # fmt: skip


def test_deaths_are_told_with_what_preceded(tmp_path: Path) -> None:
    text = gunicorn(leak_mb_per_min=3, pids=(41,))
    text += "[2026-01-01 12:50:00 +0000] [1] [ERROR] Worker (pid:41) was sent SIGKILL! Perhaps out of memory?\n"
    done = memleak("-", cwd=tmp_path, data=text.encode())
    words = " ".join(done.stdout.split())
    assert "1 death by want of memory 2026-01-01 12:50:00 +0000: worker (pid 41) killed, perhaps for memory" in words
    assert "before it pid 41 had 26" in words
    assert "over 49 min 30 s (100 readings); -:201" in words
    only = memleak(
        "-", cwd=tmp_path, data=b"Out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:500000kB\n"
    )
    assert (only.returncode, "with 512 MB resident; no figure of it before" in " ".join(only.stdout.split())) == (
        3,
        True,
    )


REFUSED = [
    (["none.log"], b"", "none.log: there is no such file"),
    (["*.log"], b"", "*.log: no file matches"),
    (["."], b"", ". is a directory"),
    (["-"], b"", "standard input is empty: nothing to judge"),
    (["-"], b"hello\n", "standard input: no figure of memory in 1 line: if they are there, tell how they look"),
    (["-"], b"rss=5\n", "but 1 without a unit and too small for bytes"),
    (["-"], b"\0\1\2", "standard input is no text (binary)"),
    (["-", "--pattern", "("], b"", "is no regular expression"),
    (["-", "--pattern", "x"], b"", "expects the named group (?P<memory>"),
    (["-", "--pattern", "(?P<memory>x)"], b"rss 5 MB\n", "that --pattern matches"),
    (["-", "--unit", "apples"], b"", "--unit: expects a unit of size"),
    (["-", "--interval", "-1"], b"", "--interval: expects seconds above 0"),
    (["-", "--max-mb-per-min", "nan"], b"", "--max-mb-per-min: expects a number"),
    (["-", "--pattern", "(?P<memory>(a+)+b)"], b"a" * 60 + b"\n", "--pattern was at work for more than 0.5 s"),
]


@pytest.mark.parametrize("arguments, data, words", REFUSED)
def test_refusals_are_one_sentence(arguments: list[str], data: bytes, words: str, tmp_path: Path) -> None:
    done = memleak(*arguments, cwd=tmp_path, data=data)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("memleak analyze-logs: ")
    assert words in done.stderr


def test_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text(gunicorn(leak_mb_per_min=3))
    command = [sys.executable, "-m", "pytest_memleak", "analyze-logs", "app.log"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout[:13]) == (1, b"", b"LEAK DETECTED")


def test_a_damaged_file_is_judged_as_far_as_it_goes(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "app.log.gz").write_bytes(gzip.compress(gunicorn(leak_mb_per_min=0, minutes=200).encode())[:-8])
    done = memleak("app.log.gz", cwd=tmp_path)
    assert done.returncode in (0, 3)
    assert "app.log.gz is damaged" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_judges_what_was_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_memleak", "analyze-logs", "-"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=ENVIRONMENT, preexec_fn=hear_ctrl_c) as process:  # fmt: skip  # noqa: PLW1509
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(gunicorn(leak_mb_per_min=3).encode() * 60)
        process.stdin.flush()
        time.sleep(3)  # the pipe is read by then, or the signal comes a little earlier
        process.send_signal(signal.SIGINT)
        out = process.stdout.read().decode()
        process.stdin.close()
        assert process.wait(60) in (0, 1, 3), out
    assert "stopped by Ctrl-C after" in out
