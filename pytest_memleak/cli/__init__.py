"""The command `memleak`: one file per subcommand."""

from __future__ import annotations

import sys
from typing import Final

import typer

from pytest_memleak import __version__
from pytest_memleak.cli.analyze_logs import analyze_logs
from pytest_memleak.cli.behind import WithCommand
from pytest_memleak.cli.dashboard import dashboard
from pytest_memleak.cli.demo import demo
from pytest_memleak.cli.detect import detect
from pytest_memleak.cli.doctor import doctor
from pytest_memleak.cli.explain import explain
from pytest_memleak.cli.fleet import fleet
from pytest_memleak.cli.helps import Told, ToldGroup
from pytest_memleak.cli.report import report
from pytest_memleak.cli.scan_code import scan_code
from pytest_memleak.cli.soak import soak
from pytest_memleak.cli.track_objects import track_objects
from pytest_memleak.cli.verify import verify

app = typer.Typer(
    name="memleak",
    cls=ToldGroup,
    help="\b\n$ memleak demo\n\nMemory-leak regression testing for Python web services.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
)
app.command(cls=Told)(demo)
# What stands behind `--` is the user's own command, options and all.
app.command(cls=Told, context_settings={"allow_extra_args": True})(soak)
app.command(cls=WithCommand)(detect)
app.command(cls=WithCommand)(track_objects)
app.command(cls=WithCommand)(dashboard)
app.command(cls=Told)(report)
app.command(cls=Told)(verify)
app.command(cls=Told)(scan_code)
app.command(cls=Told)(fleet)
app.command(cls=Told)(analyze_logs)
app.command(cls=Told)(doctor)
app.command(cls=Told)(explain)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pytest-memleak {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Memory-leak regression testing for Python web services."""


# sysexits.h's EX_SOFTWARE: a bug of ours must never be taken for a leak (1).
_BUG: Final = 70


def main() -> None:
    """The entry point of the console script."""
    try:
        # One name for both ways to start it, so that completion knows it by that name.
        app(prog_name="memleak")
    except Exception:  # noqa: BLE001  (whatever it is: it is shown, and its exit code is not a verdict's)
        sys.excepthook(*sys.exc_info())
        sys.exit(_BUG)
