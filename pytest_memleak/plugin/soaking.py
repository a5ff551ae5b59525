"""Soaks of a measured run: of a marked test after its body, and of the fixture; imported by them alone."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import sysconfig
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_memleak import settings
from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.plugin import soak_lines, soak_plans
from pytest_memleak.plugin.measuring import SOAKS, LeakFound, Measuring, command_again
from pytest_memleak.reports import soak_text, text
from pytest_memleak.settings import SettingError, SoakSettings
from pytest_memleak.soak.folder import FolderError, records
from pytest_memleak.soak.plan import Plan, PlanError
from pytest_memleak.soak.tree import StartError
from pytest_memleak.workloads.load import LoadError

_NO_CANARY: Final = "--memleak-canary plants its leaks in this process, and the app of a soak runs in another"


def marked(
    measuring: Measuring, item: pytest.Item, layers: Sequence[Mapping[str, Any]]
) -> Generator[None, object, object]:
    """Run a marked test once, then soak its app, and raise what the verdict means for it."""
    if measuring.canary:
        yield
        pytest.skip(_NO_CANARY)
    asked = settings.merge_soak(measuring.configured, *layers)
    try:
        # Before its body: what is asked wrongly should not be told after half a minute.
        plan = soak_plans.plan_of(item, asked)
    except SettingError as error:
        raise pytest.fail.Exception(f"{item.name} cannot be soaked: {error}", pytrace=False) from None
    outcome = yield
    result = carry_out(measuring, item, plan, asked)
    if result.outcome is Outcome.LEAK:
        raise_leak(measuring, item, result)
    return outcome


def carry_out(measuring: Measuring, item: pytest.Item, plan: Plan, asked: SoakSettings) -> SoakResult:
    """Soak, record the result, and raise what is no verdict: a failure, or with the option INCONCLUSIVE."""
    if measuring.canary:
        pytest.skip(_NO_CANARY)
    # Here, for it imports numpy: a plan is made first, which says what is not installed.
    from pytest_memleak.soak import act

    name = _name(item)
    try:
        with _importing_as_here():
            result = act.soak(plan, lambda progress: measuring.summary.progress(soak_lines.progress_line(progress)))
    except (PlanError, StartError, LoadError, FolderError) as error:
        raise pytest.fail.Exception(f"{name} could not be soaked: {error}", pytrace=False) from None
    finally:
        measuring.summary.progress("")
    if asked.reason:
        result = dataclasses.replace(result, notes=(f"the limit's reason: {asked.reason}", *result.notes))
    _record(item, name, result)
    if _was_interrupted(result):
        # The soak has heard it and ended in order; the run of the tests ends too, and tells what was seen.
        soaks: list[Any] = item.stash[SOAKS]
        measuring.summary.add([], soaks)
        raise KeyboardInterrupt
    if result.failure and result.outcome is not Outcome.LEAK:
        pytest.fail(f"the soak of {name} failed: {result.failure} (kept in {result.folder})", pytrace=False)
    if result.outcome is Outcome.INCONCLUSIVE and measuring.configured.get("inconclusive", "warn") == "fail":
        raise_leak(measuring, item, result)
    return result


def raise_leak(measuring: Measuring, item: pytest.Item, result: SoakResult) -> None:
    """Fail a test with the whole report of its soak."""
    width = measuring.summary.width()
    lines = [soak_text.explain(result, width=width)]
    lines += text.field("again", command_again(item), width, wrap=False)
    raise LeakFound("\n".join(lines), soak_text.sentence(result))


def _name(item: pytest.Item) -> str:
    """The test's name; its second soak and those after it have a number."""
    number = len(item.stash[SOAKS]) + 1
    return item.name if number == 1 else f"{item.name} ({number})"


def _record(item: pytest.Item, name: str, result: SoakResult) -> None:
    """Keep a result for the report, and its figures for JUnit XML."""
    values = {"test": name, "nodeid": item.nodeid, **result.to_dict()}
    item.stash[SOAKS].append(values)
    prefix = "memleak soak" + name.removeprefix(item.name)
    item.user_properties += [
        (f"{prefix} verdict", result.outcome.value),
        (f"{prefix} growth", soak_lines.growth_words(values)),
        (f"{prefix} seconds", f"{result.seconds:.0f}"),
        (f"{prefix} folder", result.folder),
    ]


def _was_interrupted(result: SoakResult) -> bool:
    found = records(Path(result.folder)) if result.folder else ()
    return any(record.get("event") == "interrupted" for record in found)


@contextlib.contextmanager
def _importing_as_here() -> Iterator[None]:
    """Let the server and the load import what the tests can: `pythonpath`, `rootdir`, the folders of conftests.

    What belongs to this Python is left out: the server may run under another.
    """
    before = os.environ.get("PYTHONPATH")
    own = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own.add(os.path.realpath(Path(sysconfig.get_path("platstdlib")) / "lib-dynload"))
    folders = [str(Path(folder).absolute()) for folder in sys.path if Path(folder).is_dir()]
    folders = [folder for folder in folders if os.path.realpath(folder) not in own]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*folders, *filter(None, [before])]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
