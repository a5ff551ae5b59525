"""What the test tools record per call: emptied between calls and at rest, so that it is no growth.

pytest keeps log records, warnings and output; monkeypatch keeps each replaced value; Python keeps a registry
of warnings per module. These are the harness's and never appear. `unittest.mock` keeps every call for the
user's assertions: its records of the measured calls are dropped at rest, and named.
"""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any, Final

import pytest

from pytest_memleak.plugin.mocks import MockRecords, mock_classes
from pytest_memleak.plugin.subtests import SubtestReports
from pytest_memleak.plugin.tracers import ThreadTracers
from pytest_memleak.plugin.undoing import Undoing, undoings

# Each object of the heap is compared with each class: 3 million and 6 classes take 0.02 s, 36 classes 0.05 s.
_FEW: Final = 50
_READERS: Final = ("capsys", "capfd", "capsysbinary", "capfdbinary", "capteesys")


class HarnessStores:
    """The stores of one test. `find` looks for them, `before_call` and `empty` keep them from growing."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
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
        self._readers = [funcargs[name] for name in _READERS if name in funcargs]
        self._reported = [_warning_log(), item.user_properties, *_properties_of_run(manager)]
        # What the first call adds to them stays in the report; None until it is over.
        self._lengths: list[int] | None = None
        self._subtests = SubtestReports(item)
        self._undoings: list[Undoing] | None = None
        self._tracers = ThreadTracers()
        self._mocks = MockRecords()
        self._patches: list[tuple[list[Any], int]] = []

    def find(self) -> None:
        """Look for mocks and monkeypatches in the heap, which must be thawed."""
        kinds = mock_classes()
        # What refers to a class is its instances, found in a tenth of the time; each mock has a class of its own.
        objects = gc.get_objects() if len(kinds) > _FEW else gc.get_referrers(pytest.MonkeyPatch, *kinds)
        self._mocks.find(objects)
        self._patches = [
            (store, len(store))
            for obj in objects
            if type(obj) is pytest.MonkeyPatch
            for store in (obj._setattr, obj._setitem)
        ]

    def before_call(self) -> None:
        """Give a call the state and the empty records that a test starts with."""
        if self._undoings is None:
            self._undoings = undoings(self._item)
            self._subtests.begin()
        else:
            self._call_is_over()
        # Not only at rest: thousands of them would leave the C heap in pieces.
        self._tracers.empty()
        for handler in self._log_handlers:
            if handler.records:
                handler.clear()
        if self._recwarn is not None:
            self._recwarn.clear()
            # As at the start of a test: what has warned before, warns again.
            with warnings.catch_warnings():
                pass

    def empty(self) -> None:
        """Empty all stores; called at rest."""
        self.before_call()
        _forget_warnings()
        if self._capture is not None and self._capture.is_globally_capturing():
            self._capture.read_global_capture()
        for reader in self._readers:
            reader.readouterr()
        self._mocks.empty()
        for store, length in self._patches:
            _drop_repeated(store, length)

    def _first_call_is_over(self) -> None:
        """What the first call warned of and recorded stays in the report, later repetitions do not."""
        if self._lengths is None:
            self._lengths = [len(store) for store in self._reported]

    def notes(self) -> list[str]:
        """The mocks whose records were dropped. Asked for at the end of a measurement."""
        self.end()
        return self._mocks.notes()

    def end(self) -> None:
        """The measurement is over; what is recorded from here on is the test's, or another measurement's."""
        if self._undoings is not None:
            self._call_is_over()
        self._subtests.end()
        self._lengths = None
        self._undoings = None

    def _call_is_over(self) -> None:
        for undoing in self._undoings or ():
            undoing.undo()
        self._subtests.call_is_over()
        self._first_call_is_over()
        for store, length in zip(self._reported, self._lengths or (), strict=True):
            del store[length:]


def _warning_log() -> list[Any]:
    """The list to which pytest's `catch_warnings(record=True)` appends now; an empty one when there is none."""
    append = getattr(warnings, "_showwarnmsg_impl", None)
    log = getattr(append, "__self__", None)
    if log is None and hasattr(warnings, "_get_context"):  # 3.14
        log = getattr(warnings._get_context(), "log", None)
    return log if isinstance(log, list) else []


def _properties_of_run(manager: pytest.PytestPluginManager) -> list[list[Any]]:
    """What `record_testsuite_property` adds to, where JUnit XML is written."""
    # By name: pytest imports the module only where the option is on, and no other plugin's list is ours to cut.
    found = [plugin for plugin in manager.get_plugins() if type(plugin).__name__ == "LogXML"]
    return [plugin.global_properties for plugin in found if hasattr(plugin, "global_properties")]


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
