"""`memleak analyze-logs`: the figures of memory that logs have, and the verdict on their trend."""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.slugs import see

if TYPE_CHECKING:
    from pytest_memleak.model_logs import LogResult
    from pytest_memleak.watch.log_judging import LogPlan

_NAME: Final = "analyze-logs"
_MAX_WIDTH: Final = 120

_SLOWEST_S: Final = 5.0
"""Between two blocks, where a user's own pattern is at work: 256 kB take a good one 5 ms."""


class _TooSlow(Exception):
    """A user's pattern does not come to an end."""


def analyze_logs(
    # Typer 0.9 takes no default for a list of arguments but None.
    files: list[str] = typer.Argument(  # noqa: B008
        None, show_default="-", help="Logs: files, globs, .gz and .zst, rotated ones; - reads standard input."
    ),
    pattern: Annotated[
        list[str],
        typer.Option(help="A regular expression with (?P<memory>…), and unit, time, pid if you like (repeatable)."),
    ] = [],  # noqa: B006
    unit: Annotated[str, typer.Option(help="The unit of figures that have none: kB, MB, MiB…")] = "",
    interval: Annotated[
        float, typer.Option(help="Seconds between two readings, in a log without times.", show_default="10")
    ] = 0.0,
    max_mb_per_min: Annotated[
        float,
        typer.Option(
            help="Growth that passes, in MB/min.", show_default="1; above an hour 60 MB in all, but 1 MB an hour"
        ),
    ] = -1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find figures of memory in logs, and judge their trend.

    What preceded a death by want of memory is told too.

    Reads text, JSON lines, logfmt, gunicorn and uvicorn logs, the kernel's log, kubectl top, docker stats, Prometheus
    text and /usr/bin/time -v. Exit codes: 0 no leak, 1 leak, 2 usage, 3 inconclusive.

    Example: memleak analyze-logs 'app.log*'
    """
    refusal.need_watch(_NAME)
    from pytest_memleak.watch.log_files import LogError

    plan = _plan(files or [], pattern, unit, interval, max_mb_per_min)
    try:
        result = _analysed(plan)
    except LogError as error:
        refusal.refuse(_NAME, str(error))
    except _TooSlow:
        refusal.refuse(
            _NAME,
            see(
                "endless-pattern",
                f"--pattern was at work for more than {_SLOWEST_S:g} s on 256 kB of log: it repeats what is repeated, "
                "such as (a+)+, and tries every way to do so; write it without",
            ),
        )
    if as_json:
        refusal.say(json.dumps(result.to_dict(), indent=2))
    else:
        from pytest_memleak.reports import logs_text

        width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
        refusal.say(logs_text.explain(result, width=width))
    raise typer.Exit(_code_of(result))


def _plan(files: list[str], pattern: list[str], unit: str, interval: float, limit: float) -> LogPlan:
    """What was asked for, checked."""
    from pytest_memleak.logs import sizes
    from pytest_memleak.logs.own_patterns import OwnPattern, PatternError
    from pytest_memleak.watch.log_files import STDIN, LogError, expand
    from pytest_memleak.watch.log_judging import LogPlan

    if not files and sys.stdin.isatty():
        refusal.refuse(_NAME, "expects log files, such as memleak analyze-logs 'app.log*', or a log on standard input")
    bare = sizes.factor(unit) if unit else None
    if unit and bare is None:
        refusal.refuse(_NAME, f"--unit: expects a unit of size such as kB, MB or MiB, got {unit!r}")
    if not 0 <= interval < float("inf"):
        refusal.refuse(_NAME, f"--interval: expects seconds above 0, got {interval:g}")
    if limit != -1 and not 0 <= limit < float("inf"):
        refusal.refuse(_NAME, f"--max-mb-per-min: expects a number of at least 0, got {limit:g}")
    try:
        return LogPlan(
            files=tuple(expand(files or [STDIN])),
            year=datetime.datetime.now(datetime.timezone.utc).year,
            patterns=tuple(OwnPattern(text) for text in pattern),
            bare=bare,
            interval_s=interval or None,
            limit_mb_per_min=None if limit == -1 else limit,
        )
    except (LogError, PatternError) as error:
        refusal.refuse(_NAME, str(error))


def _analysed(plan: LogPlan) -> LogResult:
    """The result; a user's pattern that does not come to an end is ended."""
    from pytest_memleak.watch.log_judging import conclude, read

    if not plan.patterns:
        return conclude(plan, *read(plan))
    with _deadline() as renew:
        found = read(plan, renew)
    return conclude(plan, *found)


@contextlib.contextmanager
def _deadline() -> Iterator[Callable[[int], None]]:
    """Raise _TooSlow when what is given is not called every few seconds of this process' own time.

    Without such timers (Windows) only Ctrl-C ends a pattern.
    """
    if not hasattr(signal, "setitimer"):
        yield _nothing
        return

    def end(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SLOWEST_S)
    try:
        yield _restart
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _nothing(lines: int) -> None:
    del lines


def _restart(lines: int) -> None:
    del lines
    signal.setitimer(signal.ITIMER_VIRTUAL, _SLOWEST_S)


def _code_of(result: LogResult) -> int:
    from pytest_memleak.model import Outcome

    codes = {Outcome.LEAK: refusal.LEAK, Outcome.CLEAN: refusal.CLEAN}
    return codes.get(result.outcome, refusal.INCONCLUSIVE)
