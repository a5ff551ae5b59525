"""The dashboard: its screen at several sizes, its keys in a real terminal, its lines in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from watch_support import keeping

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Severity, TrackVerdict
from pytest_memleak.reports import dashboard_text
from pytest_memleak.reports.chart import bars
from pytest_memleak.watch.panel import Panel
from pytest_memleak.watch.sampling import Reading, Snapshot

MB = 1_000_000
VERDICT = TrackVerdict(
    name="shop",
    outcome=Outcome.LEAK,
    severity=Severity.HIGH,
    rate=Estimate(value=6.0, low=5.5, high=6.5),
    gained=20.0 * MB,
    shape="linear",
    why="grew",
)


def reading(pid: int, rss: float) -> Reading:
    return Reading(
        pid=pid, created_s=1.0, name="python3.12 -m uvicorn", rss=int(rss), vms=int(3 * rss), threads=4, fds=12
    )


def panel(steps: int = 60, processes: int = 4) -> Panel:
    """Process 101 grows by 1 MB a second, the others do not."""
    found = Panel(total_bytes=8_000 * MB)
    for step in range(steps):
        readings = [reading(100 + at, 100 * MB + (step * MB if at == 1 else 0)) for at in range(processes)]
        found.add(Snapshot(t=float(step), readings=tuple(readings)))
    found.verdict = VERDICT if steps > 1 else None
    return found


def screen(found: Panel, **values: object) -> dashboard_text.Screen:
    given: dict[str, object] = {
        "target": "100 (python3.12 -m uvicorn shop.main:app --workers 4 --host 0.0.0.0 --port 8000)",
        "elapsed": "1:00 of 10:00",
        "rows": found.rows(300),
        "processes": found.processes(),
        "verdict": found.verdict,
        "clock_s": 0.0,
        "chosen": found.chosen,
    }
    return dashboard_text.Screen(**{**given, **values})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("width, height", [(80, 24), (200, 50), (40, 10), (120, 30)])
@pytest.mark.parametrize("steps, processes", [(1, 1), (60, 1), (60, 4), (5, 100)])
def test_the_screen_fills_the_terminal_and_no_more(width: int, height: int, steps: int, processes: int) -> None:
    lines = dashboard_text.lines(screen(panel(steps, processes)), width=width, height=height)
    assert len(lines) == height
    assert max(len(line.text) for line in lines) <= width
    assert lines[-1].text.startswith("p pause")


def texts(found: Panel, width: int = 80, height: int = 24, **values: object) -> list[str]:
    return [line.text for line in dashboard_text.lines(screen(found, **values), width=width, height=height)]


def test_what_80_columns_show() -> None:
    lines = texts(panel())
    assert lines[0].startswith("memleak · 100 (python3.12 -m uvicorn")
    assert lines[0].endswith(" 1:00 of 10:00")
    assert lines[1] == "RSS 459.0 MB   VMS 1,377.0 MB   5.7 % of memory   16 threads   48 fds"
    assert lines[2] == "slope 6 MB/min [5.5, 6.5] (99 %) · LEAK DETECTED, severity high"
    assert re.fullmatch(r"[▁▂▃▄▅▆▇█]{60}", lines[3])
    assert re.fullmatch(r"  \S+ +459\.0 +\+1\.0 ▲ +1,377\.0 +5\.7 +16 +48", lines[-8])
    assert re.match(r"  101 python3.12 -m uvico… +159\.0 ▲ ▁", lines[-5])
    assert re.match(r"  10\d python3.12 -m uvico… +100\.0   ▁▁▁", lines[-4])


def test_before_there_is_anything_to_show() -> None:
    lines = texts(Panel(total_bytes=1))
    assert len(lines) == 24
    one = texts(panel(1, 1))
    assert "slope: not known yet" in one
    assert "▲" not in "".join(one)


def test_one_process_is_looked_at_after_the_other() -> None:
    found = panel()
    seen = []
    for _ in range(6):
        seen.append(found.chosen)
        found.choose_next()
    assert seen == [0, 100, 101, 102, 103, 0]
    found.chosen = 101
    lines = texts(found, paused=True)
    assert lines[0].startswith("memleak · process 101 of 100")
    assert " paused · " in lines[0]
    assert lines[1].startswith("RSS 159.0 MB")
    assert any(line.startswith("> 101") for line in lines)


def test_a_process_that_ends_gives_way_to_the_tree() -> None:
    found = panel()
    found.chosen = 103
    found.add(Snapshot(t=99.0, readings=(reading(100, MB),)))
    assert found.chosen == 0
    assert [row.pid for row in found.processes()] == [100]


@pytest.mark.parametrize(
    "levels, room, text",
    [([], 9, ""), ([1], 9, ""), ([1, 2], 9, "▁█"), ([5, 5, 5], 9, "▁▁▁"), (range(99), 8, "▁▂▃▄▅▆▇█")],
)
def test_bars(levels: Sequence[float], room: int, text: str) -> None:
    assert bars(levels, room) == text


pytest.importorskip("scipy")


def test_a_pipe_gets_a_line_for_each_reading_and_the_report() -> None:
    with keeping(0) as process:
        command = [sys.executable, "-m", "pytest_memleak", "dashboard", "1", "0.2", "--pid", str(process.pid)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == dashboard_text.heading()
    assert sum(bool(re.match(r"  \d\d:\d\d:\d\d ", line)) for line in lines) == 6
    assert "\x1b" not in ended.stdout
    assert "  verdict:" in ended.stdout


class Terminal:
    """A terminal of a size, with the dashboard in it."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest_memleak", "dashboard", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
            env={**environment, "TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(ours, False)
        self._file = ours
        self.text = ""

    def until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, self.text[-3000:]
            with contextlib.suppress(BlockingIOError, OSError):
                self.text += os.read(self._file, 65536).decode(errors="replace")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        self.text = ""
        os.write(self._file, key.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._file)


def test_the_keys_in_a_real_terminal(tmp_path: Path) -> None:
    with keeping(0, children=2) as process:
        terminal = Terminal(["600", "0.2", "--pid", str(process.pid)], tmp_path)
        try:
            terminal.until(lambda: "p pause" in terminal.text)
            terminal.press("n")
            terminal.until(lambda: f"process {process.pid} of" in terminal.text)
            terminal.press("p")
            terminal.until(lambda: "paused" in terminal.text)
            terminal.press("s")
            terminal.until(lambda: "recorded in memleak-watch-" in terminal.text)
            terminal.press("q")
            terminal.until(lambda: terminal.process.poll() is not None and "verdict:" in terminal.text)
        finally:
            terminal.close()
    assert terminal.process.returncode == 0
    (folder,) = tmp_path.glob("memleak-watch-*")
    lines = [json.loads(text) for text in (folder / "readings.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"tree"}
    report = [sys.executable, "-m", "pytest_memleak", "report", str(folder)]
    ended = subprocess.run(report, capture_output=True, text=True, check=False, timeout=60)
    assert "It ended after" in ended.stdout, ended.stderr
