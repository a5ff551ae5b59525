"""The page of the Python names, which Sphinx's autodoc fills with signatures and docstrings."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Iterator

from pytest_memleak import model, model_soak, monitor, plugin
from pytest_memleak.monitor import tracked
from pytest_memleak.plugin.fixture import EndpointResults, Memleak
from pytest_memleak.plugin.soaked import Soaked

FIXTURES = {"memleak": plugin.memleak, "leak_call": plugin.leak_call}
GIVEN = (Memleak, EndpointResults, Soaked, plugin.LeakCall)
"""What the fixtures give, and what their methods give."""

UNMADE = (*GIVEN, monitor.Monitor)
"""What its users never make, so that they need not know how it is made."""


def page() -> str:
    """What is generated of the page, as Markdown with the directives of autodoc in it."""
    fixtures = "\n\n".join(f"### `{name}`\n\n{inspect.getdoc(fixture)}" for name, fixture in FIXTURES.items())
    parts = {
        "The fixtures": fixtures,
        "What the fixtures give": _classes(GIVEN),
        "The result of a measurement": _classes(reached(model.Result)),
        "The result of a soak": _classes(reached(model_soak.SoakResult) - reached(model.Result)),
        "The monitor of an app": _members(),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items()) + "\n"


def reached(kind: type) -> set[type]:
    """A frozen value's class, and the classes of all that its fields hold."""
    found = {kind}
    if dataclasses.is_dataclass(kind):
        for hint in typing.get_type_hints(kind).values():
            found |= {inner for part in _parts(hint) for inner in reached(part)}
    return found


def _parts(hint: object) -> Iterator[type]:
    """The classes of ours in an annotation."""
    if typing.get_origin(hint) in (tuple, list, dict, typing.Union, types.UnionType):
        for argument in typing.get_args(hint):
            yield from _parts(argument)
    elif isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, enum.Enum)):
        yield hint


def _classes(kinds: typing.Iterable[type]) -> str:
    """Classes in the order of their source, which is from the parts to the whole: the whole first."""
    placed = sorted(kinds, key=lambda kind: (kind.__module__, inspect.getsourcelines(kind)[1]), reverse=True)
    ordered = kinds if isinstance(kinds, tuple) else placed
    return "\n\n".join(_directive("autoclass", f"{kind.__module__}.{kind.__qualname__}") for kind in ordered)


def _members() -> str:
    """The public names of the monitor and of its decorator."""
    names = [f"pytest_memleak.monitor.{name}" for name in monitor.__all__]
    names += [f"{tracked.__name__}.{name}" for name in tracked.__all__ if name not in monitor.__all__]
    kinds = {name: _named(name) for name in names}
    return "\n\n".join(
        _directive("autoclass" if isinstance(kind, type) else "autofunction", name) for name, kind in kinds.items()
    )


def _named(name: str) -> object:
    module = monitor if name.rpartition(".")[0] == monitor.__name__ else tracked
    return getattr(module, name.rpartition(".")[2])


def _directive(directive: str, name: str) -> str:
    options = "   :members:\n" if directive == "autoclass" else ""
    return f"```{{eval-rst}}\n.. {directive}:: {name}\n{options}```"


def as_rst(lines: list[str]) -> list[str]:
    """A docstring, which is plain text with `code` in it, as reStructuredText, where nothing else has a meaning."""
    parts = re.split(r"(`[^`]+`)", "\n".join(lines))
    told = [f"`{part}`" if part.startswith("`") else re.sub(r"([\\*_|`])", r"\\\1", part) for part in parts]
    return "".join(told).split("\n")
