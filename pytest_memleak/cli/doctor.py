"""`memleak doctor`: what of all this works on this machine?"""

from __future__ import annotations

import json
import shutil
from typing import Annotated

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.live import LiveLine


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Try each probe on this machine, and name what is missing.

    Something is allocated for each, which it has to see, in a process of its own; then the extras are looked up.
    It ends with the commands that install what is missing.

    Exit codes: 0 the core works, 1 it does not.

    Example: memleak doctor
    """
    from pytest_memleak.doctor.looking import check_up
    from pytest_memleak.reports import doctor_text

    with LiveLine("trying the probes") as live:
        found = check_up(lambda name: live.show(f"trying {name}"))
    if as_json:
        refusal.say(json.dumps(found.to_dict(), indent=2))
    else:
        refusal.say(doctor_text.explain(found, width=min(shutil.get_terminal_size().columns, 120)))
    raise typer.Exit(0 if found.works else 1)
