"""The command `memleak`: one file per subcommand."""

from __future__ import annotations

import typer

from pytest_memleak import __version__
from pytest_memleak.cli.demo import demo

app = typer.Typer(
    name="memleak",
    help="Memory-leak regression testing for Python web services.\n\nStart with: memleak demo",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pytest-memleak {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Memory-leak regression testing for Python web services."""


def main() -> None:
    """The entry point of the console script."""
    app()
