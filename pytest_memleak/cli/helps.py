"""Commands whose help begins with an example.

Contexts and formatters are click's own, or those that newer releases of typer carry: hence Any.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import typer.core

_EXAMPLE: Final = "Example: "


class Told(typer.core.TyperCommand):
    """Shows the paragraph `Example: …` of its docstring first.

    In a program the example belongs behind what it is an example of; on the screen it is what most came for.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As click does."""
        _format_plainly(self, ctx, formatter)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  (click gives it)
        """As click does, in another order."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(example_first(self.help or ""))


class ToldGroup(typer.core.TyperGroup):
    """The commands together, in the order in which they are added."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  (click gives it)
        """As typer does from 0.12 on."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As click does."""
        _format_plainly(self, ctx, formatter)


def _format_plainly(command: Any, ctx: Any, formatter: Any) -> None:
    """What click's own `format_help` does: typer below 0.12 draws boxes, whatever `rich_markup_mode` is."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_options(ctx, formatter)
    command.format_epilog(ctx, formatter)


def example_first(text: str) -> str:
    """A help text with its example in front, as a command behind a prompt."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    examples = [one.removeprefix(_EXAMPLE) for one in paragraphs if one.startswith(_EXAMPLE)]
    rest = [one for one in paragraphs if not one.startswith(_EXAMPLE)]
    # What \b begins is not wrapped.
    return "\n\n".join([*(f"\b\n$ {example}" for example in examples), *rest])
