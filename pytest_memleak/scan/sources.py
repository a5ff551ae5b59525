"""Which files are scanned, and their text: encodings, notebooks, standard input, and what cannot be read."""

from __future__ import annotations

import codecs
import dataclasses
import fnmatch
import io
import json
import os
import re
import stat
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_memleak.model_scan import ScanWarning

DEFAULT_EXCLUDES: Final = (".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", "build", "dist", ".eggs")
MOST_BYTES: Final = 2 * 1024 * 1024
"""Written by a generator beyond this; parsing takes about 100 times the size in memory."""

STDIN: Final = "-"
_MAGIC: Final = re.compile(r"^\s*[%!?]|\?\s*$")


class ScanRefused(ValueError):
    """What was asked for cannot be done; the message is a sentence that names it."""


class Unreadable(Exception):
    """A file that cannot be scanned; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file to scan: where it is, as it is shown, its dotted name, and what tells whether it changed."""

    path: str
    shown: str
    name: str
    is_package: bool
    mtime_ns: int
    size: int
    """In bytes; -1 for a pipe, which can be read only once and tells nothing before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's text; `cells` has the cell and the line within it for each line of a notebook's text."""

    text: str
    cells: tuple[tuple[int, int], ...] = ()

    def at(self, line: int) -> str:
        """A line of the text as the reader finds it: `line 3`, in a notebook `cell 2, line 1`."""
        if 0 < line <= len(self.cells):
            return "cell {}, line {}".format(*self.cells[line - 1])
        return f"line {line}"


def shown(path: str, cwd: str) -> str:
    """A path as the user would open it: relative to the working directory where it lies below it, with `/`."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - ten thousands of them, and Path takes ten times as long
    if absolute.startswith(cwd.rstrip(os.sep) + os.sep):
        absolute = absolute[len(cwd.rstrip(os.sep)) + 1 :]
    return absolute.replace(os.sep, "/")


def _pattern(globs: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs)))


def _real(entry: os.DirEntry[str], folder: str) -> str:
    """Where an entry of a folder really is; to ask that of the system for each was half of a second scan."""
    if entry.is_symlink() or os.name == "nt":  # where a junction leads elsewhere and is no link
        return os.path.realpath(entry.path)
    return os.path.join(folder, entry.name)  # noqa: PTH118


def _refuse_absent(path: str) -> None:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ScanRefused(f"{path} does not exist: give a file or a folder that does") from None
    except OSError:
        pass  # it is the reading that says what is wrong


class Walk:
    """The files below the given paths, each once; after `entries` was run through, `warnings` has what was not read.

    A path that does not exist raises ScanRefused: it is a slip of the pen, and must not look like a clean scan.
    """

    def __init__(self, paths: Sequence[str], exclude: Sequence[str] = (), cwd: str | None = None) -> None:
        self.paths = paths
        self.cwd = cwd or str(Path.cwd())
        self.warnings: list[ScanWarning] = []
        own = [glob.rstrip("/") for glob in exclude]
        self._excluded = _pattern((*DEFAULT_EXCLUDES, *own)).match
        self._project_excluded = _pattern(own).match if own else None
        self._seen: set[str] = set()
        self._packages: dict[str, tuple[str, ...] | None] = {}

    def entries(self) -> Iterator[Entry]:
        """In the order of the paths given, each folder's in the order of names."""
        for path in self.paths:
            if path == STDIN:
                if STDIN not in self._seen:
                    self._seen.add(STDIN)
                    yield Entry(path=STDIN, shown="<stdin>", name="", is_package=False, mtime_ns=0, size=-1)
            elif os.path.isdir(path):  # noqa: PTH112  (Path raises where a folder above may not be entered)
                yield from self._below(path)
            elif not self._is_left_out(path):
                _refuse_absent(path)
                yield from self._file(path, path)

    def _is_left_out(self, path: str) -> bool:
        """Whether a file that was named lies in what the project excludes: hooks name every file that has changed."""
        if self._project_excluded is None:
            return False
        whole = shown(path, self.cwd)
        # Above the working directory nothing is the project's.
        parts = [whole] if os.path.isabs(whole) else whole.split("/")  # noqa: PTH117
        names = {*parts, *("/".join(parts[:end]) for end in range(2, len(parts) + 1))}
        return any(map(self._project_excluded, names))

    def _below(self, root: str) -> Iterator[Entry]:
        waiting = [(root, os.path.realpath(root))]
        while waiting:
            folder, real = waiting.pop()
            if real in self._seen:
                continue
            self._seen.add(real)
            try:
                with os.scandir(folder) as found:
                    inside = sorted(found, key=lambda entry: entry.name)
            except OSError as why:
                self._warn(
                    folder, f"the folder cannot be read ({why.strerror}); give yourself the right, or --exclude it"
                )
                continue
            folders: list[tuple[str, str]] = []
            for entry in inside:
                if self._excluded(entry.name) or self._excluded(shown(entry.path, self.cwd)):
                    continue
                try:
                    if entry.is_dir():
                        folders.append((entry.path, _real(entry, real)))
                        continue
                    wanted = entry.name.endswith((".py", ".ipynb"))
                except OSError as why:
                    self._warn(entry.path, f"cannot be read ({why.strerror}); mend or --exclude it")
                    continue
                if wanted:
                    yield from self._file(entry.path, root, _real(entry, real))
            waiting += reversed(folders)

    def _file(self, path: str, root: str, real: str = "") -> Iterator[Entry]:
        try:
            status = os.stat(path)  # noqa: PTH116 - ten thousands of them, and Path takes twice as long
        except OSError as why:
            self._warn(path, f"cannot be read ({why.strerror}); mend or --exclude it")
            return
        is_file = stat.S_ISREG(status.st_mode)
        if not is_file and path != root:
            # To read a pipe that nobody writes to would last for ever; one that was named is meant.
            self._warn(path, "it is a pipe or a device, no file; --exclude it")
            return
        # Only a link can lead to a file twice, or an argument below another.
        real = real or os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        name, is_package = self._name(os.path.abspath(path), os.path.abspath(root))  # noqa: PTH100
        yield Entry(
            path=path,
            shown=shown(path, self.cwd),
            name=name,
            is_package=is_package,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if is_file else -1,
        )

    def _name(self, path: str, root: str) -> tuple[str, bool]:
        folder, base = os.path.split(path)
        stem = base.rpartition(".")[0]
        parts = self._package(folder)
        if parts is None:
            # A folder without `__init__.py` may be a namespace package: as far as the scanned folder tells.
            inner = os.path.relpath(folder, root if folder.startswith(root) else folder)
            parts = tuple(part for part in Path(inner).parts if part != "." and part.isidentifier())
        if stem == "__init__":
            return ".".join(parts), True
        return ".".join([*parts, stem]), False

    def _package(self, folder: str) -> tuple[str, ...] | None:
        """The dotted name of a folder that is a package; None for any other."""
        if folder not in self._packages:
            above, base = os.path.split(folder)
            if above != folder and Path(folder, "__init__.py").is_file():
                self._packages[folder] = (*(self._package(above) or ()), base)
            else:
                self._packages[folder] = None
        return self._packages[folder]

    def _warn(self, path: str, reason: str) -> None:
        self.warnings.append(ScanWarning(path=shown(path, self.cwd), reason=reason))


