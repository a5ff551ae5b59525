"""`unittest.mock` records every call for the user's assertions: dropped at rest, and named."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

# A fixture may make mocks by the thousand: their names would bury the other notes.
_NAMED: Final = 5


def mock_classes() -> list[type]:
    """The classes of all mocks alive; empty where nobody has imported `unittest.mock`."""
    base: Any = getattr(sys.modules.get("unittest.mock"), "NonCallableMock", None)
    kinds: list[type] = [base] if base is not None else []
    for kind in kinds:
        kinds += type.__subclasses__(kind)
    return list(dict.fromkeys(kinds))


class MockRecords:
    """The records of the mocks that the heap has."""

    __slots__ = ("_calls", "_names")

    def __init__(self) -> None:
        self._calls: list[tuple[list[Any], int, str]] = []
        self._names: set[str] = set()

    def find(self, objects: Iterable[Any]) -> None:
        """Look for mocks among `objects`; what they have recorded so far stays."""
        self._calls.clear()
        mock_type: Any = getattr(sys.modules.get("unittest.mock"), "NonCallableMock", None)
        if mock_type is None:
            return
        # A heap has a million objects of a few thousand types. By identity: a metaclass may forbid to hash them.
        others: set[int] = set()
        for obj in objects:
            kind = type(obj)
            if id(kind) in others:
                continue
            if issubclass(kind, mock_type):
                self._remember(obj)
            else:
                others.add(id(kind))

    def empty(self) -> None:
        """Drop what was recorded since `find`."""
        for calls, length, name in self._calls:
            if len(calls) > length:
                del calls[length:]
                if name:
                    self._names.add(name)

    def notes(self) -> list[str]:
        """The mocks whose records were dropped; of many, the first by name."""
        told = sorted(self._names)[:_NAMED]
        rest = len(self._names) - len(told)
        names = told if rest <= 0 else [*told, f"{rest:,} more mocks"]
        return [f"unittest.mock recorded every call of {name}: left out" for name in names]

    def _remember(self, mock: Any) -> None:
        namespace = object.__getattribute__(mock, "__dict__")
        name = ""
        # A call of a mock's attribute or result is recorded up to the mock itself: it names them all.
        if namespace.get("_mock_new_parent") is None:
            name = f"{namespace.get('_mock_name') or 'a mock'} ({type(mock).__name__})"
        self._calls += [
            (value, len(value), name) for value in list(namespace.values()) if type(value).__name__ == "_CallList"
        ]
