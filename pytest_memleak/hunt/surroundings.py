"""What the edge lends a hunt: stores of the test tools to empty, objects that have a name, a line of progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Surroundings(Protocol):
    """Where the calls are made: in a test, or outside of any."""

    def prepare(self) -> None:
        """Look for what records calls; the heap is thawed now and will be frozen next."""

    def empty_stores(self) -> None:
        """Empty what the harness itself records per call."""

    def notes(self) -> Sequence[str]:
        """What was left out of the readings and has to be named."""

    def roots(self) -> Mapping[int, str]:
        """Names of objects that end a reference path (fixture values), by identity."""

    def progress(self, line: str) -> None:
        """Show how far the measurement is."""


class NoSurroundings:
    """A hunt outside of any test."""

    __slots__ = ()

    def prepare(self) -> None:
        """Nothing is recorded."""

    def empty_stores(self) -> None:
        """Nothing is recorded."""

    def notes(self) -> Sequence[str]:
        """Nothing was left out."""
        return ()

    def roots(self) -> Mapping[int, str]:
        """Only modules end a path."""
        return {}

    def progress(self, line: str) -> None:
        """Nobody looks."""
