"""Schemathesis over the monitor's OpenAPI document, at a real uvicorn: what the document allows, and what not.

It makes requests from the document (each parameter at its bounds, beyond them, of a wrong type, missing, and at
random), and holds every answer against it: status, content type, headers and body.

It is not among what the tests need: `python -m pip install schemathesis`, in an environment of its own too (`--st`).

Goal: no server error, no answer that the document does not have, no order taken that it forbids.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from pytest_runs import MISSED, OK, say

ROOT: Final = Path(__file__).parent.parent

_APP: Final = """\
from fastapi import FastAPI
from pytest_memleak.monitor import setup_memory_monitoring

app = FastAPI()
setup_memory_monitoring(app, token="secret", interval_s=0.2)
"""

_PATIENCE_S: Final = 60.0


def run(st: str, examples: int, seed: int) -> int:
    """Serve an app of nothing but the monitor, and let `st` ask it; gives its exit code."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        Path(folder, "app.py").write_text(_APP, encoding="utf-8")
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--log-level=error", f"--port={port}"],
            cwd=folder, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        try:
            _wait_for(port)
            command = [
                st, "run", f"http://127.0.0.1:{port}/openapi.json", "--header", "Authorization: Bearer secret",
                "--max-examples", str(examples), "--seed", str(seed),
            ]  # fmt: skip
            return subprocess.run(command, cwd=folder, check=False).returncode
        finally:
            server.terminate()
            server.wait(_PATIENCE_S)


def _wait_for(port: int) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server at port {port}")


def main() -> int:
    """Run it as its options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="random requests to each endpoint, of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of what is random")
    parser.add_argument("--st", default=shutil.which("st"), help="the program of Schemathesis, if it is not on PATH")
    options = parser.parse_args()
    if not options.st:
        parser.error("no program `st`: python -m pip install schemathesis, or give --st PATH")
    code = run(options.st, options.examples, options.seed)
    say("no server error, and every answer as documented" if code == 0 else f"st ended with exit code {code}")
    return OK if code == 0 else MISSED


if __name__ == "__main__":
    sys.exit(main())
