"""Log files as blocks of bytes: globs, standard input, compressed and rotated files, the oldest first."""

from __future__ import annotations

import codecs
import dataclasses
import glob
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from pytest_memleak.slugs import see

if TYPE_CHECKING:
    from typing_extensions import Buffer

STDIN: Final = "-"
STDIN_NAME: Final = "standard input"

BLOCK: Final = 1 << 18
"""Bytes read at once: what the search for candidates makes of them still fits a processor's cache."""

_SNIFFED: Final = 1 << 16
_LONGEST_MAGIC: Final = 5
_MOST_CONTROL: Final = 0.1
"""More control characters than this share is no text: a log with colours has 5 % of them."""

_COMPRESSED: Final = {".gz", ".zst", ".zstd"}
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNKNOWN: Final = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "a zip archive"}
_UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

# app.log.1, app.log.2026-01-01, app.log-20260101, app.log.1767225600; and app.1.log, app-20260101.log
_ROTATED: Final = re.compile(
    r"(.+?)[.\-_](\d{1,4}|\d{4}-?\d\d-?\d\d(?:[T_.\-]?\d{2,6})*|\d{8,14})(\.(?:log|txt|json|jsonl|out|err))?"
)
_FEWEST_DATE_DIGITS: Final = 6

_CONTROL: Final = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})


class LogError(Exception):
    """A log cannot be read; the message is one sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file of a log; the files of one log have its name in common."""

    path: str
    log: str


def expand(arguments: Sequence[str]) -> list[LogFile]:
    """The files that arguments name, each once, log by log and the oldest first. Raises LogError."""
    paths: dict[str, None] = {}
    for argument in arguments:
        if argument == STDIN:
            paths[STDIN] = None
            continue
        path = Path(argument).expanduser()
        if path.is_dir():
            raise LogError(f"{argument} is a directory: name its files, such as '{Path(argument) / '*.log'}'")
        if path.exists():
            paths[str(path)] = None
            continue
        # Path.glob takes no absolute pattern.
        found = sorted(name for name in glob.glob(str(path), recursive=True) if not Path(name).is_dir())  # noqa: PTH207
        if not found:
            is_glob = any(letter in argument for letter in "*?[")
            raise LogError(f"{argument}: no file matches" if is_glob else f"{argument}: there is no such file")
        paths.update(dict.fromkeys(found))
    files = [(_log_of(name), name) for name in paths]
    order: dict[str, int] = {}
    for (log, _), _ in files:
        order.setdefault(log, len(order))
    files.sort(key=lambda file: (order[file[0][0]], file[0][1]))
    return [LogFile(path=name, log=_shown(log, list(order))) for (log, _), name in files]


def _log_of(path: str) -> tuple[str, tuple[int, float]]:
    """The name of the log that a file belongs to, and its place among the files of it, the oldest first."""
    if path == STDIN:
        return STDIN_NAME, (2, 0.0)
    folder, name = Path(path).parent, Path(path).name
    while Path(name).suffix in _COMPRESSED:
        name = Path(name).stem
    match = _ROTATED.fullmatch(name)
    if match is None:
        return str(folder / name), (2, 0.0)
    digits = re.sub(r"\D", "", match[2])
    log = str(folder / (match[1] + (match[3] or "")))
    # Dates grow with time; the numbers of logrotate, with age.
    if len(digits) >= _FEWEST_DATE_DIGITS:
        return log, (0, float(digits[:14].ljust(14, "0")))
    return log, (1, -float(digits))


def _shown(log: str, logs: Sequence[str]) -> str:
    """The log's own name, with its folder where another has the same."""
    name = Path(log).name
    return log if sum(Path(other).name == name for other in logs) > 1 else name


def blocks(file: LogFile) -> Iterator[bytes]:
    """The bytes of a file, unpacked, as UTF-8. Raises LogError, also in the middle where it is damaged."""
    try:
        if file.path == STDIN:
            yield from _unpacked(sys.stdin.buffer, STDIN_NAME)
        else:
            with Path(file.path).open("rb", buffering=0) as raw:
                yield from _unpacked(raw, file.path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"{file.path} is damaged ({error}): it was read as far as that") from None
    except OSError as error:
        raise LogError(f"{file.path} cannot be read ({error.strerror or error})") from None


def _unpacked(raw: IO[bytes], name: str) -> Iterator[bytes]:
    first = _read(raw, _LONGEST_MAGIC)
    for start, kind in _UNKNOWN.items():
        if first.startswith(start):
            raise LogError(f"{name} is compressed with {kind}: unpack it, and give it as `-` on standard input")
    joined = io.BufferedReader(_Joined(first, raw), BLOCK)
    if first.startswith(_GZIP):
        source: Iterator[bytes] = _all(cast("IO[bytes]", gzip.GzipFile(fileobj=joined)))
    elif first.startswith(_ZSTD):
        source = _zstd(joined, name)
    else:
        source = _all(joined)
    start = next(source, b"")
    encoding = next((encoding for bom, encoding in _UTF16.items() if start.startswith(bom)), "")
    if encoding:
        yield from _as_utf8(start, source, encoding)
        return
    if _is_binary(start[:_SNIFFED]):
        raise LogError(f"{name} is no text (binary): expects a log, plain or packed with gzip or zstd")
    yield start
    yield from source


class _Joined(io.RawIOBase):
    """A stream whose first bytes were read already: a pipe cannot be read twice."""

    def __init__(self, first: bytes, raw: IO[bytes]) -> None:
        self._first, self._read1 = first, getattr(raw, "read1", raw.read)

    def readable(self) -> bool:
        """It is, and nothing else."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Some of the bytes, as few as the stream has at hand."""
        view = memoryview(buffer)
        if self._first:
            taken, self._first = self._first[: len(view)], self._first[len(view) :]
        else:
            taken = self._read1(len(view)) or b""
        view[: len(taken)] = taken
        return len(taken)


def _all(stream: IO[bytes]) -> Iterator[bytes]:
    read1: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    # What is there is given at once: a pipe may wait for long, and what is packed may be damaged behind it.
    while block := read1(BLOCK):
        yield block


def _read(raw: IO[bytes], size: int) -> bytes:
    """The first bytes, `size` at least where there are so many: a pipe gives them piece by piece."""
    read1: Callable[[int], bytes] = getattr(raw, "read1", raw.read)
    first = b""
    while len(first) < size and (part := read1(_SNIFFED)):
        first += part
    return first


def _zstd(stream: IO[bytes], name: str) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd

        try:
            yield from _all(cast("IO[bytes]", zstd.ZstdFile(stream)))
        except zstd.ZstdError as error:
            raise LogError(f"{name} is damaged ({error}): it was read as far as that") from None
        return
    try:
        import zstandard
    except ImportError:
        install = "python -m pip install 'pytest-memleak[watch]'"
        sentence = f"{name} is compressed with zstd, which needs zstandard: {install}"
        raise LogError(see("missing-extra", sentence)) from None
    try:
        yield from _all(cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)))
    except zstandard.ZstdError as error:
        raise LogError(f"{name} is damaged ({error}): it was read as far as that") from None


def _as_utf8(start: bytes, source: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """What PowerShell's `>` writes."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    yield decoder.decode(start[2:]).encode()
    for block in source:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _is_binary(start: bytes) -> bool:
    """Whether a file's beginning is no text; zeros at the very beginning are the hole that `copytruncate` leaves."""
    text = start.lstrip(b"\0")
    if b"\0" in text:
        return True
    return len(text) - len(text.translate(None, _CONTROL)) > _MOST_CONTROL * len(text)
