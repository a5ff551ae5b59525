"""Results read back: as they were, or one sentence that says what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from soak_results import LEAKY, UNKNOWN, soaked

from pytest_memleak.model import Outcome
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.soak.folder import FolderError, RunFolder
from pytest_memleak.soak.plan import Plan
from pytest_memleak.soak.results import load_result


def written(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "result",
    [LEAKY, soaked(), soaked(Outcome.INCONCLUSIVE, UNKNOWN, load=None, resources=(), rss_mb_per_min=None)],
    ids=["leak", "clean", "nothing"],
)
def test_a_result_comes_back_from_json_as_it_was(result: SoakResult, tmp_path: Path) -> None:
    found = load_result(written(tmp_path / "result.json", result.to_dict()))
    assert found == result
    assert found.outcome is result.outcome
    assert found.to_dict() == result.to_dict()


def test_every_field_of_a_result_is_in_its_json() -> None:
    assert set(LEAKY.to_dict()) == {"version", *(field.name for field in dataclasses.fields(SoakResult))}


def test_what_a_newer_version_wrote_beside_is_left_out(tmp_path: Path) -> None:
    assert load_result(written(tmp_path / "result.json", {**LEAKY.to_dict(), "tomorrow": 1})) == LEAKY


def test_what_an_older_version_did_not_write_has_its_default(tmp_path: Path) -> None:
    values = LEAKY.to_dict()
    del values["uss_bytes"], values["pauses"]
    found = load_result(written(tmp_path / "result.json", values))
    assert found == dataclasses.replace(LEAKY, uss_bytes=(), pauses=None)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({**LEAKY.to_dict(), "version": 2}, "has version 2, and this memleak reads version 1: soak it again"),
        ({**LEAKY.to_dict(), "version": "1"}, "has version '1', and this memleak reads version 1"),
        ({"name": "shop"}, "has no version, and this memleak reads version 1"),
        ([1, 2], "has no version"),
        (None, "has no version"),
        ({"version": 1, "name": "shop"}, "is not the result of a soak"),
        ({**LEAKY.to_dict(), "outcome": "PERHAPS"}, "is not the result of a soak"),
        ({**LEAKY.to_dict(), "growth": 3}, "is not the result of a soak"),
        ({**LEAKY.to_dict(), "seconds": "long"}, "is not the result of a soak"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(values: Any, sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", values)
    with pytest.raises(FolderError) as caught:
        load_result(path)
    assert str(caught.value).startswith(f"{path} {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"version": 1,'])
def test_a_damaged_file_is_refused_in_one_sentence(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(damage)
    with pytest.raises(FolderError, match="cannot be read as a result") as caught:
        load_result(path)
    assert "\n" not in str(caught.value)


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="does not exist: expects the folder of a run, or its result as JSON"):
        load_result(tmp_path / "nothing")


def test_a_folder_is_judged_by_its_readings_and_not_by_a_result_left_in_it(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", Plan(app="shop.main:app", duration_s=60.0).to_dict())
    folder.append({"kind": "event", "t": 0.0, "event": "started"})
    folder.append({"kind": "event", "t": 1.0, "event": "load_started"})
    for second in range(61):
        folder.append({"kind": "outside", "t": 1.0 + second, "rss_bytes": 100e6, "processes": 1})
    folder.append({"kind": "event", "t": 61.0, "event": "load_over"})
    folder.append({"kind": "event", "t": 61.0, "event": "complete"})
    folder.write_result(LEAKY.to_dict(), "LEAK")
    folder.close()
    found = load_result(tmp_path / "run")
    assert (found.name, found.outcome, found.seconds) == ("shop.main:app", Outcome.CLEAN, 60.0)
    assert found.folder == str(tmp_path / "run")


@pytest.mark.parametrize("plan", ["{", "[]", '{"app": 5}', "{}"])
def test_a_folder_with_a_damaged_plan_is_refused(plan: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(plan)
    with pytest.raises(FolderError, match=r"run\.json"):
        load_result(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="holds no run"):
        load_result(tmp_path)
