"""`memleak detect`: does this process leak? From outside, without a change or a restart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.behind import command_behind
from pytest_memleak.cli.live import LiveLine, clock_words
from pytest_memleak.model import Outcome
from pytest_memleak.units import format_bytes, format_rate, parse_duration

if TYPE_CHECKING:
    from pytest_memleak.model_watch import WatchResult
    from pytest_memleak.watch.act import Progress

_CODES = {Outcome.CLEAN: refusal.CLEAN, Outcome.LEAK: refusal.LEAK, Outcome.INCONCLUSIVE: refusal.INCONCLUSIVE}


def detect(
    context: typer.Context,
    duration: Annotated[str, typer.Argument(help="How long: seconds, or 5m, 1h30m.")] = "300",
    interval: Annotated[str, typer.Argument(help="Seconds between readings.")] = "10",
    pid: Annotated[int, typer.Option(help="The process; its children are watched too.")] = 0,
    name: Annotated[str, typer.Option(help="A word in its command line.")] = "",
    port: Annotated[int, typer.Option(help="The port at which it listens.")] = 0,
    url: Annotated[str, typer.Option(help="An app with our monitor, on this machine or another.")] = "",
    token: Annotated[
        str, typer.Option(help="The monitor's bearer token.", envvar="MEMLEAK_TOKEN", show_default=False)
    ] = "",
    medium: Annotated[float, typer.Option(help="Growth that is a leak, in MB/min; below it passes.")] = 1.0,
    high: Annotated[float, typer.Option(help="From which growth on the severity is high.")] = 5.0,
    critical: Annotated[float, typer.Option(help="From which growth on it is critical.")] = 20.0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop as soon as a leak is certain.")] = False,
    save: Annotated[str, typer.Option(help="Record the readings in this folder.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say whether a running process and its workers leak.

    It is watched from outside, and nothing in it is changed. Without an option: the one Python server that runs here.
    With -- COMMAND it is started.

    Exit codes: 0 no leak, 1 leak, 2 usage, 3 inconclusive.

    Example: memleak detect 300 10 --port 8000
    """
    refusal.need_watch("detect", *(("httpx",) if url else ()))
    from pytest_memleak.model_watch import Thresholds
    from pytest_memleak.soak.folder import FolderError
    from pytest_memleak.soak.tree import StartError
    from pytest_memleak.watch import sources
    from pytest_memleak.watch.plan import Plan, WatchError, checked
    from pytest_memleak.watch.target import TargetError

    try:
        plan = checked(
            Plan(
                duration_s=seconds_of("detect", duration, "DURATION"),
                interval_s=seconds_of("detect", interval, "INTERVAL"),
                thresholds=Thresholds(medium=medium, high=high, critical=critical),
                fail_fast=fail_fast,
                folder=str(Path(save).absolute()) if save else "",
            )
        )
        wanted = sources.Wanted(pid=pid, name=name, port=port, url=url, token=token, command=command_behind(context))
        with sources.opened(wanted) as source, LiveLine("looking") as live:
            result = source.watch(plan, lambda progress: live.show(line(progress)))
    except (WatchError, TargetError, FolderError, StartError) as error:
        refusal.refuse("detect", str(error))
    show(result, as_json=as_json)
    raise typer.Exit(code_of(result))


def seconds_of(command: str, text: str, name: str) -> float:
    """Seconds out of an argument; refused in words where it is none."""
    try:
        return parse_duration(text)
    except ValueError as error:
        refusal.refuse(command, f"{name}: {error}")


def show(result: WatchResult, *, as_json: bool) -> None:
    """Print a result as text or JSON."""
    from pytest_memleak.reports import watch_text

    if as_json:
        refusal.say(json.dumps(result.to_dict(), indent=2))
    else:
        refusal.say(watch_text.explain(result, width=min(shutil.get_terminal_size().columns, 120)))


def code_of(result: WatchResult) -> int:
    """The exit code of a verdict."""
    return _CODES[result.verdict.outcome]


def line(progress: Progress) -> str:
    """How far it is, in one line."""
    words = [f"{clock_words(progress.elapsed_s)} of {clock_words(progress.wanted_s)}"]
    words.append(f"RSS {format_bytes(progress.rss_bytes)}")
    if progress.processes > 1:
        words.append(f"{progress.processes} processes")
    verdict = progress.verdict
    if verdict is not None:
        words.append(f"{format_rate(verdict.rate.value)} MB/min, so far {verdict.outcome.value}")
    words.append(f"{clock_words(max(0.0, progress.wanted_s - progress.elapsed_s))} left")
    return " · ".join(words)
