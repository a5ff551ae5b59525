"""The recipes for CI: valid by the published schemas, shown as they are, red on a leak and green without it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from docs_support import ROOT, blocks

pytest.importorskip("check_jsonschema")
pytest.importorskip("pre_commit")
pytest.importorskip("tox")

CI = ROOT / "examples" / "ci"
PYTHON = shlex.quote(sys.executable)

LEAKY = """
import gc

from fastapi import FastAPI

app = FastAPI()
seen: list[bytes] = []


@app.get("/items/{n}")
async def read_item(n: int) -> int:
    seen.append(b"x" * (2_000 + n % 7))
    return n


# What is loaded is not collected again: a reading pauses shorter, so that a soak of seconds has enough of them.
gc.freeze()
"""

APPS = {"leaky": LEAKY, "fixed": LEAKY.replace("seen: list[bytes] = []\n", "").replace("seen.append", "len")}

TEST = """
from app.main import app


def test_items(memleak):
    memleak.run(app, "GET /items/{n}").assert_no_leak()
"""

SHORT = {"SOAK_DURATION": "25s", "SOAK_LIMIT": "20"}
"""For the variables that the recipes offer. The leak is above 100 MB/min; seconds bound what is none no closer."""

PATIENCE_S = 300

EACH_APP = pytest.mark.parametrize("kind, code", [("leaky", 1), ("fixed", 0)])


def read(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text(encoding="utf-8"))


def github(name: str, job: str) -> list[str]:
    """What a job of a workflow runs in the shell."""
    return [step["run"] for step in read(name)["jobs"][job]["steps"] if "run" in step]


def gitlab(job: str) -> list[str]:
    script: list[str] = read("gitlab-ci.yml")[job]["script"]
    return script


def environment(more: Mapping[str, str] = {}) -> dict[str, str]:
    """This interpreter's programs, and no index: what a recipe installs is there, ours in the place of PyPI's."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore", "COLUMNS": "200", **more}


def start(folder: Path, *commands: str, more: Mapping[str, str] = SHORT) -> subprocess.Popen[str]:
    """Run commands as a runner of CI does: one after the other, up to the first that fails."""
    script = ["sh", "-e", "-c", "\n".join(commands)]
    out, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(script, cwd=folder, env=environment(more), text=True, stdout=out, stderr=both)


