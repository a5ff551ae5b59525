"""The check-up: each probe sees what is allocated for it, and what is missing ends in the command that brings it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from pytest_memleak import cli
from pytest_memleak.doctor import extras, looking, trials
from pytest_memleak.inspection import rights
from pytest_memleak.model_doctor import Checkup, Extra, Package, State, Tried
from pytest_memleak.reports import doctor_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # pytest brings it to 3.10

ROOT = Path(__file__).resolve().parent.parent

WORKS = Tried(name="RSS", state=State.WORKS, said="32 MB made, 32 MB seen", serves="detect", is_core=True)
BLIND = Tried(name="tracemalloc", state=State.MISSING, said="nothing seen", serves="the line of a leak", is_core=True)
NO_GDB = Tried(
    name="gdb", state=State.MISSING, said="gdb is not installed", serves="track-objects", install="apt-get install gdb"
)
REFUSED = Tried(name="gdb", state=State.MISSING, said="not allowed", serves="track-objects")
NEW = Tried(name="sys.remote_exec", state=State.NOT_HERE, said="Python has it from 3.14 on", serves="track-objects")
SCAN = Extra(
    name="scan",
    state=State.MISSING,
    packages=(Package(name="libcst", version="", wanted=">=1.1", fits=False),),
    serves="memleak scan-code --fix",
)
OLD = Extra(
    name="native",
    state=State.MISSING,
    packages=(Package(name="memray", version="1.0", wanted=">=1.15", fits=False),),
    serves="the line behind growth of the C heap",
)
WATCH = Extra(
    name="watch",
    state=State.WORKS,
    packages=(
        Package(name="httpx", version="0.28.1", wanted=">=0.25.1", fits=True),
        Package(name="numpy", version="2.5.5", wanted=">=1.24", fits=True),
        Package(name="scipy", version="1.18.1", wanted=">=1.10", fits=True),
        Package(name="zstandard", version="0.25.0", wanted=">=0.21", fits=True),
    ),
    serves="memleak detect",
)


def checkup(probes: Sequence[Tried], known: Sequence[Extra] = (WATCH,), install: Sequence[str] = ()) -> Checkup:
    where = ("pytest-memleak 0.1.0", "CPython 3.12.1", "Linux 6.18.44-long-name-of-a-kernel", "glibc 2.36", "2 cores")
    return Checkup(where=where, probes=tuple(probes), extras=tuple(known), install=tuple(install))


def test_the_whole_report_of_a_machine_that_lacks_something() -> None:
    install = ["python -m pip install 'pytest-memleak[scan,native]'", "apt-get install gdb"]
    found = checkup([WORKS, NEW, NO_GDB], [OLD, SCAN, WATCH], install)
    assert doctor_text.explain(found, width=80) == (
        """\
pytest-memleak 0.1.0 · CPython 3.12.1 · Linux 6.18.44-long-name-of-a-kernel ·
glibc 2.36 · 2 cores

probes, each tried on something allocated for it
  works     RSS              32 MB made, 32 MB seen
  not here  sys.remote_exec  Python has it from 3.14 on
  missing   gdb              gdb is not installed; for: track-objects

extras
  missing   native  memray 1.0 is installed, wanted >=1.15; for: the line behind
                    growth of the C heap
  missing   scan    no libcst; for: memleak scan-code --fix
  works     watch   httpx 0.28.1, numpy 2.5.5, scipy 1.18.1, zstandard 0.25.0

