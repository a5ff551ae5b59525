"""What the benchmarks share: pytest in a process of its own, the wheel, virtual environments, tables."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent

OK, MISSED = 0, 1
"""Exit codes: the goal was reached, or it was not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished process: `results` is what `--memleak-json` wrote, empty when it wrote nothing."""

    code: int
    seconds: float
    output: str
    results: tuple[Mapping[str, Any], ...] = ()
    timed_out: bool = False

    def error(self) -> str:
        """The line that tells best why nothing was measured."""
        if self.timed_out:
            return f"killed after {self.seconds:.0f} s"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("E ", "FAILED", "ERROR", "Fatal", "INTERNALERROR>"))]
        return (told or lines or [f"exit code {self.code}"])[-1]

    def by_name(self) -> dict[str, Mapping[str, Any]]:
        """The results by the name of what was measured."""
        return {result["name"]: result for result in self.results}


def run_process(
    command: Sequence[str], *, folder: Path, limit_s: float, environ: Mapping[str, str] | None = None
) -> Run:
    """Run a command and its children for `limit_s` at the most; output and errors come together."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    timed_out = False
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        _kill_group(process)
        output, _ = process.communicate()
    except BaseException:
        _kill_group(process)
        raise
    return Run(code=process.returncode, seconds=time.perf_counter() - begun, output=output, timed_out=timed_out)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End a process with the children that it started; they share its session."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def run_pytest(
    test: str,
    *,
    python: str = sys.executable,
    arguments: Sequence[str] = ("--memleak",),
    folder: Path | None = None,
    limit_s: float = 300.0,
    environ: Mapping[str, str] | None = None,
) -> Run:
    """Run the source text `test` as a test file; `folder` keeps it and its results."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="memleak-bench-") as temporary:
            return run_pytest(
                test,
                python=python,
                arguments=arguments,
                folder=Path(temporary),
                limit_s=limit_s,
                environ=environ,
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "results.json"
    written.unlink(missing_ok=True)
    (folder / "test_measured.py").write_text(test, encoding="utf-8")
    # An ini file of its own keeps out whatever lies in a parent folder.
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    if "--memleak" in arguments:
        arguments = [*arguments, "--memleak-json", str(written)]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command = [python, "-m", "pytest", *options, *arguments, "test_measured.py"]
    run = run_process(command, folder=folder, limit_s=limit_s, environ=environ)
    (folder / "output.txt").write_text(run.output, encoding="utf-8")
    if not written.exists():
        return run
    return dataclasses.replace(run, results=tuple(json.loads(written.read_text(encoding="utf-8"))["results"]))


def keep_run(folder: Path | None, name: str, run: Run) -> None:
    """Keep the results and the output of a wrong run in `folder`; None keeps nothing."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"results": run.results}, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.txt").write_text(run.output, encoding="utf-8")


def add_keep(parser: argparse.ArgumentParser) -> None:
    """The option for `keep_run`."""
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep results and output of wrong measurements here"
    )


def find_python(version: str) -> str:
    """The interpreter for a version such as "3.11": this one, one on the PATH, or pyenv's newest.

    Raises SystemExit with what to do when there is none.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted(root.glob(f"versions/{version}.*/bin/python"), key=lambda path: _numbers(path.parent.parent.name))
    # pyenv's shims on the PATH fail for versions that are installed and not selected.
    found = str(kept[-1]) if kept else shutil.which(f"python{version}")
    if not found:
        raise SystemExit(f"no Python {version} found: install it, or put python{version} on the PATH")
    return found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def build_wheel(target: Path, revision: str | None = None) -> Path:
    """The wheel of this checkout, or of one of its revisions, built anew into `target`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="memleak-wheel-") as folder:
        source = CHECKOUT if revision is None else _checked_out(revision, Path(folder))
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--wheel-dir", str(target), str(source)], check=True)
    return next(target.glob("*.whl"))


def _checked_out(revision: str, folder: Path) -> Path:
    """The files of a revision in `folder`, whatever the checkout's own files are."""
    command = ["git", "-C", str(CHECKOUT), "archive", "--format=tar", "-o", str(folder / "files.tar"), revision]
    subprocess.run(command, check=True)
    shutil.unpack_archive(folder / "files.tar", folder / "files")
    return folder / "files"


def environment(folder: Path, *, version: str, requirements: Path, extra: Sequence[str], wheel: Path) -> str:
    """A virtual environment with pinned requirements, `extra` beside them and the wheel: its interpreter.

    Kept between runs; the requirements are installed again when they changed, the wheel when it did.
    """
    wanted = hashlib.sha256("\n".join([version, requirements.read_text(), *extra]).encode()).hexdigest()
    stamp, wheel_stamp = folder / "requirements.sha256", folder / "wheel.sha256"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([find_python(version), "-m", "venv", "--without-pip", str(folder)], check=True)
        _pip(python, "install", "-r", str(requirements), *extra, f"{wheel}[native]")
        stamp.write_text(wanted)
        wheel_stamp.write_text(_digest(wheel))
    elif wheel_stamp.read_text() != _digest(wheel):
        _pip(python, "install", "--no-deps", "--force-reinstall", str(wheel))
        wheel_stamp.write_text(_digest(wheel))
    return str(python)


def _pip(python: Path, *arguments: str) -> None:
    quiet = ("-q", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *quiet, "--python", str(python), *arguments], check=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns as wide as their widest cell."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
