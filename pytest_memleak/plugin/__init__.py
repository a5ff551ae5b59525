"""The pytest plugin: options, marker and fixtures. Paid by every run, so it imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_memleak import settings
from pytest_memleak.plugin import markers

if TYPE_CHECKING:
    from pytest_memleak.plugin.fixture import Memleak

LAYERS = pytest.StashKey[list[Any]]()
"""The parsed markers of an item, the farthest first."""

CONFIGURED = pytest.StashKey[dict[str, Any]]()
"""What ini file and command line set, parsed."""


class LeakCall:
    """The present call of a measured test: `number` counts from 1; 0 when nothing is measured."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def __repr__(self) -> str:
        return f"LeakCall(number={self.number})"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memleak", "memory leaks (pytest-memleak)")
    for option in settings.ALL_OPTIONS:
        if not option.config:
            continue
        text = _help(option).replace("%", "%%")
        # None is "not given": a default here would hide the ini file's value.
        if option.kind == "flag":
            group.addoption(option.flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif option.kind == "names":
            group.addoption(option.flag, action="append", default=None, metavar="NAME", help=text)
        else:
            group.addoption(option.flag, default=None, metavar=option.kind.upper(), help=text)
        parser.addini(option.ini, text, type=_INI_TYPES[option.kind], default=None)


def _help(option: settings.Option) -> str:
    """What an option does, with its choices, its unit and its default."""
    words = [option.help]
    if option.choices:
        words.append(f"({' or '.join(option.choices)})")
    if option.unit:
        words.append(f"[{option.unit}]")
    if option.kind in ("number", "count", "choice") and option.default is not None:
        words.append(f"(default: {format(option.default, 'g') if option.kind != 'choice' else option.default})")
    return " ".join(words)


_INI_TYPES: dict[str, Any] = {
    "flag": "bool",
    "number": "float",
    "count": "int",
    "text": "string",
    "choice": "string",
    "names": "linelist",
    "duration": "string",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "no_leak(max_mb_per_min=..., max_bytes_per_request=..., ...): with --memleak, the test is repeated and fails "
        "when live memory, objects, file descriptors, threads or tasks grow with its calls; bare: no growth at all. "
        "With duration='30m' or locustfile=...: the test runs once, then its app is served and loaded for that long.",
    )
    config.stash[CONFIGURED] = _configured(config)
    if config.stash[CONFIGURED].get("memleak"):
        from pytest_memleak.plugin.measuring import Measuring

        config.pluginmanager.register(Measuring(config), "memleak-measuring")


def _configured(config: pytest.Config) -> dict[str, Any]:
    """Ini file and command line in one layer, the command line nearer; `ignore` adds up."""
    layers: list[dict[str, Any]] = [{}, {}]
    try:
        for option in settings.ALL_OPTIONS:
            if option.config:
                routes = (
                    (_ini_value(config, option), option.ini),
                    (config.getoption(option.flag), option.flag),
                )
                for layer, (value, spelt) in zip(layers, routes, strict=True):
                    if value is not None:
                        given = _split(value) if option.kind == "names" else value
                        layer[option.name] = settings.parse(option, given, spelt)
    except settings.SettingError as error:
        raise pytest.UsageError(str(error)) from None
    merged = {**layers[0], **layers[1]}
    merged["ignore"] = (*layers[0].get("ignore", ()), *layers[1].get("ignore", ()))
    return merged


def _split(entries: Sequence[str]) -> list[str]:
    """Several names on one line of the ini file; only a file's path may have blanks in it."""
    return [name for entry in entries for name in ([entry] if ":" in entry else entry.split())]


def _ini_value(config: pytest.Config, option: settings.Option) -> Any:
    try:
        return config.getini(option.ini)
    except (ValueError, TypeError, pytest.UsageError) as error:
        raise settings.SettingError(f"{option.ini}: {error}") from None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check every marker, measured or not: a misspelt budget must not be silent until the nightly run."""
    for item in items:
        layers = markers.layers_of(item)
        if layers is not None:
            item.stash[LAYERS] = layers


@pytest.fixture
def leak_call() -> LeakCall:
    """The present call of a measured test; vary the input with its `number`, which is 0 in an ordinary run."""
    return LeakCall()


@pytest.fixture
def memleak(request: pytest.FixtureRequest) -> Memleak:
    """Measure endpoints, `memleak.run(app, "GET /items/{item_id}")`, or soak a served app: `memleak.soak(app)`.

    Without `--memleak` each endpoint is called once, no server is started and nothing is judged.
    """
    from pytest_memleak.plugin.fixture import Memleak

    return Memleak(request)