def read(entry: Entry) -> Source:
    """The text of a file. Raises Unreadable."""
    if entry.size > MOST_BYTES:
        raise Unreadable(f"{entry.size / 1e6:.0f} MB is above 2 MB, a generated file; --exclude it")
    try:
        raw = _bytes(entry.path)
    except OSError as why:
        raise Unreadable(f"cannot be read ({why.strerror}); mend its rights or --exclude it") from None
    if len(raw) > MOST_BYTES:
        raise Unreadable("it is above 2 MB, a generated file; --exclude it")
    if entry.path.endswith(".ipynb"):
        return _notebook(raw)
    return Source(text=decoded(raw))


def _bytes(path: str) -> bytes:
    """No more than shows that it is too much: a pipe may never end."""
    if path == STDIN:
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES + 1)


def decoded(raw: bytes) -> str:
    """Source text by its BOM or its coding line (PEP 263), with `\\n` at the end of lines. Raises Unreadable."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("it is UTF-16, which Python does not read; save it as UTF-8")
    if b"\0" in raw:
        raise Unreadable("it has NUL bytes, so it is no Python source; --exclude it")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, LookupError, UnicodeError) as why:
        raise Unreadable(f"it cannot be decoded ({why}); save it as UTF-8 or correct its coding line") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _notebook(raw: bytes) -> Source:
    try:
        cells: list[Any] = json.loads(raw)["cells"]
        codes = [
            (number, cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"]))
            for number, cell in enumerate(cells, 1)
            if cell.get("cell_type") == "code"
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable("it is no notebook of format 4; open and save it with Jupyter, or --exclude it") from None
    lines: list[str] = []
    places: list[tuple[int, int]] = []
    for number, code in codes:
        own = code.splitlines()
        if own and own[0].startswith("%%"):
            own = [""] * len(own)
        for line, text in enumerate(own, 1):
            indentation = text[: len(text) - len(text.lstrip())]
            # `pass` keeps a block that has nothing but a magic.
            lines.append(f"{indentation}pass" if _MAGIC.search(text) and not text.lstrip().startswith("#") else text)
            places.append((number, line))
    return Source(text="\n".join(lines) + "\n", cells=tuple(places))
