"""The command and the environment of Locust, which drives the load of a soak in a process of its own.

Neither Locust nor gevent is ever imported here: gevent replaces the standard library's sockets and threads.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pytest_memleak.slugs import see

OPENAPI_LOAD: Final = Path(__file__).with_name("openapi_load.py")
LOAD_REPORTER: Final = Path(__file__).with_name("load_reporter.py")

STOP_TIMEOUT_S: Final = 3
"""How long the requests that run at the end may take to end: cut off, they would leave the server a volley of
disconnects to digest just when it is to come to rest. A request that waits for longer is waiting for something."""

MIX_PERIOD_S: Final = 4.0
"""How long a mix lasts: a few of the harness's readings, and fifteen mixes in a minute."""

CHANNEL: Final = "MEMLEAK_LOAD_CHANNEL"
KEY: Final = "MEMLEAK_LOAD_KEY"
ROLE: Final = "MEMLEAK_LOAD_ROLE"
OPENAPI: Final = "MEMLEAK_OPENAPI"
WAIT_S: Final = "MEMLEAK_WAIT_S"
INCLUDE: Final = "MEMLEAK_INCLUDE"
EXCLUDE: Final = "MEMLEAK_EXCLUDE"
HEADERS: Final = "MEMLEAK_HEADERS"
MIX_PERIOD: Final = "MEMLEAK_MIX_PERIOD_S"
MIX_SEED: Final = "MEMLEAK_MIX_SEED"


class LoadError(ValueError):
    """The load cannot be started; the message is one sentence."""


def check_locustfile(path: Path | None) -> None:
    """Raise LoadError if Locust is not installed, or could not load the file; None checks Locust alone."""
    if importlib.util.find_spec("locust") is None:
        install = "python -m pip install 'pytest-memleak[locust]'"
        raise LoadError(see("missing-extra", f"locust is not installed: {install}"))
    if path is None:
        return
    if not path.is_file():
        raise LoadError(f"The locustfile {path} {'is a directory' if path.is_dir() else 'does not exist'}.")
    if path.suffix != ".py":
        raise LoadError(f"Locust loads files that end in .py, and the locustfile is {path}.")
    if "," in str(path.resolve()):
        raise LoadError(f"Locust splits the names of locustfiles at commas, and there is one in {path.resolve()}.")


def load_command(
    *,
    host: str,
    users: int,
    spawn_rate: float,
    duration_s: float | None,
    locustfile: Path | None,
    openapi: Path | None,
    processes: int,
    master_host: str | None,
    master_port: int,
    extra: Sequence[str] = (),
) -> list[str]:
    """The whole command that runs the load: of the locustfile, or else of the OpenAPI document.

    With a `master_host` it joins the run of a master there, whose users, rate and duration hold; else it is a run
    of its own, and several `processes` meet at `master_port` of this machine. `extra` comes last, so it wins.
    Raises LoadError unless one of `locustfile` and `openapi` is given.
    """
    if (locustfile is None) == (openapi is None):
        raise LoadError("The load comes of a locustfile or of an OpenAPI document: give one of them.")
    files = (locustfile.resolve() if locustfile else OPENAPI_LOAD, LOAD_REPORTER)
    command = [sys.executable, "-m", "locust", "-f", ",".join(map(str, files)), "--host", host]
    if processes > 1:
        command += ["--processes", str(processes)]
    if master_host is not None:
        command += ["--worker", "--master-host", master_host, "--master-port", str(master_port)]
    else:
        command += ["--headless", "--only-summary", "--exit-code-on-error", "0"]
        command += ["--stop-timeout", str(STOP_TIMEOUT_S), "-u", str(users), "-r", f"{spawn_rate:g}"]
        if duration_s is not None:
            command += ["-t", f"{math.ceil(duration_s)}s"]
        if processes > 1:
            # Whoever reaches a master's port can take part in the run: only this machine may, unless `extra` says so.
            command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(master_port)]
            command += ["--master-port", str(master_port)]
    return [*command, *extra]


def load_environment(
    *,
    channel: str | None = None,
    key: bytes = b"",
    openapi: Path | None = None,
    wait_s: float = 0.0,
    include: str | None = None,
    exclude: str | None = None,
    headers: Mapping[str, str] | None = None,
    mix_period_s: float = MIX_PERIOD_S,
    mix_seed: int = 0,
    master_host: str | None = None,
) -> dict[str, str]:
    """The variables that `openapi_load` and `load_reporter` read, to be added to the environment of the command.

    `channel` is the path of a `multiprocessing.connection.Listener` whose authkey is `key`; without it nothing is
    reported. With a `master_host` the processes report what they did themselves, as the master is elsewhere.
    `headers` go with each request of a generated load, and operations that need credentials are then called too.
    """
    told = {
        CHANNEL: channel,
        KEY: key.hex() if channel else None,
        ROLE: "worker" if master_host is not None else None,
        OPENAPI: str(openapi.resolve()) if openapi else None,
        WAIT_S: f"{wait_s:g}",
        INCLUDE: include,
        EXCLUDE: exclude,
        HEADERS: json.dumps(dict(headers)) if headers else None,
        MIX_PERIOD: f"{mix_period_s:g}",
        MIX_SEED: str(mix_seed),
    }
    return {name: value for name, value in told.items() if value is not None}
