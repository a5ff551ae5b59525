"""How fast `memleak analyze-logs` reads a log, beside `grep -E` with an equal pattern, and how much memory it takes.

The log is one of an app under gunicorn: one line of a hundred tells its memory. It is read by the command itself, in a
process of its own; the seconds are the processor's, of all its threads, without those of starting it (measured on a
log of one line), and with the judgement. grep counts the same lines in the C locale, where it is fastest.

plain   text, as it is                       json    JSON lines
own     text, by a --pattern of one's own    gzip    text, packed

Goal: 150 MB/s of plain text on one core, and at most 300 MB of memory for whatever size.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pytest_runs import MISSED, OK, say, table

_GOAL: Final = 150.0
_PEAK_MB: Final = 300.0
_ONE_OF: Final = 100
_WORDS: Final = "mem|Mem|MEM|rss|Rss|RSS|oom|OOM"
_OWN: Final = r"RSS: (?P<memory>[\d.]+) (?P<unit>MB)"
_FORMS: Final = ("plain", "json", "own", "gzip")


class _Timed(NamedTuple):
    seconds: float
    """Of the processor."""

    peak_mb: float
    code: int


def _lines(number: int, form: str, noise: random.Random) -> Iterator[str]:
    """Twenty lines a second, of four workers."""
    for at in range(number, number + 10_000):
        second = at // 20
        clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
        stamp = f"2026-01-{1 + second // 86400 % 28:02} {clock}"
        pid, rss = 1200 + at // _ONE_OF % 4, 200 + noise.gauss(0, 1)
        tells = at % _ONE_OF == _ONE_OF // 2
        if form == "json":
            told = f'"memory": {{"rss": {rss * 1e6:.0f}}}' if tells else f'"path": "/api/items/{at}", "status": 200'
            yield f'{{"time": "{stamp}", "level": "INFO", "logger": "shop.access", "pid": {pid}, {told}}}\n'
        elif tells:
            yield f"{stamp},{at % 20 * 50:03} INFO [{pid}] shop.monitor: RSS: {rss:.1f} MB after {at} requests\n"
        else:
            path = noise.choice(("items", "orders", "users/profile", "static/app.js"))
            client = f"10.0.{at % 255}.{at % 253}:{40000 + at % 20000}"
            yield (
                f"{stamp},{at % 20 * 50:03} INFO [{pid}] uvicorn.access: {client}"
                f' - "GET /api/{path}/{at * 7919 % 100_000} HTTP/1.1" 200 OK in {noise.random() * 90:.1f} ms\n'
            )


def _write(folder: Path, megabytes: float, form: str) -> tuple[Path, int]:
    """The log of a form, of about so many MB, and its bytes unpacked. The forms of text have one log."""
    kind = "json" if form == "json" else "text"
    path = folder / f"app-{kind}.log"
    if not path.exists():
        noise = random.Random(1)
        with path.open("wb") as file:
            for number in itertools.count(0, 10_000):
                file.write("".join(_lines(number, kind, noise)).encode())
                if file.tell() >= megabytes * 1e6:
                    break
    if form != "gzip":
        return path, path.stat().st_size
    packed = path.with_suffix(".log.gz")
    with path.open("rb") as file, gzip.open(packed, "wb", 1) as target:
        shutil.copyfileobj(file, target)
    return packed, path.stat().st_size


def _run(command: Sequence[str], environment: dict[str, str]) -> _Timed:
    """A process' time of the processor, the most memory that it had, and its exit code."""
    # Not /dev/null: grep sees that, and stops at the first line that it finds.
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return _Timed(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6, process.returncode)


def _best(command: Sequence[str], environment: dict[str, str], runs: int) -> _Timed:
    """The fastest of several runs: what else the machine does only adds."""
    return min(_run(command, environment) for _ in range(runs))


def main() -> int:
    """Measure, and say whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200.0, help="how large each log is (default: 200)")
    parser.add_argument("--runs", type=int, default=3, help="the fastest of so many counts (default: 3)")
    parser.add_argument("--only", choices=_FORMS, nargs="+", default=_FORMS)
    options = parser.parse_args()
    environment = {**os.environ, "LC_ALL": "C", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ours = [sys.executable, "-m", "pytest_memleak", "analyze-logs"]
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one.log")
        one.write_text("".join(list(_lines(0, "text", random.Random(1)))[:200]))
        start = _best([*ours, str(one)], environment, options.runs).seconds
        for form in options.only:
            path, size_bytes = _write(Path(folder), options.megabytes, form)
            size = size_bytes / 1e6
            own = ["--pattern", _OWN] if form == "own" else []
            timed = _best([*ours, *own, str(path)], environment, options.runs)
            speed = size / max(timed.seconds - start, 1e-3)
            grep = _grep(path, form, environment, options.runs)
            beside = ("-", "-")
            if grep is not None:
                beside = f"{size / max(grep, 1e-3):.0f}", f"{max(timed.seconds - start, 0) / max(grep, 1e-3):.1f}"
            rows.append((form, f"{timed.seconds:.2f}", f"{speed:.0f}", f"{timed.peak_mb:.0f}", *beside))
            if timed.code not in (0, 1, 3):
                missed.append(f"{form}: exit code {timed.code}")
            if form == "plain" and speed < _GOAL:
                missed.append(f"plain: {speed:.0f} MB/s, goal {_GOAL:.0f}")
            if timed.peak_mb > _PEAK_MB:
                missed.append(f"{form}: {timed.peak_mb:.0f} MB of memory, goal {_PEAK_MB:.0f}")
    say(f"starting takes {start:.2f} s, which the speeds leave out")
    say(table(("log", "s", "MB/s", "peak MB", "grep -E MB/s", "times grep's time"), rows))
    say("; ".join(missed) or "every goal was met")
    return MISSED if missed else OK


def _grep(path: Path, form: str, environment: dict[str, str], runs: int) -> float | None:
    """The seconds that grep takes to find the same lines; None where there is none, or the log is packed."""
    if form == "gzip" or shutil.which("grep") is None:
        return None
    words = r"RSS: [0-9.]+ MB" if form == "own" else _WORDS
    return _best(["grep", "-c", "-E", words, str(path)], environment, runs).seconds


if __name__ == "__main__":
    raise SystemExit(main())
