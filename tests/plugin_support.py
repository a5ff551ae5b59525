"""What the tests of the plugin share: inner runs of pytest, and hunts with a scripted end."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Collection
from typing import Any

import pytest

# Inner runs in this process forget what they imported; these would be imported again beside their old selves.
import pytest_memleak.plugin.fixture
import pytest_memleak.plugin.measuring
import pytest_memleak.plugin.runs  # noqa: F401

RESULTS_FILE = "results.json"

ABSENT = ("randomly", "hypothesispytest", "memray", "pytest_cov")
"""The first shuffles; the second takes a second to import itself at the end of every run."""

SCRIPTED = """
    import dataclasses
    import json
    from pathlib import Path

    from pytest_memleak.hunt import hunt
    from pytest_memleak.model import (
        Frame, Growth, Holder, Judgement, Leak, Outcome, Resource, Result, Round, RssAccount, Site
    )
    from pytest_memleak.plugin import measuring, runs
    from pytest_memleak.workloads.steps import Calls

    SETTINGS = {}

    def leaks(name):
        holder = Holder(
            name="shop.cache.SEEN", kind="dict", entries_per_call=1.0, length=4000, retained_bytes=64_000,
            path=("shop", ".cache", ".SEEN"), suspect=2,
        )
        site = Site(frame=Frame(path="shop/cache.py", line=17, function="remember", source="SEEN[key] = [key]"))
        return (
            Leak(
                what="list", resource=Resource.MEMORY, count_per_call=1.0, bytes_per_call=64.0, sites=(site,),
                holder=holder, pattern="unbounded_cache", fix="bound it: " + "cachetools.TTLCache " * 9,
            ),
        )

    def scripted_hunt(name, settings, **rest):
        SETTINGS[name] = dataclasses.asdict(settings)
        Path("settings.json").write_text(json.dumps(SETTINGS))
        yield Calls(1, 3)
        outcome = next((outcome for outcome in Outcome if outcome.value.lower() in name), Outcome.CLEAN)
        growth = Growth(per_call=64.0, low=60.0, high=68.0) if outcome is Outcome.LEAK else Growth(
            per_call=0.0, low=0.0, high=0.0
        )
        return Result(
            name=name, outcome=outcome, budget=settings.budget(), calls=3000, rounds=6, seconds=1.25,
            judgements=(
                Judgement(resource=Resource.MEMORY, outcome=outcome, growth=growth, limit=0.0, why="as scripted"),
            ),
            leaks=leaks(name) if outcome is Outcome.LEAK else (),
            sensitivity="no leak above 0.02 objects or 3 B a request (99 %)" if outcome is Outcome.CLEAN else "",
            why="as scripted", unit="call", reason=settings.reason,
            rss=RssAccount(rss_bytes=8192, uss_bytes=8192, native_bytes=4096),
            table=tuple(Round(calls=n * 500, blocks=n, objects=n, native_bytes=n, rss_bytes=n) for n in range(7)),
        )

    def pytest_configure():
        measuring.hunt = runs.hunt = scripted_hunt

    def pytest_unconfigure():
        measuring.hunt = runs.hunt = hunt
"""
"""A conftest whose hunts make three calls and end as the test's name says: "leak", "inconclusive" or clean.

What they were told is in `settings.json`. For what the plugin does with a result, whatever measured it.
"""


def knows_loop_scope() -> bool:
    """Whether the installed pytest-asyncio has the option whose absence it warns of."""
    version = importlib.metadata.version("pytest-asyncio").split(".")
    return (int(version[0]), int(version[1])) >= (0, 24)


def pytest_version() -> tuple[int, ...]:
    """Major and minor version of the pytest that runs."""
    return tuple(int(part) for part in pytest.__version__.split(".")[:2])


def write_ini(pytester: pytest.Pytester, *lines: str) -> None:
    """An ini file of these lines, beside the one that silences pytest-asyncio."""
    scope = ["asyncio_default_fixture_loop_scope = function"] if knows_loop_scope() else []
    pytester.makefile(".ini", pytest="\n".join(["[pytest]", *scope, *lines]) + "\n")


def run(pytester: pytest.Pytester, *arguments: str, absent: Collection[str] = ABSENT) -> pytest.RunResult:
    """Run the inner tests in a process of their own, under a default ini file unless there is a configuration.

    `absent` are the plugins that are not loaded.
    """
    _configure(pytester)
    return pytester.runpytest_subprocess(*(f"-pno:{plugin}" for plugin in absent), *arguments)


def rehearse(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the inner tests in this process, where starting costs nothing, with scripted hunts."""
    _configure(pytester)
    pytester.makeconftest(SCRIPTED)
    # The filters of the outer run hold in here too, and make errors of warnings.
    return pytester.runpytest_inprocess("-Wdefault", *(f"-pno:{plugin}" for plugin in ABSENT), *arguments)


def _configure(pytester: pytest.Pytester) -> None:
    if not any((pytester.path / name).exists() for name in ("pytest.ini", "pyproject.toml", "pytest.toml")):
        write_ini(pytester)


def measure(pytester: pytest.Pytester, *arguments: str, absent: Collection[str] = ABSENT) -> pytest.RunResult:
    """Run the inner tests with `--memleak`; the results are in a file for `results`."""
    return run(pytester, "--memleak", f"--memleak-json={RESULTS_FILE}", *arguments, absent=absent)


def results(pytester: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """What the run just made has measured, by name."""
    written = json.loads((pytester.path / RESULTS_FILE).read_text(encoding="utf-8"))
    return {result["name"]: result for result in written["results"]}


def outcomes(pytester: pytest.Pytester) -> dict[str, str]:
    """The verdicts of the run just made, by name."""
    return {name: result["outcome"] for name, result in results(pytester).items()}


def told_settings(pytester: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """The settings that the scripted hunts of the run just made were told, by name."""
    told: dict[str, dict[str, Any]] = json.loads((pytester.path / "settings.json").read_text(encoding="utf-8"))
    return told


def output_of(result: pytest.RunResult) -> str:
    """Both streams of an inner run as one text."""
    return f"{result.stdout.str()}\n{result.stderr.str()}"


def words_of(result: pytest.RunResult) -> str:
    """An inner run's output with all line breaks undone, since sentences wrap where the terminal ends."""
    return " ".join(output_of(result).split())


def plain(line: str) -> str:
    """A line without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", line)


def lines_of_section(result: pytest.RunResult, title: str) -> list[str]:
    """The lines below one of pytest's `=== title ===`, up to the next of them."""
    lines: list[str] = []
    inside = False
    for line in result.stdout.lines:
        if plain(line).startswith("=") and plain(line).endswith("="):
            inside = f" {title} " in line
        elif inside:
            lines.append(line)
    return lines


def failures_of(result: pytest.RunResult) -> dict[str, list[str]]:
    """What was told of each failing test, by its name."""
    told: dict[str, list[str]] = {}
    for line in lines_of_section(result, "FAILURES"):
        title = re.fullmatch(r"_+ (\S+) _+", line)
        if title:
            told[title[1]] = []
        else:
            told[next(reversed(told))].append(line)
    return told
