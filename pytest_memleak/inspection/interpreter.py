"""The Python inside another process: which one it is, and where its functions are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_memleak.inspection import elf, rights
from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.slugs import see

ADD: Final = "Py_AddPendingCall"
MAKE: Final = "Py_MakePendingCalls"
RUN: Final = "PyRun_SimpleString"
CHECK: Final = "PyGILState_Check"
ENSURE: Final = "PyGILState_Ensure"
RELEASE: Final = "PyGILState_Release"
MMAP: Final = "mmap"
MUNMAP: Final = "munmap"

_PYTHON: Final = (ADD, MAKE, RUN, CHECK, ENSURE, RELEASE)
_LIBC: Final = (MMAP, MUNMAP)

_LINE: Final = re.compile(r"([0-9a-f]+)-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+\s+(/.*)")
_VERSION: Final = re.compile(r"(?:lib)?python3\.(\d+)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A file in a process's memory, and where its first byte is."""

    address: int
    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Addresses by function. `minor` is the 12 of 3.12, None where the files' names do not tell."""

    addresses: dict[str, int]
    minor: int | None


def minor_of(pid: int) -> int | None:
    """The 12 of 3.12, as the names of the mapped files tell; None where they do not."""
    found = [match for file in files_of(pid) if (match := _VERSION.search(file.path))]
    return int(found[0].group(1)) if found else None


def interpreter_of(pid: int) -> Interpreter:
    """Find CPython in a process. Raises InspectionError where there is none that can be used, Gone where it ended."""
    files = files_of(pid)
    python = _first(pid, files, _PYTHON)
    if python is None:
        if any("pypy" in Path(file.path).name.lower() for file in files):
            raise InspectionError(see("no-cpython", f"process {pid} runs PyPy; only CPython can be inspected"))
        if any(_VERSION.search(Path(file.path).name) for file in files):
            sentence = f"the Python of process {pid} does not export {RUN}: its symbols were stripped, dynamic ones too"
            raise InspectionError(see("no-cpython", sentence))
        sentence = f"process {pid} is no CPython process: none of its files exports {RUN}"
        raise InspectionError(see("no-cpython", sentence))
    libc = _first(pid, files, _LIBC)
    if libc is None:
        sentence = f"process {pid} has no C library that exports mmap: it is linked statically"
        raise InspectionError(see("no-cpython", sentence))
    return Interpreter(addresses={**python, **libc}, minor=minor_of(pid))


def files_of(pid: int) -> list[Mapped]:
    """The files that a process has mapped from their beginning. Raises Gone and InspectionError."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"process {pid} ended") from None
    except PermissionError:
        raise InspectionError(rights.refusal(rights.facts_of(pid))) from None
    return list(_mapped(text))


def _mapped(text: str) -> Iterator[Mapped]:
    seen = set()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match.group(3) not in seen and int(match.group(2), 16) == 0:
            seen.add(match.group(3))
            yield Mapped(address=int(match.group(1), 16), path=match.group(3))


def _first(pid: int, files: list[Mapped], names: tuple[str, ...]) -> dict[str, int] | None:
    """The addresses of functions that are all in one file."""
    # Those that are called so first: the others need not be opened.
    ordered = sorted(files, key=lambda file: not re.search(r"python|libc[.-]|musl", Path(file.path).name))
    for file in ordered:
        path = _readable(pid, file)
        try:
            found = elf.exported(path, names)
            if len(found) == len(names):
                start = 0 if elf.is_fixed(path) else file.address
                return {name: start + value for name, value in found.items()}
        except (OSError, elf.ElfError):
            continue
    return None


def _readable(pid: int, file: Mapped) -> Path:
    """The file as the process sees it; the executable also where it was replaced meanwhile."""
    executable = Path(f"/proc/{pid}/exe")
    try:
        if str(executable.readlink()) == file.path:
            return executable
    except OSError:
        pass
    return Path(f"/proc/{pid}/root{file.path}")
