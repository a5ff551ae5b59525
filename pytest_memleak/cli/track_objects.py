"""`memleak track-objects`: which types accumulate in a live process, without a restart."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.behind import command_behind
from pytest_memleak.cli.live import LiveLine, clock_words
from pytest_memleak.model import Outcome
from pytest_memleak.units import format_count, parse_duration

if TYPE_CHECKING:
    from pytest_memleak.inspection.act import Progress
    from pytest_memleak.model_objects import ObjectsResult

_CODES = {Outcome.CLEAN: refusal.CLEAN, Outcome.LEAK: refusal.LEAK, Outcome.INCONCLUSIVE: refusal.INCONCLUSIVE}
_COMMAND = "track-objects"


def track_objects(
    context: typer.Context,
    interval: Annotated[str, typer.Option(help="Between readings: seconds, or 1m.")] = "10",
    samples: Annotated[int, typer.Option(help="Readings after the baseline.")] = 3,
    top: Annotated[int, typer.Option(help="Types in the table.")] = 20,
    pid: Annotated[int, typer.Option(help="The process itself.")] = 0,
    name: Annotated[str, typer.Option(help="A word in its command line; its largest worker is read.")] = "",
    port: Annotated[int, typer.Option(help="The port at which it listens; its largest worker is read.")] = 0,
    url: Annotated[str, typer.Option(help="An app with our monitor, on this machine or another.")] = "",
    token: Annotated[
        str, typer.Option(help="The monitor's bearer token.", envvar="MEMLEAK_TOKEN", show_default=False)
    ] = "",
    max_objects: Annotated[int, typer.Option(help="Count a sample where there are more objects.")] = 2_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say which types of objects pile up in a running process.

    Their objects are counted several times, and those that are still there are looked at: who holds them?

    Needs Python 3.14 on both sides, or gdb and the right to attach; else --url, or -- COMMAND, which is started.
    Without an option: the one Python server that runs here.

    Exit codes: 0 nothing accumulates, 1 some types do, 2 usage or refused, 3 inconclusive.

    Example: sudo memleak track-objects --port 8000 --interval 10
    """
    refusal.need_watch(_COMMAND, *(("httpx",) if url else ()))
    from pytest_memleak.inspection import act, ways
    from pytest_memleak.inspection.errors import Gone, InspectionError
    from pytest_memleak.soak.tree import StartError
    from pytest_memleak.watch.sources import Wanted
    from pytest_memleak.watch.target import TargetError

    if top < 1:
        refusal.refuse(_COMMAND, f"--top: expects at least 1, got {top}")
    try:
        plan = act.checked(act.Plan(interval_s=_seconds(interval), samples=samples, most=max_objects))
        wanted = Wanted(pid=pid, name=name, port=port, url=url, token=token, command=command_behind(context))
        with ways.opened(wanted, plan.interval_s) as (way, target, notes), LiveLine("the first reading") as live:
            result = act.track(
                way, plan, target=target, notes=notes, progress=lambda progress: live.show(line(progress))
            )
    except (InspectionError, TargetError, StartError) as error:
        refusal.refuse(_COMMAND, str(error))
    except Gone as error:
        refusal.refuse(_COMMAND, f"{error} before its objects were counted once")
    show(result, top=top, as_json=as_json)
    raise typer.Exit(_CODES[result.outcome])


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        refusal.refuse(_COMMAND, f"--interval: {error}")


def show(result: ObjectsResult, *, top: int, as_json: bool) -> None:
    """Print a result as text or JSON."""
    from pytest_memleak.reports import objects_text

    if as_json:
        refusal.say(json.dumps(result.to_dict(), indent=2))
    else:
        width = min(shutil.get_terminal_size().columns, 120)
        refusal.say(objects_text.explain(result, width=width, top=top))


def line(progress: Progress) -> str:
    """How far it is, in one line."""
    words = [f"{clock_words(progress.elapsed_s)} of {clock_words(progress.wanted_s)}"]
    words.append(f"{format_count(progress.objects)} objects")
    if progress.top is not None:
        words.append(f"{progress.top.name} {progress.top.delta:+,}")
    return " · ".join(words)
