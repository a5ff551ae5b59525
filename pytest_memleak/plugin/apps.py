"""The name by which a server imports the app of a test: `shop.main:app`, out of the object that the test has."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_memleak.settings import SettingError
from pytest_memleak.workloads import clients

_GIVE = "give app='shop.main:app', or app='shop.main:create_app()' for a factory"


def app_of_test(item: pytest.Item) -> str:
    """The name of the app that a test's fixtures hold, or else its globals. Raises SettingError."""
    for place, values in (("fixture", getattr(item, "funcargs", {})), ("global", _globals_of(item))):
        found = _apps(values)
        if len(found) > 1:
            names = ", ".join(name for name, _ in found.values())
            raise SettingError(f"the test has {len(found)} apps ({names}): {_GIVE}")
        for name, app in found.values():
            return import_name(app, f"the app of the {place} {name!r}")
    raise SettingError(f"no fixture of the test holds an ASGI app or a client of one: {_GIVE}")


def import_name(app: object, spelt: str) -> str:
    """The shortest `module:attribute` that is this very object in a fresh process. Raises SettingError."""
    app = clients.app_of(app) if clients.is_test_client(app) else app
    names: list[tuple[str, str]] = []
    for module_name, loaded in list(sys.modules.items()):
        # Not getattr: a module of lazy attributes would import them.
        attributes = getattr(loaded, "__dict__", None)
        if module_name != "__main__" and isinstance(attributes, dict):
            names += [(module_name, name) for name, value in list(attributes.items()) if value is app]
    names = [(module, name) for module, name in names if is_importable(module)]
    if not names:
        raise SettingError(f"{spelt} is no attribute of a module that a server could import: {_GIVE}")
    module, name = min(names, key=lambda found: (_is_of_tests(found[0]), len(found[0] + found[1]), found))
    return f"{module}:{name}"


def is_importable(module_name: str) -> bool:
    """Whether a fresh process with our `sys.path` would import this module from the same file."""
    module = sys.modules[module_name]
    file = getattr(module, "__file__", None)
    path: Any = getattr(sys.modules.get(module_name.rpartition(".")[0]), "__path__", None)
    for finder in sys.meta_path:
        # pytest's own finder is not there.
        if type(finder).__name__ != "AssertionRewritingHook" and hasattr(finder, "find_spec"):
            try:
                spec = finder.find_spec(module_name, path)
            except (ImportError, AttributeError, ValueError):
                continue
            if spec is not None:
                return file is not None and spec.origin == file
    return False


def _is_of_tests(module_name: str) -> bool:
    last = module_name.rpartition(".")[2]
    return last == "conftest" or last.startswith("test_") or last.endswith("_test")


def _apps(values: Mapping[str, Any]) -> dict[int, tuple[str, object]]:
    """The different apps among values, by identity, each with the name of the first value that has it."""
    found: dict[int, tuple[str, object]] = {}
    for name, value in values.items():
        for app in _app_in(value):
            found.setdefault(id(app), (name, app))
    return found


def _app_in(value: Any) -> Iterator[object]:
    if clients.is_test_client(value):
        yield clients.app_of(value)
    elif _is_asgi_app(value):
        yield value
    else:
        # httpx's AsyncClient with an ASGITransport, which has the app.
        app = getattr(getattr(value, "_transport", None), "app", None)
        if _is_asgi_app(app):
            yield app


def _is_asgi_app(value: Any) -> bool:
    """A coroutine function of scope, receive and send, or an object whose call is one."""
    if value is None or isinstance(value, (type, types.ModuleType)):
        return False
    call = value if inspect.isfunction(value) else inspect.getattr_static(type(value), "__call__", None)
    if not (inspect.isfunction(call) and inspect.iscoroutinefunction(call)):
        return False
    names = call.__code__.co_varnames[: call.__code__.co_argcount]
    return names[-3:] == ("scope", "receive", "send")


def _globals_of(item: pytest.Item) -> dict[str, Any]:
    """The globals that a test's function names."""
    if not isinstance(item, pytest.Function):
        return {}
    function: Any = inspect.unwrap(item.function)
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    return {name: function.__globals__[name] for name in names if name in function.__globals__}
