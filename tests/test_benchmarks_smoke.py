"""The benchmarks run from end to end and tell what they measured; how fast is theirs to say, not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("multipart")  # the clean endpoints have an upload among them

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a benchmark's run."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    # as a contributor runs it: the scripts import each other from their own folder, which tox shuts out
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def cells(lines: list[str], first: str) -> list[str]:
    """The row of a table that begins with `first`."""
    rows = [line.split() for line in lines if line.split()[:1] == [first]]
    assert rows, "\n".join(lines)
    return rows[-1]


@pytest.mark.parametrize(
    "script",
    [
        "clean_endpoints.py",
        "corpus.py",
        "judges.py",
        "logs.py",
        "monitor_overhead.py",
        "monitor_soak.py",
        "monitor_schemathesis.py",
        "peers_eight.py",
        "reach.py",
        "scan.py",
        "shop.py",
        "side_by_side.py",
        "soak.py",
        "trend_quality.py",
        "trend_record.py",
    ],
)
def test_help_states_the_goal(script: str) -> None:
    code, lines = run(script, "--help")
    assert code == 0
    assert any(line.startswith("Goal: ") for line in lines)


def test_clean_endpoints_convicts_none() -> None:
    code, lines = run("clean_endpoints.py", "--measurements", "3")
    assert code == 0, "\n".join(lines)
    assert cells(lines, "all")[1] == "3"
    assert lines[-1].startswith("0 convicted, ")
    assert lines[-1].endswith(" of 3 (wanted 3 measurements)")


def test_peers_eight_tells_a_leak_from_none() -> None:
    code, lines = run("peers_eight.py", "--runs", "1", "--endpoints", "a", "ok")
    assert code == 0, "\n".join(lines)
    assert cells(lines, "a")[:5] == ["a", "LEAK", "LEAK", "1", "1/1"]
    assert cells(lines, "ok")[:5] == ["ok", "CLEAN", "CLEAN", "1", "1/1"]


def test_reach_of_the_import() -> None:
    code, lines = run("reach.py", "--only", "import")
    assert code in (0, 1)  # 1 where the machine missed the goal of speed
    assert "ms" in cells(lines, "importing")
    assert "none" in cells(lines, "modules")


def test_side_by_side_of_ours_alone() -> None:
    code, lines = run("side_by_side.py", "--tools", "ours", "--endpoints", "ok")
    assert code == 0, "\n".join(lines)
    assert cells(lines, "ours")[:8] == ["ours", "0", "of", "0", "0", "of", "1", "0"]


def test_judges_convict_no_clean_level_and_pass_no_leak() -> None:
    code, lines = run("judges.py", "--runs", "2", "--only", "drift")
    assert code == 0, "\n".join(lines)
    assert lines[-2].startswith("clean levels convicted: 0 of ")
    assert lines[-1].startswith("leaking levels passed: 0 of ")


def test_soak_tells_what_the_agent_costs() -> None:
    code, lines = run("soak.py", "--only", "throughput", "--pairs", "1", "--seconds", "1")
    assert code in (0, 1)  # 1 where the machine missed the goal of speed
    assert lines[-1].startswith("throughput: ")


def test_logs_tells_the_speed_and_that_of_grep() -> None:
    code, lines = run("logs.py", "--megabytes", "1", "--runs", "1", "--only", "plain", "json")
    assert code in (0, 1)  # 1 where the machine missed the goal of speed
    assert len(cells(lines, "plain")) == len(cells(lines, "json")) == 6


def test_trend_quality_judges_what_was_recorded_and_what_is_generated() -> None:
    code, lines = run("trend_quality.py", "--part", "tuning", "--each", "1", "--seeds", "3")
    assert code in (0, 1)  # of one of each kind, one answer more or less is too many
    told = {line.split(":")[0]: line for line in lines if ": " in line}
    assert told["tuning"].startswith("tuning: 110 series counted, 75 of them recorded; ")
    assert told["false alarms"].startswith("false alarms: 0 of ")
    assert told["leaks passed"].startswith("leaks passed: 0 of ")
    assert cells(lines, "recorded")[0] == "recorded"


def test_trend_record_records_a_real_process(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    chosen = ["--python", sys.executable, "--only", "idle", "--each", "1", "--out", str(tmp_path)]
    code, lines = run("trend_record.py", *chosen)
    assert code == 0
    (made,) = tmp_path.iterdir()
    assert lines == [f"{made.stem}: 1 recordings"]
    (recording,) = json.loads(made.read_text())
    assert recording["kind"] == "idle"
    assert len(recording["lives"][0]["kb"]) == len(recording["lives"][0]["ms"]) >= 60


def test_monitor_overhead_tells_each_cost() -> None:
    _needs_the_monitor()
    load = ["--launches", "1", "--pairs", "1", "--seconds", "0.3"]
    small = ["--routes", "12", "--times", "3", "--objects", "20000", "--rounds", "1"]
    code, lines = run("monitor_overhead.py", *load, *small)
    assert code in (0, 1)  # 1 where the machine missed the goals of speed
    told = {line.split(":")[0]: line for line in lines if ": " in line}
    assert {"throughput", "by processor time", "p99", "scrape", "stalls"} <= set(told)
    # The twelve, /sampled, /metrics, and the path that no route serves by which the server was found to be up.
    assert told["scrape"].endswith(" lines of 15 endpoints")
    asked = [line for line in lines if line.startswith(("GET /", "POST /"))]
    assert len(asked) == 14, "\n".join(lines)


def test_monitor_soak_accuses_nobody_of_some_requests() -> None:
    _needs_the_monitor()
    code, lines = run("monitor_soak.py", "--requests", "240", "--rounds", "4")
    assert code in (0, 1)  # 1 where so few requests do not show that nothing grows
    assert "240 of 240 requests to each" in "\n".join(lines)
    rows = [line for line in lines if line.startswith(("live heap, ", "RSS, "))]
    assert len(rows) == 6, "\n".join(lines)
    assert lines[-1].startswith("the monitor adds at most ")


def _needs_the_monitor() -> None:
    for name in ("uvicorn", "prometheus_client", "psutil", "scipy"):
        pytest.importorskip(name)
