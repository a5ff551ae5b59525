"""`memleak verify`: did the fix work?"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Annotated, Final

import typer

from pytest_memleak.cli import refusal

_CODES = {"fixed": refusal.CLEAN, "not fixed": refusal.LEAK, "can't tell": refusal.INCONCLUSIVE}

# Typer 0.9 knows no `float | None`.
_NOT_GIVEN: Final = math.nan


def verify(
    before: Annotated[str, typer.Argument(help="The run before the fix: its folder, or a result as JSON.")],
    after: Annotated[str, typer.Argument(help="The run after it; without one BEFORE is held against the budget.")] = "",
    max_mb_per_min: Annotated[
        float, typer.Option(help="Growth that passes, in MB/min.", show_default="the limit of the run after")
    ] = _NOT_GIVEN,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say whether a fix worked: fixed, not fixed, or can't tell.

    Exit codes: 0 fixed, 1 not fixed, 2 usage, 3 can't tell.

    Example: memleak verify soak-before soak-after --max-mb-per-min 1
    """
    refusal.need_soak("verify")
    from pytest_memleak.reports import verification_text
    from pytest_memleak.soak.folder import FolderError
    from pytest_memleak.soak.results import load_result
    from pytest_memleak.verdict.verification import verify as judge

    if not math.isnan(max_mb_per_min) and not 0 <= max_mb_per_min < float("inf"):
        refusal.refuse("verify", f"--max-mb-per-min: expects a number of at least 0, got {max_mb_per_min:g}")
    try:
        runs = [load_result(Path(run)) for run in (before, after) if run]
    except FolderError as error:
        refusal.refuse("verify", str(error))
    last = runs[-1]
    limit = last.limit_mb_per_min if math.isnan(max_mb_per_min) else max_mb_per_min
    found = judge(runs[0] if len(runs) == 2 else None, last, limit)
    if as_json:
        refusal.say(json.dumps(found.to_dict(), indent=2))
    else:
        refusal.say(verification_text.explain(found, width=min(shutil.get_terminal_size().columns, 120)))
    raise typer.Exit(_CODES[found.answer])
