"""What a call leaves to the end of its test, undone after each call: patches and clean-ups.

A test patches, and its fixtures take it back when it ends. We make thousands of calls in one test: their
patches would nest and pile up in the fixtures. So each call begins with the state that the first one found;
what fixtures patched before it stays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest


class Undoing(Protocol):
    """One tool's records of what is to be undone."""

    def undo(self) -> None:
        """Undo what the call that is over has added."""


def undoings(item: pytest.Item) -> list[Undoing]:
    """What has to be undone after each call of a test, in this order; made just before its first call."""
    funcargs: dict[str, Any] = getattr(item, "funcargs", {})
    found: list[Undoing] = []
    finalizers = _finalizers_of(item)
    if finalizers is not None:
        found.append(Finalizers(finalizers))
    cleanups = getattr(getattr(item, "instance", None), "_cleanups", None)
    # Only unittest's: what else has an attribute of that name is the user's.
    if isinstance(cleanups, list) and type(item).__name__ == "TestCaseFunction":
        found.append(Cleanups(cleanups))
    # As pytest tears down, the last set up first: one may have patched what the other had.
    for name, value in reversed(funcargs.items()):
        if name == "mocker":
            found.append(Mocker(value))
        elif isinstance(value, pytest.MonkeyPatch):
            found.append(Monkeypatch(value))
    found.append(StartedPatches())
    return found


class Cleanups:
    """`TestCase.addCleanup`, and with it `enterContext`."""

    __slots__ = ("_before", "_cleanups")

    def __init__(self, cleanups: list[Any]) -> None:
        self._cleanups = cleanups
        self._before = len(cleanups)

    def undo(self) -> None:
        """Call what was left to be called, the last first."""
        while len(self._cleanups) > self._before:
            function, arguments, keywords = self._cleanups.pop()
            function(*arguments, **keywords)


class Mocker:
    """pytest-mock's fixture: it keeps each patch and each autospec to the end of the test."""

    __slots__ = ("_before", "_patch_of", "_store")

    def __init__(self, mocker: Any) -> None:
        self._store: list[Any] = []
        self._patch_of: Callable[[Any], Any] = lambda entry: entry.patch
        cache = getattr(getattr(mocker, "_mock_cache", None), "cache", None)
        pairs = getattr(mocker, "_patches_and_mocks", None)
        if isinstance(cache, list):
            self._store = cache
        elif isinstance(pairs, list):  # before pytest-mock 3.13
            self._store = pairs
            self._patch_of = lambda entry: entry[0]
        self._before = len(self._store)

    def undo(self) -> None:
        """Stop the patches, the last first: each puts back what it found."""
        while len(self._store) > self._before:
            patch = self._patch_of(self._store.pop())
            if patch is not None:
                patch.stop()


class StartedPatches:
    """`unittest.mock.patch(...).start()` without a `stop`, which the test may leave to `patch.stopall()`.

    The first call's stay: they may be meant for good, by a function that patches once.
    """

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: int | None = None

    def undo(self) -> None:
        """Stop the patches of later calls, the last first."""
        active = getattr(getattr(sys.modules.get("unittest.mock"), "_patch", None), "_active_patches", None)
        if not isinstance(active, list):
            return
        if self._before is None:
            self._before = len(active)
        for patch in reversed(active[self._before :]):
            patch.stop()


class Finalizers:
    """`request.addfinalizer` in the test itself. The first call's stay, as do those of fixtures."""

    __slots__ = ("_before", "_finalizers")

    def __init__(self, finalizers: list[Any]) -> None:
        self._finalizers = finalizers
        self._before: int | None = None

    def undo(self) -> None:
        """Call the finalizers of later calls, the last first."""
        if self._before is None:
            self._before = len(self._finalizers)
        if len(self._finalizers) <= self._before:
            return
        added = self._finalizers[self._before :]
        # `request.getfixturevalue` sets a fixture up once for all calls.
        self._finalizers[self._before :] = [finalizer for finalizer in added if _is_of_fixture(finalizer)]
        self._before = len(self._finalizers)
        for finalizer in reversed(added):
            if not _is_of_fixture(finalizer):
                finalizer()


class Monkeypatch:
    """pytest's `monkeypatch`: it undoes itself, from the point on that a call began at."""

    __slots__ = ("_before", "_cwd", "_monkeypatch", "_path")

    def __init__(self, monkeypatch: Any) -> None:
        self._monkeypatch = monkeypatch
        self._before = len(monkeypatch._setattr), len(monkeypatch._setitem)
        # Where a fixture has changed them, the records go back further than a call may.
        self._cwd = None if monkeypatch._cwd is None else str(Path.cwd())
        self._path = None if monkeypatch._savesyspath is None else sys.path[:]

    def undo(self) -> None:
        """Undo what is beyond the fixtures' patches."""
        patch: Any = self._monkeypatch
        attributes, items = self._before
        if (
            len(patch._setattr) <= attributes
            and len(patch._setitem) <= items
            and patch._cwd is None
            and patch._savesyspath is None
        ):
            return
        fixtures_own = patch._setattr[:attributes], patch._setitem[:items]
        fixtures_cwd = patch._cwd if self._cwd is not None else None
        fixtures_path = patch._savesyspath if self._path is not None else None
        del patch._setattr[:attributes], patch._setitem[:items]
        if fixtures_cwd is not None:
            patch._cwd = self._cwd
        if fixtures_path is not None:
            patch._savesyspath = self._path
        try:
            patch.undo()
        finally:
            patch._setattr[:0], patch._setitem[:0] = fixtures_own
            patch._cwd, patch._savesyspath = fixtures_cwd, fixtures_path


def _finalizers_of(item: pytest.Item) -> list[Any] | None:
    """pytest's list of what it calls at the end of a test; None where this pytest keeps it elsewhere."""
    stack = getattr(getattr(item.session, "_setupstate", None), "stack", None)
    entry = stack.get(item) if isinstance(stack, dict) else None
    finalizers = entry[0] if isinstance(entry, tuple) and entry else None
    return finalizers if isinstance(finalizers, list) else None


def _is_of_fixture(finalizer: Any) -> bool:
    return isinstance(getattr(getattr(finalizer, "func", None), "__self__", None), pytest.FixtureDef)
