"""`memleak scan-code --fix` and `--diff-only`: findings mended or shown, and what stayed as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.slugs import see

if TYPE_CHECKING:
    from pytest_memleak.model_scan import Finding
    from pytest_memleak.scan.fixes import Fix

NAME: Final = "scan-code"


def note(words: str) -> None:
    """Say something beside the report, so that what is printed can be read by programs."""
    typer.echo(f"memleak {NAME}: {words}", err=True)


def mend(findings: Sequence[Finding], *, bounds: bool, write: bool) -> bool:
    """Mend the findings, or show how it would be; whether a file was changed."""
    from pytest_memleak.scan import fixes
    from pytest_memleak.units import counted

    fixed, left, files = 0, 0, 0
    try:
        for found in fixes.fixes(findings, bounds=bounds):
            if isinstance(found, fixes.FixError):
                note(str(found))
                continue
            left += len(found.left)
            if found.fixed and _settled(found, write=write):
                fixed, files = fixed + len(found.fixed), files + 1
    except ModuleNotFoundError:
        refusal.refuse(NAME, see("missing-extra", f"{'--fix' if write else '--diff-only'} {fixes.NEEDS}"))
    note(f"{'fixed' if write else 'would fix'} {counted(fixed, 'finding')} in {counted(files, 'file')}")
    if left:
        note(f"left {counted(left, 'finding')} alone: no rewrite is sure to keep what the code does")
    return bool(files) and write


def _settled(found: Fix, *, write: bool) -> bool:
    """Write or show one file; whether that went well."""
    from pytest_memleak.scan.fixes import FixError

    if not write:
        refusal.say(found.diff().rstrip("\n"))
        return True
    try:
        found.write()
    except FixError as error:
        note(str(error))
        return False
    return True
