"""Programs that are inspected while they run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from waiting import until

from pytest_memleak.inspection import rights

LEAKING = """
    import time

    class Kept: ...

    KEPT = []
    def main():
        while True:
            KEPT.extend(Kept() for _ in range(20))
            time.sleep(0.02)
    main()
"""

STEADY = """
    import time

    while True:
        [object() for _ in range(100)]
        time.sleep(0.02)
"""

BLOCKED = """
    import threading, time

    class Kept: ...

    KEPT = []
    def work():
        while True:
            KEPT.extend(Kept() for _ in range(20))
            time.sleep(0.02)
    threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()
"""


@contextlib.contextmanager
def running(
    folder: Path, source: str, *, executable: str = sys.executable, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that runs; it is ready when it has made its first line of output."""
    path = folder / "program.py"
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    path.write_text(f"open({str(ready)!r}, 'w').close()\n{dedent(source)}", encoding="utf-8")
    process = subprocess.Popen(
        [executable, str(path)], env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL
    )
    try:
        until(ready.exists, "the start of the program")
        yield process
    finally:
        process.kill()
        process.wait()


def why_no_gdb() -> str:
    """Why this machine cannot run a test that attaches; empty where it can."""
    if sys.platform != "linux":
        return "the tests attach on Linux only"
    if shutil.which("gdb") is None:
        return "gdb is not installed"
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            done = subprocess.run(
                ["gdb", "-nx", "-batch", "-p", str(process.pid)], capture_output=True, text=True, check=False
            )
            refused = "not permitted" in done.stdout + done.stderr
            return rights.refusal(rights.facts_of(process.pid)) if refused else ""
        finally:
            process.kill()


NEEDS_GDB = pytest.mark.skipif(bool(_why := why_no_gdb()), reason=_why or "gdb may attach")
