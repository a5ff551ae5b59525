"""The page of the commands, out of the help that each command prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from pytest_memleak import cli


def page() -> str:
    """What is generated of the page, as Markdown: a section for each command, the root's options first."""
    root = typer.main.get_command(cli.app)
    # The class is asked of the command: Typer may use a Click of its own.
    context = root.context_class(root, info_name="memleak")
    commands = {name: root.get_command(context, name) for name in names()}  # type: ignore[attr-defined]
    parts = [f"## Of all of them\n\n{_table('option', _records(root, context, 'option'))}"]
    for name, command in commands.items():
        parts.append(_section(command, command.context_class(command, info_name=name, parent=context)))
    return "\n".join(parts)


def names() -> list[str]:
    """Every command, in the order of `memleak --help`."""
    root = typer.main.get_command(cli.app)
    return root.list_commands(root.context_class(root))  # type: ignore[attr-defined, no-any-return]


def _section(command: Any, context: Any) -> str:
    usage = f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    tables = [_table(kind, _records(command, context, kind)) for kind in ("argument", "option")]
    return (
        "\n\n".join([f"## `{context.command_path}`", usage, *_told(command.help or ""), *filter(None, tables)]) + "\n"
    )


def _told(text: str) -> Iterator[str]:
    """A command's help as Markdown: its examples are shell."""
    for paragraph in text.split("\n\n"):
        before, found, example = paragraph.partition("Example: ")
        if found and not before.strip():
            yield f"```sh\n{example.strip()}\n```"
        else:
            yield _escaped(" ".join(paragraph.split()))


def _records(command: Any, context: Any, kind: str) -> list[tuple[str, str]]:
    found = [p.get_help_record(context) for p in command.get_params(context) if p.param_type_name == kind]
    return [record for record in found if record is not None]


def _table(kind: str, records: list[tuple[str, str]]) -> str:
    """The arguments or options of a command; the help prints the same two columns."""
    bar = "\\|"  # also within code a bar would end the cell
    rows = "".join(f"| `{spelt.replace('|', bar)}` | {_escaped(' '.join(told.split()))} |\n" for spelt, told in records)
    return f"| {kind} | meaning |\n| --- | --- |\n{rows}" if records else ""


def _escaped(text: str) -> str:
    """Text of a terminal, in which only `code` means to Markdown what it means to a reader."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_{}\[\]<>#$|])", r"\\\1", part) for part in parts)
