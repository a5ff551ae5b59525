"""The log of a process that may run for days: bounded, and never the reason why something fails.

Imports nothing of the package: the keeper needs it before anything else is up.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

LOG_BYTES: Final = 5_000_000
"""Where a log is rotated: some 50,000 lines of 100 bytes, hours of a server that warns once a second, and with the one
rotated file at most 10 MB, which a CI artefact or an editor still takes whole."""


def predecessor(path: Path) -> Path:
    """Where a log goes when a new one takes its place."""
    return path.with_name(path.name + ".1")


class BoundedLog:
    """A log file of at most `limit` bytes, and its predecessor ``NAME.1``; what cannot be written is lost.

    A full disk must not end a soak, nor block its server. Only a write that hangs in the kernel still could.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._rotate()

    def write(self, text: bytes) -> None:
        """Append, rotating first where it would not fit."""
        try:
            if self._file is None or self._file.tell() + len(text) > self._limit:
                self._rotate()
            if self._file is not None:
                self._file.write(text)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None

    def _rotate(self) -> None:
        self.close()
        with suppress(OSError):
            held = self._path.stat()
            if stat.S_ISREG(held.st_mode) and held.st_size:  # /dev/null is not ours to rename
                self._path.replace(predecessor(self._path))
        with suppress(OSError):
            # Truncated, should the renaming have failed: the bound matters more than the lines.
            self._file = self._path.open("wb", buffering=0)
