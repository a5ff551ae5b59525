"""The findings that an old code base is known to have, so that only new ones count.

A finding is known by what it is, not by where it stands: code, file, symbol and the line without its blanks. Lines
may move. Of two alike, one known hides one.

Format history
    1  first version.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_memleak.model_scan import Finding

FORMAT_VERSION: Final = 1

_KEYS: Final = ("code", "path", "symbol", "source")

Known: TypeAlias = tuple[str, str, str, str]


class BaselineError(Exception):
    """Why a baseline cannot be read or written; the message is a sentence."""


def write(path: Path, findings: Iterable[Finding]) -> None:
    """Write what is known from now on; the file is replaced in one step. Raises BaselineError."""
    counted = Counter(_key(finding, path) for finding in findings)
    known = [{**dict(zip(_KEYS, key, strict=True)), "count": count} for key, count in sorted(counted.items())]
    text = json.dumps({"version": FORMAT_VERSION, "findings": known}, indent=2, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", errors="surrogateescape")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BaselineError(f"{path} cannot be written: {error.strerror or error}") from error


def fresh(path: Path, findings: Iterable[Finding]) -> list[Finding]:
    """The findings that a baseline does not know. Raises BaselineError."""
    known = _read(path)
    new = []
    for finding in findings:
        key = _key(finding, path)
        if known[key] > 0:
            known[key] -= 1
        else:
            new.append(finding)
    return new


def _key(finding: Finding, path: Path) -> Known:
    """Paths from the baseline's folder: the scan may be started anywhere."""
    place = Path(os.path.relpath(Path(finding.path).absolute(), path.absolute().parent)).as_posix()
    return finding.code, place, finding.symbol, "".join(finding.source.split())


def _read(path: Path) -> Counter[Known]:
    try:
        document = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise BaselineError(f"baseline {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"baseline {path} is not JSON: {error}") from error
    strange = BaselineError(f"{path} is no baseline of version {FORMAT_VERSION}: make it with --write-baseline {path}")
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise strange
    entries = document.get("findings")
    if not isinstance(entries, list):
        raise strange
    known: Counter[Known] = Counter()
    for entry in entries:
        if not _is_entry(entry):
            raise strange
        known[entry["code"], entry["path"], entry["symbol"], entry["source"]] += entry["count"]
    return known


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in _KEYS)
        and isinstance(entry.get("count"), int)
    )
