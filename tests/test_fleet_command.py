"""`memleak fleet` as users type it, against what a real Prometheus answered once (fleet_support.py records it)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_stores import answering, replayed
from typer.testing import CliRunner, Result

from pytest_memleak.cli import app

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("httpx", "numpy", "scipy")), reason="needs the extra watch"
)

RECORDED = ("--range", "60s", "--step", "0.5", "--max-mb-per-min", "10")


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with answering(replayed) as url:
        yield url


def report(done: Result) -> Any:
    """The JSON; the oldest typer mixes in what went to stderr."""
    return json.loads(done.output[done.output.index("{") :])


def fleet(store: str, *arguments: str) -> Result:
    """Run it here: the interpreter's start and its imports are what takes long."""
    return CliRunner().invoke(app, ["fleet", "--prometheus", store, *arguments], env={"COLUMNS": "80"})


def test_a_fleet_that_leaks_is_ranked_and_explained(store: str) -> None:
    command = [sys.executable, "-m", "pytest_memleak", "fleet", "--prometheus", store, *RECORDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == f"LEAK DETECTED in {store}"
    assert lines[1] == "  4 of 7 replicas leak, in 2 of 3 deployments."
    rows = [line.split() for line in lines[4:7]]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("shop/api", "3", "3"), ("shop/queue", "2", "1"), ("shop/web", "2", "0"),
    ]  # fmt: skip
    told = " ".join(done.stdout.split())
    assert "All 3 replicas of shop/api leak at the same rate, " in told
    assert "the leak follows the code and not a replica's traffic; api-6d4cf56db6-" in told
    assert "meets its limit of 512 MiB in" in told
    assert "1 of 2 replicas of shop/queue leaks, queue-0, at up to " in told
    assert "restarts seen, each a new life and no fall: shop/web 1" in told
    assert max(len(line) for line in lines) <= 80
    assert done.stderr == f"asking {store}\n"


def test_json_has_every_replica(store: str) -> None:
    done = fleet(store, *RECORDED, "--json")
    found: dict[str, Any] = report(done)
    assert done.exit_code == 1
    assert (found["outcome"], found["series"], found["too_short"]) == ("LEAK", 7, 0)
    api = found["deployments"][0]
    assert (api["name"], api["spread"]) == ("shop/api", "all leak at the same rate")
    assert api["rate"]["value"] == pytest.approx(64, rel=0.1)
    assert [replica["forecast"]["limit_bytes"] for replica in api["replicas"]] == [512 << 20] * 3
    leaking = {
        replica["name"]
        for deployment in found["deployments"]
        for replica in deployment["replicas"]
        if replica["verdict"]["outcome"] == "LEAK"
    }
    assert leaking == {"api-6d4cf56db6-x2x4z", "api-6d4cf56db6-8zk5q", "api-6d4cf56db6-m7wvt", "queue-0"}


def test_growth_within_the_limit_passes(store: str) -> None:
    done = fleet(store, *RECORDED[:-1], "200")
    assert done.exit_code == 0
    assert f"NO LEAK in {store}\n  none of 7 replicas leaks.\n" in done.output


def test_replicas_are_grouped_by_the_labels_asked_for(store: str) -> None:
    found = report(fleet(store, *RECORDED, "--group-by", "job, namespace", "--json"))
    assert [(one["name"], one["spread"]) for one in found["deployments"]] == [("pods/shop", "some leak")]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--selector", "sum("), "refuses the query 'sum(': 1:5: parse error: unclosed left parenthesis (HTTP 400)"),
        (("--selector", "nothing_like_this"), "has no series of nothing_like_this in the last 6 h: name one by"),
        (("--range", "6x"), "--range: expects a time such as 30m, 90s or 1h30m, got '6x'"),
        (("--step", "0"), "--step: expects a time such as 30m, 90s or 1h30m, got '0'"),
        (
            ("--header", "X-Scope-OrgID"),
            "--header: expects NAME:VALUE, such as X-Scope-OrgID:shop, got 'X-Scope-OrgID'",
        ),
        (("--prometheus", "localhost:9090"), "--prometheus: expects http://HOST:PORT, got 'localhost:9090'"),
        (("--prometheus", "http://127.0.0.1:1"), "http://127.0.0.1:1 does not answer ("),
        (("--token", "schlüssel"), "--token, --header or the certificates of SSL_CERT_FILE cannot be used: "),
    ],
)
def test_what_cannot_be_had_is_one_sentence_and_exit_code_2(store: str, arguments: tuple[str, ...], words: str) -> None:
    done = fleet(store, *arguments)
    error = "".join(line for line in done.output.splitlines(keepends=True) if not line.startswith("asking "))
    assert done.exit_code == 2
    assert error.startswith("memleak fleet: ")
    assert words in error
    assert error.count("\n") == 1
