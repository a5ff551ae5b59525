"""The extras of this package, as its own metadata lists them, and what of them is installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Final

from packaging.requirements import Requirement

from pytest_memleak.model_doctor import Extra, Package, State

DISTRIBUTION: Final = "pytest-memleak"

SERVES: Final = {
    "fastapi": "tests through FastAPI's TestClient",
    "native": "the line behind growth of the C heap",
    "demo": "memleak demo",
    "locust": "memleak soak and verify, @pytest.mark.no_leak(duration=…)",
    "watch": "memleak detect, dashboard, track-objects, analyze-logs, fleet and report",
    "monitor": "setup_memory_monitoring",
    "scan": "memleak scan-code --fix",
}
"""What does not work without an extra. `all` serves nothing of its own."""


def find_extras() -> list[Extra]:
    """Each extra with its packages; none where this package is not installed itself."""
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return []
    asked = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    names = [name for name in metadata.get_all("Provides-Extra") or [] if name in SERVES]
    return [_extra(name, asked) for name in sorted(names)]


def pip_command(missing: list[str], known: int) -> str:
    """The command that installs some extras; `known` is how many there are in all."""
    words = "all" if len(missing) == known else ",".join(missing)
    return f"python -m pip install '{DISTRIBUTION}[{words}]'"


def _extra(name: str, asked: list[Requirement]) -> Extra:
    packages = tuple(dict.fromkeys(_package(one) for one in _of_extra(name, asked)))
    if not packages:
        state = State.NOT_HERE
    else:
        state = State.WORKS if all(package.fits for package in packages) else State.MISSING
    return Extra(name=name, state=state, packages=packages, serves=SERVES[name])


def _of_extra(name: str, asked: list[Requirement]) -> Iterator[Requirement]:
    """What an extra asks for on this platform, other extras of ours resolved."""
    for one in asked:
        # Without an extra the requirement is the package's own.
        if one.marker is None or one.marker.evaluate({"extra": ""}) or not one.marker.evaluate({"extra": name}):
            continue
        if one.name == DISTRIBUTION:
            for other in sorted(one.extras):
                yield from _of_extra(other, asked)
        else:
            yield one


def _package(asked: Requirement) -> Package:
    try:
        version = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    fits = bool(version) and asked.specifier.contains(version, prereleases=True)
    return Package(name=asked.name, version=version, wanted=str(asked.specifier), fits=fits)