def end(running: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        text, _ = running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()
    return running.returncode, text


def run(folder: Path, *commands: str) -> tuple[int, str]:
    """The exit code, and all that was printed."""
    return end(start(folder, *commands))


def project(folder: Path, kind: str) -> Path:
    """A project as the page asks for it, with a leak or without."""
    files = {
        "app/__init__.py": "",
        "app/main.py": APPS[kind],
        "tests/test_items.py": TEST,
        "requirements.txt": "fastapi\n",
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = "-p no:randomly -p no:memray"\n',
    }
    for name, text in files.items():
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / kind


def tox_commands(folder: Path) -> dict[str, str]:
    """What tox runs in each environment, as tox itself reads its recipe."""
    (folder / "tox.ini").write_text((CI / "tox.ini").read_text(encoding="utf-8"), encoding="utf-8")
    code, text = run(folder, f"{PYTHON} -m tox config -e memleak,scan,soak -k commands 2>/dev/null")
    assert code == 0, text
    told = configparser.ConfigParser(interpolation=None)
    told.read_string(text)
    return {name.removeprefix("testenv:"): told[name]["commands"].strip() for name in told.sections()}


def test_the_page_shows_the_files_as_they_are() -> None:
    page = ROOT / "docs" / "ci.md"
    shown = [*blocks(page, "yaml"), *blocks(page, "ini")]
    assert sorted(shown) == sorted(path.read_text(encoding="utf-8") for path in CI.iterdir())


@pytest.mark.parametrize(
    "schema, name",
    [
        ("vendor.github-workflows", "github-memleak.yml"),
        ("vendor.github-workflows", "github-soak.yml"),
        ("vendor.gitlab-ci", "gitlab-ci.yml"),
    ],
)
def test_a_recipe_is_valid_and_a_broken_one_is_not(schema: str, name: str, tmp_path: Path) -> None:
    check = f"{PYTHON} -m check_jsonschema --builtin-schema {schema}"
    broken = re.sub(r"\b(runs-on|script):", "wrong:", (CI / name).read_text(encoding="utf-8"))
    (tmp_path / "broken.yml").write_text(broken, encoding="utf-8")
    code, text = run(tmp_path, f"{check} {shlex.quote(str(CI / name))}")
    assert code == 0, text
    assert run(tmp_path, f"{check} broken.yml")[0] == 1


def test_the_configurations_of_pre_commit_are_valid(tmp_path: Path) -> None:
    own = shlex.quote(str(ROOT / ".pre-commit-hooks.yaml"))
    recipe = shlex.quote(str(CI / "pre-commit-config.yaml"))
    code, text = run(
        tmp_path, f"{PYTHON} -m pre_commit validate-manifest {own}", f"{PYTHON} -m pre_commit validate-config {recipe}"
    )
    assert code == 0, text


def test_the_workflows_are_given_no_more_than_they_need() -> None:
    for name in ("github-memleak.yml", "github-soak.yml"):
        assert read(name)["permissions"] == {"contents": "read"}
        for job, work in read(name)["jobs"].items():
            assert work.get("permissions", {}).keys() <= {"contents", "security-events"}
            assert "timeout-minutes" in work
            assert [step["uses"] for step in work["steps"] if not re.search("@v\\d+$", step.get("uses", "@v1"))] == []
            assert ("security-events" in work.get("permissions", {})) == (job == "scan")


def test_all_recipes_run_the_same_commands(tmp_path: Path) -> None:
    told = tox_commands(tmp_path)
    assert gitlab("gate") == github("github-memleak.yml", "gate")
    assert told["memleak"] == gitlab("gate")[-1]
    assert gitlab("scan") == github("github-memleak.yml", "scan")
    assert gitlab("scan")[-1].startswith(told["scan"])
    assert read("pre-commit-config.yaml")["repos"][0]["hooks"][0]["entry"] == told["scan"]
    assert gitlab("soak") == github("github-soak.yml", "soak")
    filled = gitlab("soak")[-1]
    for name, value in SHORT.items():
        assert name in read("gitlab-ci.yml")["variables"]
        assert name in read("github-soak.yml")["env"]
        filled = filled.replace(f'"${name}"', value)
    assert shlex.split(filled)[:-1] == shlex.split(told["soak"])[:-1]


@EACH_APP
def test_the_gate_and_the_scan(kind: str, code: int, tmp_path: Path) -> None:
    folder = project(tmp_path, kind)
    *install, measure = gitlab("gate")
    assert run(folder, *install)[0] == 0
    found, text = run(folder, measure)
    assert found == code, text
    (result,) = json.loads((folder / "memory.json").read_text(encoding="utf-8"))["results"]
    assert result["outcome"] == {"leaky": "LEAK", "fixed": "CLEAN"}[kind], text
    suite = next(ElementTree.parse(folder / "memory.xml").iter("testsuite"))
    assert suite.attrib["failures"] == str(code)
    *install, scan = gitlab("scan")
    assert run(folder, *install)[0] == 0
    found, text = run(folder, scan)
    assert found == code, text
    log = json.loads((folder / "memleak.sarif").read_text(encoding="utf-8"))
    assert [one["ruleId"] for one in log["runs"][0]["results"]] == ["MLK002"] * code


def test_the_soak(tmp_path: Path) -> None:
    folders = {kind: project(tmp_path, kind) for kind in APPS}
    soak = gitlab("soak")
    running = {kind: start(folder, *soak) for kind, folder in folders.items()}
    ended = {kind: end(one) for kind, one in running.items()}
    assert {kind: code for kind, (code, _) in ended.items()} == {"leaky": 1, "fixed": 0}, ended
    assert "in GET /items/{n}" in ended["leaky"][1]
    assert (folders["fixed"] / "soak" / "result.json").exists()


@EACH_APP
def test_the_hook_of_pre_commit(kind: str, code: int, tmp_path: Path) -> None:
    folder = project(tmp_path, kind)
    text = (CI / "pre-commit-config.yaml").read_text(encoding="utf-8")
    # What is installed here in the place of an environment with PyPI's.
    ours = text.replace("language: python", "language: system").replace("additional_dependencies: [pytest-memleak]", "")
    (folder / ".pre-commit-config.yaml").write_text(ours, encoding="utf-8")
    quiet = {"PRE_COMMIT_HOME": str(tmp_path / "cache"), "GIT_CONFIG_GLOBAL": os.devnull}
    check = f"git init -q; git add --all; {PYTHON} -m pre_commit run --all-files"
    found, told = end(start(folder, check, more=quiet))
    assert found == code, told
    assert ("MLK002" in told) == bool(code)
