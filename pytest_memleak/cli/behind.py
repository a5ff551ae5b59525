"""A command of ours that ends with a command of the user's, behind `--`."""

from __future__ import annotations

from typing import Any, Final

import typer

from pytest_memleak.cli.helps import Told

_KEY: Final = "pytest_memleak.behind"


class WithCommand(Told):
    """Keeps what stands behind the first `--` from being read as arguments of ours.

    A context is click's own, or the one that newer releases of typer carry: hence Any.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does, but for the user's command."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_KEY] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """With the user's command at the end."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ...]"]


def command_behind(context: typer.Context) -> tuple[str, ...] | None:
    """The words behind `--`; None where there is no `--`."""
    found: tuple[str, ...] | None = context.meta.get(_KEY)
    return found
