"""The errors that have a section of their own on the page `docs/errors.md`, each by its slug.

A message ends with the command that prints its section, so that it leads somewhere without a network too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SLUGS: Final[Mapping[str, str]] = {
    "busy-main-thread": "a live process ran no Python while it was asked to",
    "client-not-entered": "a TestClient is used without `with`",
    "command-without-port": "a server's command does not say where it listens",
    "endless-pattern": "a pattern of yours for logs does not come to an end",
    "folder-in-use": "the folder of a run holds another one already",
    "marker-and-fixture": "a test is measured twice, by marker and by fixture",
    "missing-extra": "a package that a command needs is not installed",
    "never-reached": "the framework answered, the endpoint was not called",
    "no-answer-from-store": "the Prometheus of `memleak fleet` cannot be asked",
    "no-cpython": "a process has no interpreter that can be inspected",
    "no-gdb": "a live process is to be read, and gdb is not installed",
    "not-a-run": "a path holds no run, or one of another version",
    "not-allowed-to-attach": "the system refuses that a live process is read",
    "own-event-loop": "`memleak.run` is called from an async test",
    "port-in-use": "something listens already where a server is to listen",
    "server-did-not-start": "the server of a soak ended, or did not answer",
    "timeout-too-short": "pytest-timeout would stop a soak before its end",
    "too-few-calls": "a test is too slow for its budget to be proven",
    "unknown-argument": "an argument of a test's measurement is misspelt",
    "which-process": "none, or more than one, of the processes here is meant",
}
"""What each is about, in a line."""


def see(slug: str, sentence: str) -> str:
    """A message with the way to its section at its end; of several lines the first has it."""
    assert slug in SLUGS, slug
    first, newline, rest = sentence.partition("\n")
    return f"{first} (memleak explain {slug}){newline}{rest}"
