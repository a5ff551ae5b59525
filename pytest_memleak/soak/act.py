"""The acts of a soak: carry one out, go on with one, judge one again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest_memleak.soak.one_thread as one_thread  # noqa: F401  (first: it decides how numpy computes)
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.reports import soak_text
from pytest_memleak.soak.folder import RUN, FolderError, RunFolder, read_plan, records
from pytest_memleak.soak.judge import judge
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan, PlanError
from pytest_memleak.soak.recorder import Progress
from pytest_memleak.soak.run import Soak

_WIDTH: Final = 100
"""Columns of the report that is kept."""


def soak(plan: Plan, progress: Callable[[Progress], None]) -> SoakResult:
    """Carry out a checked plan in a new folder.

    Raises PlanError, StartError, LoadError or FolderError, each one sentence, when it could not begin.
    """
    folder = RunFolder.create(Path(plan.folder), plan.to_dict())
    return _run(plan, folder, progress, Recorded())


def resume(path: Path, progress: Callable[[Progress], None]) -> SoakResult:
    """Go on with a run that ended early, for the time that is left of it. Raises as `soak` does."""
    plan = _read_plan(path)
    past = read_back(path)
    if past.is_complete:
        raise FolderError(f"{path} has run its whole time: nothing is left of it (memleak report shows it)")
    return _run(plan, RunFolder.reopen(path), progress, past)


def review(path: Path) -> SoakResult:
    """Judge a run again by what it recorded. Raises FolderError."""
    plan = _read_plan(path)
    return judge(read_back(path), plan, folder=str(path))


def read_back(path: Path) -> Recorded:
    """All that a run has recorded."""
    recorded = Recorded()
    for record in records(path):
        recorded.add(record)
    return recorded


def _read_plan(path: Path) -> Plan:
    values = read_plan(path)
    try:
        return Plan.from_dict(values)
    except PlanError as error:
        raise FolderError(f"{path / RUN} is not the plan of a run ({error})") from None


def _run(plan: Plan, folder: RunFolder, progress: Callable[[Progress], None], past: Recorded) -> SoakResult:
    try:
        soaking = Soak(plan, folder, progress, past)
        result = soaking.run()
    finally:
        folder.close()
    trouble = folder.write_result(result.to_dict(), soak_text.explain(result, width=_WIDTH))
    return dataclasses.replace(result, notes=(*result.notes, trouble)) if trouble else result
