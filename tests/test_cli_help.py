"""What the command line says of itself: an example first, nothing cut off, and completion in a real shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_memleak import cli

NAMES = [
    command.name or getattr(command.callback, "__name__", "").replace("_", "-")
    for command in cli.app.registered_commands
]


def helped(*arguments: str, columns: int = 80) -> str:
    """What `memleak … --help` prints at that width."""
    done = CliRunner().invoke(cli.app, [*arguments, "--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": ""})
    assert done.exit_code == 0, done.output
    return str(done.output)


def first_line(text: str) -> str:
    """The first line behind the usage."""
    return re.sub(r"\AUsage:.*?\n\n", "", text, flags=re.DOTALL).splitlines()[0].strip()


def test_the_whole_of_it_names_each_command_in_a_line_that_is_not_cut_off() -> None:
    text = helped()
    assert first_line(text) == "$ memleak demo"
    listed = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == NAMES
    assert [line for line in listed if not re.fullmatch(r"  [a-z-]+ {2,}\S.*[.]", line) or line.endswith("...")] == []
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_each_command_begins_with_an_example_whose_options_it_has(name: str) -> None:
    text = helped(name)
    example = first_line(text)
    words = shlex.split(example.removeprefix("$ ").removeprefix("sudo "))
    assert example.startswith("$ ")
    assert words[:2] == ["memleak", name]
    assert [word for word in words if word.startswith("-") and not re.search(rf"(?<!\S){word}[\s,]", text)] == []
    assert "Example:" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `memleak` is this checkout's or this wheel's, with a home of its own."""
    program = tmp_path / "bin" / "memleak"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pytest_memleak "$@"\n')
    program.chmod(0o755)
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("_MEMLEAK", "COMP_", "XDG_"))}
    return {**kept, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path / "home")}


def said_by(shell: list[str], environment: dict[str, str]) -> list[str]:
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


WANTED = {
    "memleak sc": {"scan-code"},
    "memleak d": {"demo", "detect", "dashboard", "doctor"},
    "memleak detect --p": {"--pid", "--port"},
}

# Where typer cannot tell the shell it is told.
SCRIPT = "memleak --show-completion 2>/dev/null || memleak --show-completion {shell}"


def by_bash(before: str, environment: dict[str, str]) -> dict[str, set[str]]:
    """What a bash completes, asked as readline asks it."""
    asked = [
        f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; _memleak_completion memleak\n"
        f'echo "{line}:${{COMPREPLY[@]}}"'
        for line in WANTED
    ]
    said = said_by(["bash", "--norc", "-c", "\n".join([before, *asked])], environment)
    return {line: set(found.split()) for line, _, found in (one.partition(":") for one in said)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options(shell: dict[str, str]) -> None:
    assert by_bash(f'eval "$({SCRIPT.format(shell="bash")})"', shell) == WANTED


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_what_is_installed_for_bash_completes_in_the_next_shell(shell: dict[str, str]) -> None:
    install = "memleak --install-completion 2>/dev/null || memleak --install-completion bash"
    said_by(["bash", "--norc", "-c", f"{install}; true"], shell)
    assert by_bash("source ~/.bashrc", shell) == WANTED


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_commands_and_options(shell: dict[str, str]) -> None:
    script = SCRIPT.format(shell="fish").replace("||", "; or")
    asked = "\n".join(
        f'echo "{line}:"(complete -C "{line}" | string split -f1 \\t | string join " ")' for line in WANTED
    )
    said = said_by(["fish", "--no-config", "-c", f"begin; {script}; end | source\n{asked}"], shell)
    assert {line: set(found.split()) for line, _, found in (one.partition(":") for one in said)} == WANTED


@pytest.mark.parametrize("line", WANTED)
def test_zsh_is_answered_with_commands_and_options(line: str, shell: dict[str, str]) -> None:
    asked = {**shell, "_MEMLEAK_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
    answer = "\n".join(said_by([sys.executable, "-m", "pytest_memleak"], asked))
    # _arguments '*: :((name\:"what it is" …))'
    assert answer.startswith("_arguments ")
    assert {name.replace("\\", "") for name in re.findall(r'"([\w-]+)"\\?:', answer)} == WANTED[line]
