"""What the last scan found, kept for the next: per file, and whole for a tree that has not changed.

Both are JSON and never pickled: a cache lies in the project's folder, and whoever scans a foreign repository must not
run what it brings. Whatever cannot be read counts as absent.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest_memleak
from pytest_memleak.model_scan import SCAN_SCHEMA_VERSION, ScanResult, ScanWarning
from pytest_memleak.scan.one import Scanned, finding_from_plain, finding_to_plain, from_plain, to_plain
from pytest_memleak.scan.sources import Entry

FOLDER: Final = Path(".memleak_cache", "scan")
_FILES: Final = "files.jsonl"
_WHOLE: Final = "result.json"
_BROKEN: Final = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@functools.cache
def scanner_version() -> str:
    """Changes with every line of the scanner, and with the Python that parses."""
    package = Path(pytest_memleak.__file__).parent
    parts = [*sorted((package / "scan").rglob("*.py")), package / "model_scan.py", package / "patterns/catalogue.py"]
    digest = hashlib.sha256(repr((pytest_memleak.__version__, SCAN_SCHEMA_VERSION, sys.version)).encode())
    for part in parts:
        digest.update(part.name.encode() + part.read_bytes())
    return digest.hexdigest()


def stamp(entries: Sequence[Entry], *choices: Any) -> str:
    """What a whole result depends on: every file's time and size, the scanner, and what was asked for."""
    digest = hashlib.sha256(repr((scanner_version(), choices)).encode())
    for entry in entries:
        digest.update(f"{entry.shown}\0{entry.name}\0{entry.mtime_ns}\0{entry.size}\0".encode("utf-8", "replace"))
    return digest.hexdigest()


class Kept:
    """A folder of the cache; it makes itself when something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def whole(self, stamp: str) -> ScanResult | None:
        """The result of a tree that has not changed."""
        try:
            known = json.loads((self.folder / _WHOLE).read_bytes())
            if known["stamp"] != stamp:
                return None
            return ScanResult(
                findings=tuple(map(finding_from_plain, known["findings"])),
                warnings=tuple(ScanWarning(path=p, reason=r, is_unread=u) for p, r, u in known["warnings"]),
                files=known["files"],
                lines=known["lines"],
            )
        except _BROKEN:
            return None

    def keep_whole(self, stamp: str, result: ScanResult) -> None:
        """Keep a result for the same stamp."""
        content = {
            "stamp": stamp,
            "findings": [finding_to_plain(finding) for finding in result.findings],
            "warnings": [[warning.path, warning.reason, warning.is_unread] for warning in result.warnings],
            "files": result.files,
            "lines": result.lines,
        }
        self._write(_WHOLE, [json.dumps(content)])

    def files(self, entries: Sequence[Entry]) -> dict[str, Scanned]:
        """What is known of files that have not changed, by the path shown."""
        wanted = {_key(entry): entry.shown for entry in entries}
        found: dict[str, Scanned] = {}
        try:
            with (self.folder / _FILES).open(encoding="utf-8") as lines:
                if next(lines, "").strip() != scanner_version():
                    return {}
                for line in lines:
                    key, _, row = line.partition("\t")
                    if key in wanted:
                        found[wanted[key]] = from_plain(json.loads(row))
        except _BROKEN:
            return found
        return found

    def keep_files(self, scanned: Iterable[tuple[Entry, Scanned]]) -> None:
        """Keep what each file gave, instead of what was kept before."""
        rows = (f"{_key(entry)}\t{json.dumps(to_plain(file))}\n" for entry, file in scanned)
        self._write(_FILES, _after(scanner_version() + "\n", rows))

    def _write(self, name: str, parts: Iterable[str]) -> None:
        partial = self.folder / f"{name}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ignore = self.folder.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(parts)
            partial.replace(self.folder / name)
        except (OSError, UnicodeError):
            # A folder that cannot be written costs time at the next scan, and nothing else.
            with contextlib.suppress(OSError):
                partial.unlink()


def _key(entry: Entry) -> str:
    return hashlib.sha256(
        f"{entry.shown}\0{entry.name}\0{entry.mtime_ns}\0{entry.size}".encode("utf-8", "replace")
    ).hexdigest()


def _after(first: str, rest: Iterable[str]) -> Iterable[str]:
    yield first
    yield from rest
