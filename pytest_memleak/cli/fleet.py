"""`memleak fleet`: which of all our services leak? Asked of the Prometheus that watches them already."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.live import LiveLine
from pytest_memleak.model import Outcome
from pytest_memleak.units import parse_duration

if TYPE_CHECKING:
    from pytest_memleak.fleet.plan import Plan

_CODES = {Outcome.CLEAN: refusal.CLEAN, Outcome.LEAK: refusal.LEAK, Outcome.INCONCLUSIVE: refusal.INCONCLUSIVE}

_UNSAID: Final = math.nan
"""What nobody asks for. Typer 0.9 has no options that may be None but Optional's."""


def fleet(
    prometheus: Annotated[str, typer.Option(help="Its URL, with the path prefix if it has one.", show_default=False)],
    selector: Annotated[
        str,
        typer.Option(
            help="Which memory, in bytes: any PromQL instant vector. "
            "Else process_resident_memory_bytes, else the containers' working sets.",
            show_default=False,
        ),
    ] = "",
    span: Annotated[str, typer.Option("--range", help="How far back: 90m, 6h, 7d.")] = "6h",
    step: Annotated[
        str, typer.Option(help="Time between the readings. Else about 240 of them.", show_default=False)
    ] = "",
    token: Annotated[
        str, typer.Option(help="The store's bearer token.", envvar="MEMLEAK_PROMETHEUS_TOKEN", show_default=False)
    ] = "",
    header: Annotated[
        list[str],
        typer.Option(help="NAME:VALUE to send with it, as X-Scope-OrgID:shop. Repeatable.", show_default=False),
    ] = [],  # noqa: B006
    group_by: Annotated[
        str,
        typer.Option(
            help="Labels, with commas between, that make a deployment. Else its owner, the pod's name or the job.",
            show_default=False,
        ),
    ] = "",
    max_mb_per_min: Annotated[
        float,
        typer.Option(
            "--max-mb-per-min",
            "--medium",
            help="Growth of a replica that is a leak; below it passes.",
            show_default="1; above an hour 60 MB in all, but 1 MB an hour",
        ),
    ] = _UNSAID,
    high: Annotated[
        float, typer.Option(help="From which growth on the severity is high, in MB/min.", show_default="5")
    ] = _UNSAID,
    critical: Annotated[float, typer.Option(help="From which growth on it is critical.", show_default="20")] = _UNSAID,
    top: Annotated[int, typer.Option(help="How many deployments the table shows.", min=1)] = 20,
    timeout: Annotated[str, typer.Option(help="How long an answer may take.")] = "60s",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say which deployments leak, out of your Prometheus.

    Every pod or instance that it watches is judged, and the deployments are ranked. It only reads. Any store that
    speaks Prometheus' HTTP API will do: Thanos, Mimir, Cortex, VictoriaMetrics.

    Exit codes: 0 no leak, 1 something leaks, 2 usage, or no answer from the store, 3 inconclusive: nothing could be
    judged, or something grew beyond the limit and may not go on, or the store's answer was not whole.

    Example: memleak fleet --prometheus http://prometheus:9090 --range 24h
    """
    refusal.need_watch("fleet", "httpx")
    from pytest_memleak.fleet.plan import Plan

    plan = Plan(
        url=prometheus,
        query=selector.strip(),
        span_s=_seconds(span, "--range"),
        step_s=_seconds(step, "--step") if step else 0.0,
        group_by=tuple(label.strip() for label in group_by.split(",") if label.strip()),
        limit_mb_per_min=_said(max_mb_per_min),
        high=_said(high),
        critical=_said(critical),
        token=token,
        headers=tuple(_header(text) for text in header),
        timeout_s=_seconds(timeout, "--timeout"),
    )
    _carry_out(plan, top=top, as_json=as_json)


def _carry_out(plan: Plan, *, top: int, as_json: bool) -> NoReturn:
    """Ask, judge, print, and leave with the verdict's code."""
    from pytest_memleak.fleet.act import judge_fleet
    from pytest_memleak.fleet.plan import FleetError, checked
    from pytest_memleak.reports import fleet_text

    try:
        with LiveLine("asking") as live:
            result = judge_fleet(checked(plan), live.show)
    except FleetError as error:
        refusal.refuse("fleet", str(error))
    except KeyboardInterrupt:
        # Half of a fleet is no verdict on it, and click's own code for this is that of a leak.
        refusal.refuse("fleet", "stopped before there was a verdict")
    if as_json:
        refusal.say(json.dumps(result.to_dict(), indent=2))
    else:
        refusal.say(fleet_text.explain(result, width=min(shutil.get_terminal_size().columns, 120), top=top))
    raise typer.Exit(_CODES[result.outcome])


def _said(number: float) -> float | None:
    return None if math.isnan(number) else number


def _seconds(text: str, name: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        refusal.refuse("fleet", f"{name}: {error}")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not name.strip().isascii() or any(mark in text for mark in "\r\n"):
        refusal.refuse("fleet", f"--header: expects NAME:VALUE, such as X-Scope-OrgID:shop, got {text!r}")
    return name.strip(), value.strip()
