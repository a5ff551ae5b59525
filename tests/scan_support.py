"""What the tests of `memleak scan-code` share: two files, and the command in their folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from typer.testing import CliRunner

from pytest_memleak.cli import app
from pytest_memleak.model_scan import Confidence, Driver, Finding, Severity

LEAKY = """\
SEEN = []


def load(path):
    f = open(path)
    return f.read()
"""
CLEAN = "def load(path):\n    with open(path) as f:\n        return f.read()\n"


class Ended(NamedTuple):
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


Scan: TypeAlias = Callable[..., Ended]


def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """The command in a folder with one leaking file."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    (folder / "app.py").write_text(LEAKY, encoding="utf-8")
    # Click below 8.2 mixes stderr into stdout unless told not to, later ones cannot be told.
    apart: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}

    def run(*arguments: str) -> Ended:
        ended = CliRunner(**apart).invoke(app, ["scan-code", *arguments])
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    return run


def finding(source: str, line: int, pattern: str = "file_handle", code: str = "MLK008", holder: str = "") -> Finding:
    """What a scan would say of a line of `app.py`."""
    text = source.splitlines()[line - 1]
    return Finding(
        code=code,
        pattern=pattern,
        path="app.py",
        line=line,
        column=text.find("open(") + 1,
        end_line=line,
        severity=Severity.MEDIUM,
        confidence=Confidence.HIGH,
        driver=Driver.CALL,
        message="",
        source=text.strip(),
        fix="",
        holder=holder,
    )
