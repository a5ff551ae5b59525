"""The folder of a run: what was asked, every reading as it came, what was found. Nothing is lost.

    run.json         the plan, written once
    readings.jsonl   one record a line, appended and never rewritten
    server.log       what the server printed, and load.log what Locust did
    result.json, report.txt

A run that was killed is read back from its readings. A full disk loses no figure while the harness lives:
records wait in memory, as far as that may go, and the file is never left with half a line in the middle.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pytest_memleak.slugs import see

RUN: Final = "run.json"
READINGS: Final = "readings.jsonl"
RESULT: Final = "result.json"
REPORT: Final = "report.txt"

# Two hours of readings of four workers; memory must stay bounded while the disk is full.
_MOST_WAITING: Final = 15_000


class FolderError(Exception):
    """A folder is not what was promised; the message is one sentence for the user."""


class RunFolder:
    """Appends to a run's readings; open one per harness."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        """Records that were neither written nor kept."""

        self._waiting: collections.deque[bytes] = collections.deque()
        self.was_full = False
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._file = os.open(path / READINGS, flags, 0o644)
        _claim(self._file, path)
        self._end = _end_of_last_line(path / READINGS)
        self._truncate()

    @classmethod
    def create(cls, path: Path, plan: Mapping[str, Any]) -> RunFolder:
        """Make a new run's folder. Raises FolderError when it cannot be, or holds a run already."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / RUN).exists() or (path / READINGS).exists():
                sentence = f"{path} holds a run already: name another folder, or go on with it by --resume"
                raise FolderError(see("folder-in-use", sentence))
            (path / RUN).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
            return cls(path)
        except OSError as error:
            raise FolderError(f"{path} cannot be written ({error.strerror}): name another folder") from None

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Go on with a run. Raises FolderError when there is none or it cannot be written."""
        read_plan(path)
        try:
            return cls(path)
        except OSError as error:
            raise FolderError(f"{path} cannot be written ({error.strerror})") from None

    @property
    def waiting(self) -> int:
        """Records that the disk has not taken yet."""
        return len(self._waiting)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record as one line, at once; where the disk is full, with one of the next."""
        self._waiting.append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        while self._waiting:
            if not self._write(self._waiting[0]):
                break
            self._waiting.popleft()
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1

    def write_result(self, result: Mapping[str, Any], report: str) -> str:
        """Write what was found; gives a sentence when that failed."""
        for name, text in ((RESULT, json.dumps(result, indent=2) + "\n"), (REPORT, report + "\n")):
            new = self.path / f".{name}.new"
            try:
                # In one step: a result of a run before is never half overwritten.
                # A path may have bytes that are no text.
                new.write_text(text, encoding="utf-8", errors="backslashreplace")
                new.replace(self.path / name)
            except OSError as error:
                new.unlink(missing_ok=True)
                return f"{self.path / name} could not be written ({error.strerror})"
        return ""

    def close(self) -> None:
        """Close the file of readings."""
        os.close(self._file)

    def _write(self, line: bytes) -> bool:
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            written = os.write(self._file, line)
        except OSError:
            written = 0
        if written < len(line):
            self.was_full = True
            self._truncate()
            return False
        self._end += written
        return True

    def _truncate(self) -> None:
        """Drop half a line at the end: the disk was full, or the harness before us was killed as it wrote."""
        with contextlib.suppress(OSError):  # a character device has no end (/dev/full)
            os.ftruncate(self._file, self._end)


def _claim(file: int, path: Path) -> None:
    """Be the only harness that writes here, for as long as the file is open; where there are no locks, trust."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise FolderError(see("folder-in-use", f"{path} is being written by a soak that still runs")) from None
    except OSError:
        return  # some network file systems have none


def _end_of_last_line(path: Path) -> int:
    """The offset behind the last whole line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        block = 1 << 16
        end = size
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def read_plan(path: Path) -> dict[str, Any]:
    """What a run was asked for. Raises FolderError when the folder holds none."""
    try:
        plan: Any = json.loads((path / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        sentence = f"{path} holds no run: expects the folder that `memleak soak` made"
        raise FolderError(see("not-a-run", sentence)) from None
    except NotADirectoryError:
        sentence = f"{path} is a file: expects the folder that `memleak soak` made"
        raise FolderError(see("not-a-run", sentence)) from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path / RUN} cannot be read ({error})") from None
    if not isinstance(plan, dict):
        raise FolderError(f"{path / RUN} is not the plan of a run")
    return plan


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a run; a line that was cut short or damaged is left out."""
    try:
        with (path / READINGS).open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    try:
                        record = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(record, dict) and isinstance(record.get("kind"), str):
                        yield record
    except FileNotFoundError:
        return
