"""Mocks record every call for the user's assertions: their records are dropped at rest, and named.

`unittest.mock`, and the mocks of HTTP that services are tested with: respx, pytest-httpx, responses, requests-mock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

# A fixture may make mocks by the thousand: their names would bury the other notes.
_TOLD: Final = 5

_MOCK: Final = ("unittest.mock", "NonCallableMock")

# Module and class of what keeps requests or the answers to them, the attribute with its list (empty: it is one
# itself), and what is said of it.
_HTTP: Final = (
    ("respx.models", "CallList", "", "respx recorded every request"),
    ("pytest_httpx._httpx_mock", "HTTPXMock", "_requests", "pytest-httpx recorded every request"),
    ("pytest_httpx._httpx_mock", "HTTPXMock", "_callbacks", "pytest-httpx kept every call's answers"),
    ("responses", "CallList", "_calls", "responses recorded every request"),
    ("responses.registries", "FirstMatchRegistry", "_responses", "responses kept every call's answers"),
    ("requests_mock.adapter", "_RequestHistoryTracker", "request_history", "requests-mock recorded every request"),
    ("requests_mock.adapter", "Adapter", "_matchers", "requests-mock kept every call's answers"),
)


def _loaded(module: str, name: str) -> list[type]:
    found = getattr(sys.modules.get(module), name, None)
    return [found] if isinstance(found, type) else []


def mock_classes() -> list[type]:
    """The classes of all mocks alive; empty where nobody has imported a library of mocks."""
    kinds = _loaded(*_MOCK)
    for module, name, _, _ in _HTTP:
        kinds += _loaded(module, name)
    for kind in kinds:
        kinds += type.__subclasses__(kind)
    return list(dict.fromkeys(kinds))


class MockRecords:
    """The records of the mocks that the heap has."""

    __slots__ = ("_calls", "_said")

    def __init__(self) -> None:
        self._calls: list[tuple[list[Any], int, str]] = []
        self._said: set[str] = set()

    def find(self, objects: Iterable[Any]) -> None:
        """Look for mocks among `objects`; what they have recorded so far stays."""
        self._calls.clear()
        http = [(kind, attribute, said) for module, name, attribute, said in _HTTP for kind in _loaded(module, name)]
        all_types = (*_loaded(*_MOCK), *(kind for kind, _, _ in http))
        if not all_types:
            return
        # A heap has a million objects of a few thousand types. By identity: a metaclass may forbid to hash them.
        others: set[int] = set()
        for obj in objects:
            kind = type(obj)
            if id(kind) in others:
                continue
            if not issubclass(kind, all_types):
                others.add(id(kind))
                continue
            lists = [
                (getattr(obj, attribute, None) if attribute else obj, said)
                for owner, attribute, said in http
                if issubclass(kind, owner)
            ]
            self._calls += [(kept, len(kept), said) for kept, said in lists if isinstance(kept, list)]
            if not lists:
                self._remember(obj)

    def empty(self) -> None:
        """Drop what was recorded since `find`."""
        for calls, length, said in self._calls:
            if len(calls) > length:
                del calls[length:]
                if said:
                    self._said.add(said)

    def notes(self) -> list[str]:
        """The mocks whose records were dropped; of many, the first by name."""
        told = sorted(self._said)[:_TOLD]
        rest = len(self._said) - len(told)
        if rest > 0:
            told.append(f"unittest.mock recorded every call of {rest:,} more mocks")
        return [f"{said}: left out" for said in told]

    def _remember(self, mock: Any) -> None:
        namespace = object.__getattribute__(mock, "__dict__")
        said = ""
        # A call of a mock's attribute or result is recorded up to the mock itself: it names them all.
        if namespace.get("_mock_new_parent") is None:
            name = f"{namespace.get('_mock_name') or 'a mock'} ({type(mock).__name__})"
            said = f"unittest.mock recorded every call of {name}"
        self._calls += [
            (value, len(value), said) for value in list(namespace.values()) if type(value).__name__ == "_CallList"
        ]
