"""Which files are scanned, and their text: encodings, notebooks, standard input, and what cannot be read."""

from __future__ import annotations

import codecs
import dataclasses
import fnmatch
import io
import json
import os
import re
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's text; `cells` has the cell and the line within it for each line of a notebook's text."""

    text: str
    cells: tuple[tuple[int, int], ...] = ()


def shown(path: str, cwd: str) -> str:
    """A path as the user would open it: relative to the working directory where it lies below it, with `/`."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - ten thousands of them, and Path takes ten times as long
    if absolute.startswith(cwd.rstrip(os.sep) + os.sep):
        absolute = absolute[len(cwd.rstrip(os.sep)) + 1 :]
    return absolute.replace(os.sep, "/")


class Walk:
    """The files below the given paths, each once; after `entries` was run through, `warnings` has what was not read.

    A path that does not exist raises ValueError: it is a slip of the pen, and must not look like a clean scan.
    """

    def __init__(self, paths: Sequence[str], exclude: Sequence[str] = (), cwd: str | None = None) -> None:
        self.paths = paths
        self.cwd = cwd or str(Path.cwd())
        self.warnings: list[ScanWarning] = []
        globs = (*DEFAULT_EXCLUDES, *(glob.rstrip("/") for glob in exclude))
        self._excluded = re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match
        self._seen: set[str] = set()
        self._packages: dict[str, tuple[str, ...] | None] = {}

    def entries(self) -> Iterator[Entry]:
        """In the order of the paths given, each folder's in the order of names."""
        for path in self.paths:
            if path == STDIN:
                yield Entry(path=STDIN, shown="<stdin>", name="", is_package=False, mtime_ns=0, size=-1)
            elif Path(path).is_dir():
                yield from self._below(path)
            elif Path(path).exists():
                yield from self._file(path, path)
            else:
                raise ValueError(f"{path} does not exist: give a file or a folder that does")

    def _below(self, root: str) -> Iterator[Entry]:
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
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
            folders: list[str] = []
            for entry in inside:
                if self._excluded(entry.name) or self._excluded(shown(entry.path, self.cwd)):
                    continue
                try:
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    wanted = entry.name.endswith((".py", ".ipynb")) and (entry.is_file() or entry.is_symlink())
                except OSError as why:
                    self._warn(entry.path, f"cannot be read ({why.strerror}); mend or --exclude it")
                    continue
                if wanted:
                    yield from self._file(entry.path, root)
            waiting += reversed(folders)

    def _file(self, path: str, root: str) -> Iterator[Entry]:
        try:
            status = Path(path).stat()
        except OSError as why:
            self._warn(path, f"cannot be read ({why.strerror}); mend or --exclude it")
            return
        # Only a link can lead to a file twice, or an argument below another.
        real = os.path.realpath(path)
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
            size=status.st_size,
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
        raw = sys.stdin.buffer.read() if entry.path == STDIN else Path(entry.path).read_bytes()
    except OSError as why:
        raise Unreadable(f"cannot be read ({why.strerror}); mend its rights or --exclude it") from None
    if len(raw) > MOST_BYTES:
        raise Unreadable("it is above 2 MB, a generated file; --exclude it")
    if entry.path.endswith(".ipynb"):
        return _notebook(raw)
    return Source(text=decoded(raw))


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
