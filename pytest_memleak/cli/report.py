"""`memleak report`: a run judged again by what it recorded, also one that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.detect import code_of as code_of_watch
from pytest_memleak.cli.detect import show as show_watch
from pytest_memleak.cli.soak import code_of, show


def report(
    folder: Annotated[
        str, typer.Argument(help="The folder of a run that `memleak soak` or `memleak detect --save` made.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Judge a recorded run again, also one that was killed.

    A run is what `memleak soak` and `memleak detect --save` write.

    Exit codes: those of `memleak soak` and `memleak detect`.

    Example: memleak report memleak-soak-20260101-120000
    """
    refusal.need_watch("report")
    from pytest_memleak.soak.folder import FolderError
    from pytest_memleak.watch import act as watches

    try:
        if watches.is_watch(Path(folder)):
            watched = watches.review(Path(folder))
            show_watch(watched, as_json=as_json)
            raise typer.Exit(code_of_watch(watched))
    except FolderError as error:
        refusal.refuse("report", str(error))
    refusal.need_soak("report")
    from pytest_memleak.soak import act

    try:
        result = act.review(Path(folder))
    except FolderError as error:
        refusal.refuse("report", str(error))
    show(result, as_json=as_json)
    raise typer.Exit(code_of(result))
