"""What the test tools record per call: emptied between calls and at rest, so that it is no growth.

pytest keeps log records, warnings and output; monkeypatch keeps each replaced value; Python keeps a registry
of warnings per module. These are the harness's and never appear. `unittest.mock` keeps every call for the
user's assertions: its records of the measured calls are dropped at rest, and named.
"""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any

import pytest


class HarnessStores:
    """The stores of one test. `find` looks for them, `before_call` and `empty` keep them from growing."""

    def __init__(self, item: pytest.Item) -> None:
        manager = item.config.pluginmanager
        self._capture: Any = manager.getplugin("capturemanager")
        logging_plugin: Any = manager.getplugin("logging-plugin")
        self._log_handlers = [
            handler
            for handler in (getattr(logging_plugin, name, None) for name in ("caplog_handler", "report_handler"))
            if handler is not None
        ]
        funcargs: dict[str, Any] = getattr(item, "funcargs", {})
        self._recwarn: Any = funcargs.get("recwarn")
        self._readers = [
            funcargs[name] for name in ("capsys", "capfd", "capsysbinary", "capfdbinary") if name in funcargs
        ]
        self._warning_log = _warning_log()
        self._kept_warnings = 0
        self._mock_calls: list[tuple[list[Any], int, str]] = []
        self._mock_names: dict[str, None] = {}
        self._patches: list[tuple[list[Any], int]] = []

    def find(self) -> None:
        """Look for mocks and monkeypatches in the heap, which must be thawed."""
        self._mock_calls.clear()
        self._patches.clear()
        mock_type: Any = getattr(sys.modules.get("unittest.mock"), "NonCallableMock", None)
        for obj in gc.get_objects():
            kind = type(obj)
            if mock_type is not None and issubclass(kind, mock_type):
                self._remember_mock(obj)
            elif kind is pytest.MonkeyPatch:
                self._patches += [(store, len(store)) for store in (obj._setattr, obj._setitem)]

    def first_call_is_over(self) -> None:
        """What the first call warned of stays in the report, later repetitions do not."""
        self._kept_warnings = len(self._warning_log)

    def before_call(self) -> None:
        """Give a call the empty records that a test starts with."""
        for handler in self._log_handlers:
            if handler.records:
                handler.clear()
        if self._recwarn is not None and self._recwarn.list:
            self._recwarn.clear()

    def empty(self) -> None:
        """Empty all stores; called at rest."""
        self.before_call()
        del self._warning_log[self._kept_warnings :]
        _forget_warnings()
        if self._capture is not None and self._capture.is_globally_capturing():
            self._capture.read_global_capture()
        for reader in self._readers:
            reader.readouterr()
        for calls, length, name in self._mock_calls:
            if len(calls) > length:
                del calls[length:]
                self._mock_names[name] = None
        for store, length in self._patches:
            _drop_repeated(store, length)

    def notes(self) -> list[str]:
        """The mocks whose records were dropped."""
        return [f"unittest.mock recorded every call of {name}: left out" for name in self._mock_names]

    def _remember_mock(self, mock: Any) -> None:
        namespace = object.__getattribute__(mock, "__dict__")
        given = str(namespace.get("_mock_name") or namespace.get("_mock_new_name") or "").strip(".()")
        name = f"{given or 'a mock'} ({type(mock).__name__})"
        self._mock_calls += [
            (value, len(value), name) for value in list(namespace.values()) if type(value).__name__ == "_CallList"
        ]


def _warning_log() -> list[Any]:
    """The list to which pytest's `catch_warnings(record=True)` appends now; an empty one when there is none."""
    append = getattr(warnings, "_showwarnmsg_impl", None)
    log = getattr(append, "__self__", None)
    if log is None and hasattr(warnings, "_get_context"):  # 3.14
        log = getattr(warnings._get_context(), "log", None)
    return log if isinstance(log, list) else []


def _forget_warnings() -> None:
    for module in list(sys.modules.values()):
        registry = getattr(module, "__dict__", {}).get("__warningregistry__")
        if registry:
            registry.clear()


def _drop_repeated(store: list[Any], length: int) -> None:
    """Drop what replaces again what the store holds already: undoing goes back to the first entry anyway."""
    kept = {(id(entry[0]), entry[1]) for entry in store[:length] if isinstance(entry[1], str)}
    store[length:] = [
        entry for entry in store[length:] if not isinstance(entry[1], str) or (id(entry[0]), entry[1]) not in kept
    ]
