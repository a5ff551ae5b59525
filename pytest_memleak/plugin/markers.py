"""The marker `no_leak`: its arguments checked at collection, merged from module, class and test."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_memleak import settings

MARKER = "no_leak"


def layers_of(item: pytest.Item) -> list[dict[str, Any]] | None:
    """The parsed arguments of an item's markers, the farthest first; None when it has none.

    Raises pytest.UsageError for an argument that is unknown or badly typed, with the item's name.
    """
    _refuse_pyleaks_marker(item)
    marks = list(item.iter_markers(MARKER))
    if not marks:
        return None
    try:
        layers = [_parsed(mark) for mark in reversed(marks)]
        settings.refuse_idle(layers, MARKER)
    except settings.SettingError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None
    return layers


def _parsed(mark: pytest.Mark) -> dict[str, Any]:
    if mark.args:
        names = ", ".join(settings.MARKER_NAMES)
        raise settings.SettingError(f"{MARKER}({mark.args[0]!r}): takes named arguments only. Valid arguments: {names}")
    return settings.parse_marker(mark.kwargs, MARKER)


def _refuse_pyleaks_marker(item: pytest.Item) -> None:
    """Another plugin's marker is one letter longer; with our arguments it is a typo that would measure nothing."""
    for mark in item.iter_markers("no_leaks"):
        if set(mark.kwargs) & set(settings.MARKER_NAMES):
            raise pytest.UsageError(
                f"{item.nodeid}: marker 'no_leaks' with arguments of 'no_leak': remove the last letter"
            )
