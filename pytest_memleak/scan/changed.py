"""The lines that have changed since a commit, as git tells, files that it does not know yet included."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pytest_memleak.model_scan import Finding

_HUNK: Final = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")


class ChangedError(Exception):
    """Why git cannot tell; the message is a sentence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """Ranges of lines by absolute path; None for a file that is new as a whole."""

    ranges: Mapping[Path, tuple[range, ...] | None]

    def has(self, finding: Finding) -> bool:
        """Whether a finding stands on a changed line; in a notebook, whether the notebook has changed.

        What a deleted line has caused elsewhere (the `close()` that is gone) is not seen.
        """
        path = Path(finding.path).resolve()
        if path not in self.ranges:
            return False
        ranges = self.ranges[path]
        if ranges is None or finding.cell is not None:
            return True
        return any(lines.start <= finding.end_line and finding.line < lines.stop for lines in ranges)


def changed(ref: str, folder: Path) -> Changed:
    """What has changed between a commit and the working tree around a folder. Raises ChangedError."""
    if ref.startswith("-") or not ref:
        raise ChangedError(f"--diff: expects a commit such as HEAD or origin/main, got {ref!r}")
    top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", wrong=ref)
    options = ("-U0", "--no-color", "--no-ext-diff", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
    diff = _git(top, "-c", "core.quotePath=false", "diff", *options, ref, "--")
    ranges: dict[Path, tuple[range, ...] | None] = {top / name: found for name, found in parsed(diff).items()}
    new = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    ranges.update({top / name: None for name in new.split("\0") if name})
    return Changed(ranges)


def _git(folder: Path, *arguments: str, wrong: str = "") -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise ChangedError(f"--diff needs git: {error.strerror or error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"there is no commit {wrong!r}" if wrong else (said[0] if said else f"exit code {done.returncode}")
        raise ChangedError(f"--diff: git in {folder}: {why}")
    # Lines end at \n only: a file's own odd line ends must not cut a hunk's heading off.
    return done.stdout.decode(errors="surrogateescape")


def parsed(diff: str) -> dict[str, tuple[range, ...]]:
    """The new lines by file, out of a diff without context.

    What follows a hunk's heading is counted, not read: a changed line may look like a heading.
    """
    found: dict[str, tuple[range, ...]] = {}
    name, left = "", 0
    for line in diff.split("\n"):
        if left and line[:1] in ("+", "-"):
            left -= 1
        elif line.startswith("+++ "):
            name = _name(line[4:].removesuffix("\t"))
        elif (hunk := _HUNK.match(line)) and name:
            start, count = int(hunk[1]), int(hunk[2] or 1)
            left = count + int(_removed(line))
            found[name] = (*found.get(name, ()), range(start, start + count))
    return found


def _removed(heading: str) -> str:
    """How many lines a hunk takes away."""
    match = re.match(r"@@ -\d+(?:,(\d+))?", heading)
    return match[1] or "1" if match else "0"


def _name(written: str) -> str:
    """A path of a diff; empty for a file that is gone. Quoted as C does where it has odd characters."""
    if written.startswith('"'):
        written = str(ast.literal_eval(written))
    return written.removeprefix("b/") if written.startswith("b/") else ""
