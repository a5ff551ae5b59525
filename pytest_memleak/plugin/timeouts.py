"""pytest-timeout's limit for a test, within which a measurement has to stay."""

from __future__ import annotations

from typing import Any

import pytest


def timeout_of(item: pytest.Item) -> float | None:
    """The limit in seconds, None without that plugin or without a limit."""
    if not item.config.pluginmanager.hasplugin("timeout"):
        return None
    mark = item.get_closest_marker("timeout")
    value: Any = None
    if mark is not None:
        value = mark.args[0] if mark.args else mark.kwargs.get("timeout")
    if value is None:
        # Where the environment variable, the option and the ini file have met.
        value = getattr(item.config, "_env_timeout", None)
    if value is None:
        value = item.config.getoption("timeout", None) or item.config.getini("timeout")
    try:
        return float(value) if value and float(value) > 0 else None
    except (TypeError, ValueError):
        return None
