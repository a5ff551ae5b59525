"""Which findings a measured run has seen leak: `--runtime RESULT.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.sources import ScanRefused

_NEAR: Final = 2
"""Lines: what allocates is often an argument of the call that keeps it, a line or two away."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The places and holders that a run convicted."""

    places: frozenset[tuple[str, int]]
    holders: frozenset[str]

    def confirms(self, finding: Finding) -> bool:
        """Whether a measured leak was allocated here, or is held by what the finding names."""
        if finding.holder and any(_alike(finding.holder, holder) for holder in self.holders):
            return True
        return finding.cell is None and any(
            finding.line - _NEAR <= line <= max(finding.line, finding.end_line) + _NEAR
            and _alike_path(finding.path, path)
            for path, line in self.places
        )


def _alike(one: str, other: str) -> bool:
    return one == other or ("." in one and other.endswith(f".{one}")) or ("." in other and one.endswith(f".{other}"))


def _alike_path(one: str, other: str) -> bool:
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def load(path: str | Path) -> Measured:
    """The leaks of a file that `--memleak-json` wrote. Raises ScanRefused, in one sentence."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        leaks = [leak for leak in _leaks(content) if isinstance(leak, dict)]
        frames = [frame for leak in leaks for site in leak.get("sites") or () for frame in _frames(site)]
        places = frozenset((str(place).replace("\\", "/"), int(line)) for place, line in frames)
        holders = frozenset(str(leak["holder"]["name"]) for leak in leaks if leak.get("holder"))
    except OSError as why:
        raise ScanRefused(f"--runtime {path} cannot be read: {why.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ScanRefused(f"--runtime {path} is no result of a --memleak run: write one with --memleak-json") from None
    return Measured(places=places, holders=holders - {""})


def _leaks(content: Any) -> Iterator[Any]:
    if not isinstance(content, dict) or not ("results" in content or "leaks" in content):
        raise ValueError("neither a report nor a result")
    for result in [content, *content.get("results", ()), *content.get("soaks", ())]:
        yield from result.get("leaks") or ()


def _frames(site: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield site["frame"]["path"], site["frame"]["line"]
    if site.get("inner"):
        yield site["inner"]["path"], site["inner"]["line"]


def confirmed(findings: Iterable[Finding], measured: Measured) -> list[Finding]:
    """The findings, those that were measured marked."""
    return [
        dataclasses.replace(finding, confirmed=True) if measured.confirms(finding) else finding for finding in findings
    ]
