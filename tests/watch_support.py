"""Real processes to watch: they hold, keep or drop memory as they are told, and end with the test."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import psutil

# Says "ready" once the first megabyte is there, then makes MB_PER_MIN more until it is killed; keeps it or does not.
_PROGRAM = """
import multiprocessing, sys, time
rate, children, does = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def work(rate):
    kept, made, started = [bytearray(b"x") * 1_000_000], 0, time.monotonic()
    while does == "idle":
        time.sleep(600)
    while True:
        while made * 20_000 < rate * 1e6 / 60 * (time.monotonic() - started):
            made += 1
            kept.append(bytearray(b"x") * 20_000)
            sum(kept[-1])  # the work itself, which costs more than fresh memory does
            if does == "drop":
                kept.pop()
        time.sleep(0.02)
if __name__ == "__main__":
    for _ in range(children):
        multiprocessing.get_context("fork").Process(target=work, args=(rate,), daemon=True).start()
    print("ready", flush=True)
    work(0 if children else rate)
"""


@contextlib.contextmanager
def keeping(
    mb_per_min: float, children: int = 0, mark: str = "", *, does: Literal["keep", "drop", "idle"] = "keep"
) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps so much more each minute, or whose children do; `mark` is a word of its command line.

    One that drops makes as much, and keeps nothing of it.
    """
    command = [sys.executable, "-c", _PROGRAM, str(mb_per_min), str(children), does, mark]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        members = psutil.Process(process.pid).children(recursive=True)
        try:
            yield process
        finally:
            process.kill()
            for member in members:
                with contextlib.suppress(psutil.Error):
                    member.kill()


def hear_ctrl_c() -> None:
    """For a child: a shell's background jobs ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
