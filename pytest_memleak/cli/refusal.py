"""How every command refuses: one sentence on stderr, an exit code, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer

from pytest_memleak.slugs import see

CLEAN: Final = 0
LEAK: Final = 1
USAGE: Final = 2
INCONCLUSIVE: Final = 3
FAILED: Final = 4


def say(text: str) -> None:
    """Print a report; a reader who has gone (`| head`) changes no exit code, which is the verdict's."""
    try:
        typer.echo(_printable(text))
    except BrokenPipeError:
        # Else the interpreter tries again at its end, and fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(text: str) -> str:
    """What the terminal's encoding can show: a file's name may have bytes that no encoding has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def refuse(command: str, reason: str) -> NoReturn:
    """Say why a command cannot do what was asked, and leave."""
    _leave(command, reason, USAGE)


def fail(command: str, reason: str) -> NoReturn:
    """Say what failed of what was asked rightly, and leave."""
    _leave(command, reason, FAILED)


def _leave(command: str, reason: str, code: int) -> NoReturn:
    typer.secho(f"memleak {command}: {reason}", err=True, fg="red")
    raise typer.Exit(code)


def need_soak(command: str) -> None:
    """Refuse when what judges a soak is not installed."""
    _need(command, ("numpy", "scipy", "cattrs"), "locust")


def need_watch(command: str, *others: str) -> None:
    """Refuse when what judges a trend, or another module that the command needs, is not installed."""
    _need(command, ("numpy", "scipy", *others), "watch")


def _need(command: str, modules: Sequence[str], extra: str) -> None:
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        install = f"python -m pip install 'pytest-memleak[{extra}]'"
        refuse(command, see("missing-extra", f"needs {' and '.join(missing)}: {install}"))