To install what is missing:
  python -m pip install 'pytest-memleak[scan,native]'
  apt-get install gdb"""
    )


@pytest.mark.parametrize(
    "probes, works, end",
    [
        ([WORKS, NEW], True, ["Nothing is missing."]),
        (
            [WORKS, REFUSED],
            True,
            ["Nothing is missing that could be installed; for gdb see the reason above."],
        ),
        (
            [WORKS, BLIND],
            False,
            [
                "The core does not work here: without tracemalloc a leak may pass unseen.",
                "Nothing is missing that could be installed; for tracemalloc see the reason above.",
            ],
        ),
    ],
)
def test_how_it_ends(probes: list[Tried], works: bool, end: list[str]) -> None:
    found = checkup(probes)
    assert found.works is works
    assert doctor_text.explain(found, width=120).splitlines()[-len(end) - 1 :] == ["", *end]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_longer_than_the_terminal_and_a_version_stays_beside_its_package(width: int) -> None:
    text = doctor_text.explain(checkup([WORKS, NO_GDB, NEW], [OLD, SCAN, WATCH]), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{one.name} {one.version}" in text for one in WATCH.packages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a platform may lack some of them")
def test_on_this_machine_the_core_works_and_nothing_ends_in_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_memleak", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    probes = {probe["name"]: probe for probe in found["probes"]}
    assert {name for name, probe in probes.items() if probe["is_core"] and probe["state"] != "works"} == set()
    assert (done.returncode, found["works"], found["version"]) == (0, True, 1)
    assert {probe["state"] for probe in probes.values()} <= {state.value for state in State}
    assert [name for name, probe in probes.items() if "the process that tried it" in probe["said"]] == []
    has_gdb = rights.has_gdb()
    assert (probes["gdb"]["said"] == "gdb is not installed") is not has_gdb
    assert len([command for command in found["install"] if command == rights.gdb_command()]) == (not has_gdb)


def test_a_probe_that_is_blind_is_told_and_the_core_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # The C library's own allocator serves Python now: its count of blocks is 0 for ever.
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    monkeypatch.setattr(
        looking, "PROBES", tuple(one for one in looking.PROBES if one.trial in ("allocated_blocks", "rss"))
    )
    monkeypatch.setattr(looking, "_without_rivals", list)
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    # Click 8.1 hands out the line of progress with it.
    found = json.loads(done.output[done.output.index("{") :])
    assert done.exit_code == 1
    assert [probe["state"] for probe in found["probes"]] == ["missing", "works"]
    assert found["works"] is False


@pytest.mark.parametrize(
    "code, said",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the process that tried it died of SIGSEGV"),
        ("raise OSError('no such library')", "the process that tried it failed: OSError: no such library"),
        ("import sys; sys.exit(7)", "the process that tried it failed: exit code 7"),
        ("def main(name): print('not the answer')", "the process that tried it failed: exit code 0"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_trial_that_dies_costs_nothing_but_itself(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its process imports this module by that name, before ours.
    folder = tmp_path / "pytest_memleak" / "doctor"
    folder.mkdir(parents=True)
    (tmp_path / "pytest_memleak" / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "trials.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert looking._outcome("rss") == (State.MISSING, said)


def test_each_trial_has_a_probe_and_the_other_way_round() -> None:
    assert [one.__name__ for one in trials.TRIALS] == [probe.trial for probe in looking.PROBES]


def test_where_remote_exec_works_gdb_is_no_want() -> None:
    works = Tried(name="sys.remote_exec", state=State.WORKS, said="seen", serves="track-objects")
    probes = looking._without_rivals([works, NO_GDB])
    assert [(one.name, one.state, one.install) for one in probes] == [
        ("sys.remote_exec", State.WORKS, ""),
        ("gdb", State.NOT_HERE, ""),
    ]
    assert looking._without_rivals([NEW, NO_GDB]) == [NEW, NO_GDB]


METADATA = """\
Metadata-Version: 2.4
Name: pytest-memleak
Version: 0.1.0
Requires-Dist: psutil>=7.2
Requires-Dist: pytest>=8.4
Provides-Extra: all
Requires-Dist: pytest-memleak[demo,fastapi,scan]; extra == 'all'
Provides-Extra: demo
Requires-Dist: nobody-has-this>=1; extra == 'demo'
Requires-Dist: pytest-memleak[fastapi]; extra == 'demo'
Provides-Extra: fastapi
Requires-Dist: pytest>=9999; extra == 'fastapi'
Provides-Extra: native
Requires-Dist: memray; (platform_system == 'Amiga') and extra == 'native'
Provides-Extra: scan
Requires-Dist: pytest>=1; extra == 'scan'
"""


def test_the_extras_are_those_of_the_metadata_with_what_is_installed_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pytest_memleak-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(METADATA)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = {extra.name: extra for extra in extras.find_extras()}
    assert {name: extra.state for name, extra in found.items()} == {
        "demo": State.MISSING,
        "fastapi": State.MISSING,
        "native": State.NOT_HERE,
        "scan": State.WORKS,
    }
    version = metadata.version("pytest")
    absent = Package(name="nobody-has-this", version="", wanted=">=1", fits=False)
    too_old = Package(name="pytest", version=version, wanted=">=9999", fits=False)
    assert found["demo"].packages == (absent, too_old)
    assert looking._commands([WORKS], list(found.values())) == ["python -m pip install 'pytest-memleak[demo,fastapi]'"]


def test_where_it_is_not_installed_itself_that_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "DISTRIBUTION", "pytest-memleak-that-nobody-has")
    assert extras.find_extras() == []
    assert looking._commands([WORKS], []) == ["python -m pip install pytest-memleak-that-nobody-has"]


def test_all_extras_at_once_have_a_name() -> None:
    assert extras.pip_command(["scan", "watch"], 2) == "python -m pip install 'pytest-memleak[all]'"


def test_each_extra_says_what_it_serves() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]
    assert set(extras.SERVES) == set(declared) - {"all"}
    assert [Requirement(text).extras for text in declared["all"]] == [set(extras.SERVES)]
