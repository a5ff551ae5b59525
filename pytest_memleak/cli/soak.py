"""`memleak soak`: a real server under a real load, and the verdict."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pytest_memleak.cli import refusal

if TYPE_CHECKING:
    from pytest_memleak.model_soak import SoakResult
    from pytest_memleak.soak.plan import Plan
    from pytest_memleak.soak.recorder import Progress


def soak(
    context: typer.Context,
    app: Annotated[
        str, typer.Argument(help="The app, such as shop.main:app, for uvicorn. Or -- and your own server command.")
    ] = "",
    duration: Annotated[str, typer.Option(help="How long the load lasts: 30m, 90s, 24h.")] = "30m",
    users: Annotated[int, typer.Option(help="Locust users at the same time.")] = 10,
    spawn_rate: Annotated[float, typer.Option(help="Users started per second (0: all within 10 s).")] = 0.0,
    locustfile: Annotated[str, typer.Option(help="The load; without it one is made from the OpenAPI document.")] = "",
    openapi: Annotated[str, typer.Option(help="The OpenAPI document (default: the server's /openapi.json).")] = "",
    wait: Annotated[float, typer.Option(help="Seconds that a user of the generated load waits (0: none).")] = 0.0,
    processes: Annotated[int, typer.Option(help="Locust processes.")] = 1,
    master_host: Annotated[str, typer.Option(help="Join the distributed Locust run of this master.")] = "",
    master_port: Annotated[int, typer.Option(help="The port of that master.")] = 5557,
    host: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port (0: a free one).")] = 0,
    health: Annotated[str, typer.Option(help="The path asked until the server answers.")] = "/",
    url: Annotated[str, typer.Option(help="A server that runs already: seen from outside only.")] = "",
    pid: Annotated[int, typer.Option(help="Its process, where the URL does not tell.")] = 0,
    max_mb_per_min: Annotated[float, typer.Option(help="Growth that passes, in MB/min.")] = 1.0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first certain leak.")] = False,
    diagnose: Annotated[bool, typer.Option(help="Look for the lines of a leak, inside the server.")] = True,
    interval: Annotated[float, typer.Option(help="Seconds between readings (0: what suits the duration).")] = 0.0,
    steady_mix: Annotated[bool, typer.Option("--steady-mix", help="Do not vary the mix of the endpoints.")] = False,
    out: Annotated[str, typer.Option(help="The folder of the run (default: memleak-soak-DATE-TIME).")] = "",
    resume: Annotated[str, typer.Option(help="Go on with a run that ended early: its folder.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Serve an app, load it, and judge what each endpoint keeps.

    A real server, a real load by Locust, and an agent in each worker that reads its memory at rest.

    Exit codes: 0 clean, 1 leak, 2 usage, 3 inconclusive, 4 server or load failed.

    Example: memleak soak shop.main:app --duration 30m --users 50
    """
    refusal.need_soak("soak")
    from pytest_memleak.soak.plan import Plan, PlanError, checked, parse_duration
    from pytest_memleak.workloads.load import MIX_PERIOD_S

    if resume:
        _refuse_beside_resume(context)
        _carry_out(None, Path(resume), as_json=as_json)
    app, command = _app_and_command(app, context.args)
    try:
        plan = checked(
            Plan(
                app=app,
                command=command,
                url=url.rstrip("/"),
                pid=pid,
                duration_s=parse_duration(duration, "--duration"),
                users=users,
                spawn_rate=spawn_rate,
                locustfile=_absolute(locustfile),
                openapi=_absolute(openapi),
                wait_s=wait,
                processes=processes,
                master_host=master_host,
                master_port=master_port,
                host=host,
                port=port,
                health_path=health,
                max_mb_per_min=max_mb_per_min,
                fail_fast=fail_fast,
                diagnose=diagnose,
                interval_s=interval,
                mix_period_s=0.0 if steady_mix else MIX_PERIOD_S,
                folder=_absolute(out or time.strftime("memleak-soak-%Y%m%d-%H%M%S")),
                cwd=str(Path.cwd()),
            )
        )
    except PlanError as error:
        refusal.refuse("soak", str(error))
    _carry_out(plan, Path(plan.folder), as_json=as_json)


def _refuse_beside_resume(context: typer.Context) -> None:
    """What a run is asked for is in its folder: an option beside `--resume` would do nothing."""
    given = [
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        and name not in ("resume", "as_json")
    ]
    if given or context.args:
        words = " and ".join("--" + name.replace("_", "-") for name in given) or " ".join(context.args)
        refusal.refuse("soak", f"--resume goes on with a run as it was asked for: leave {words} away")


def _app_and_command(app: str, rest: list[str]) -> tuple[str, tuple[str, ...]]:
    """Everything behind `--` is one command; its first word came as the app."""
    return ("", (app, *rest)) if rest and app and not _is_app(app) else (app, tuple(rest))


def _is_app(text: str) -> bool:
    """Whether a word is MODULE:NAME and not the name of a program."""
    return ":" in text and "/" not in text


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def _carry_out(plan: Plan | None, folder: Path, *, as_json: bool) -> NoReturn:
    """Run or resume; print, write and leave with the verdict's code."""
    from pytest_memleak.cli.live import LiveLine, line
    from pytest_memleak.soak import act
    from pytest_memleak.soak.folder import FolderError
    from pytest_memleak.soak.plan import PlanError
    from pytest_memleak.soak.tree import StartError
    from pytest_memleak.workloads.load import LoadError

    try:
        with LiveLine("the server starts") as live:

            def show_progress(progress: Progress) -> None:
                live.show(line(progress), progress.phase)

            result = act.soak(plan, show_progress) if plan is not None else act.resume(folder, show_progress)
    except (PlanError, LoadError, FolderError) as error:
        refusal.refuse("soak", str(error))
    except StartError as error:
        refusal.fail("soak", str(error))
    show(result, as_json=as_json)
    raise typer.Exit(code_of(result))


def show(result: SoakResult, *, as_json: bool) -> None:
    """Print a result as text or JSON."""
    import shutil

    from pytest_memleak.reports import soak_text

    if as_json:
        refusal.say(json.dumps(result.to_dict(), indent=2))
        return
    width = min(shutil.get_terminal_size().columns, 120)
    refusal.say(soak_text.explain(result, width=width))


def code_of(result: SoakResult) -> int:
    """The exit code of a verdict; a proven leak outweighs what failed later."""
    from pytest_memleak.model import Outcome

    if result.outcome is Outcome.LEAK:
        return refusal.LEAK
    if result.failure:
        return refusal.FAILED
    return refusal.CLEAN if result.outcome is Outcome.CLEAN else refusal.INCONCLUSIVE
