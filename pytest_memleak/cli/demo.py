"""`memleak demo`: the bundled shop's tests, red on the shop that leaks and green on its fixed twin."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from pytest_memleak.cli.refusal import refuse
from pytest_memleak.slugs import see

_NEEDED: Final = ("fastapi", "aiosqlite")
_SHOPS: Final = {"leaky_shop": "the shop as it was written", "fixed_shop": "the same shop, fixed"}
_RED, _GREEN = 1, 0


def demo(
    test: str = typer.Option("", "-k", metavar="EXPRESSION", help="Only the tests that match, as pytest's own -k."),
) -> None:
    """Convict the leaks of a bundled shop, clear its fixed twin.

    It runs the tests of both under `pytest --memleak`, in 2 to 2.5 minutes on two cores.

    Exits 0 when every leak was convicted and every fixed endpoint was cleared, 1 when that is not what
    happened, and 2 when something is missing.

    Example: memleak demo -k cart
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        install = "python -m pip install 'pytest-memleak[demo]'"
        refuse("demo", see("missing-extra", f"the demo needs {' and '.join(missing)}: {install}"))
    examples = find_examples()
    if examples is None:
        refuse("demo", "the bundled examples are not installed: reinstall pytest-memleak, or run it in a checkout")
    tests = sorted(_expected(examples))
    with tempfile.TemporaryDirectory(prefix="memleak-demo-") as scratch:
        outcomes = {shop: _run(examples, shop, test, Path(scratch)) for shop in _SHOPS}
    raise typer.Exit(_verdict(outcomes, _expected(examples), tests))


def find_examples() -> Path | None:
    """The folder with the shops: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    candidates = (package / "examples", package.parent / "examples")
    return next((folder for folder in candidates if (folder / "shop_tests").is_dir()), None)


def _run(examples: Path, shop: str, expression: str, scratch: Path) -> dict[str, str]:
    """Measure one shop in a pytest of its own; its outcomes by test."""
    results = scratch / f"{shop}.json"
    typer.secho(f"\n{_SHOPS[shop]}: pytest --memleak shop_tests --shop={shop}\n", bold=True)
    command = [sys.executable, "-m", "pytest", "-p", "pytest_memleak.plugin", "-p", "no:cacheprovider"]
    command += ["--memleak", "--memleak-json", str(results), f"--shop={shop}", "shop_tests"]
    if expression:
        command += ["-k", expression]
    # The user's own pytest options and plugins are for their tests.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, cwd=examples, env=environment, check=False)
    if not results.exists():
        refuse("demo", "pytest did not finish (its output is above): run the demo again, with -k for a single test")
    found: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))["results"]
    return {result["name"]: result["outcome"] for result in found}


def _expected(examples: Path) -> dict[str, bool]:
    """Whether each test leaks in the leaky shop, as the examples themselves say."""
    path = examples / "shop_tests" / "leaks.py"
    spec = importlib.util.spec_from_file_location("memleak_demo_leaks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return {test: leak is not None for test, leak in module.LEAKS.items()}


def _verdict(outcomes: Mapping[str, Mapping[str, str]], leaks: Mapping[str, bool], tests: Sequence[str]) -> int:
    """Compare with what the examples say, and print both sides: 0 when they agree."""
    wrong = []
    measured = [test for test in tests if test in outcomes["leaky_shop"]]
    for test in measured:
        for shop, expected in (("leaky_shop", "LEAK" if leaks[test] else "CLEAN"), ("fixed_shop", "CLEAN")):
            found = outcomes[shop].get(test, "not measured")
            if found != expected:
                wrong.append(f"{test} on {shop}: expected {expected}, found {found}")
    if not measured:
        refuse("demo", "no test matched: leave -k out to run them all")
    convicted = sum(outcomes["leaky_shop"][test] == "LEAK" for test in measured)
    cleared = sum(outcomes["fixed_shop"].get(test) == "CLEAN" for test in measured)
    typer.echo()
    for line in wrong:
        typer.secho(line, fg="red")
    leaking = sum(leaks[test] for test in measured)
    summary = (
        f"{convicted} of {leaking} leaks convicted, {cleared} of {len(measured)} endpoints of the fixed shop clean"
    )
    typer.secho(summary, fg="red" if wrong else "green", bold=True)
    return _RED if wrong else _GREEN
