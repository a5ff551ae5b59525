"""`memleak fleet` and a real Prometheus that scrapes real instances, of which some leak and one is restarted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_support import LEAK_MB_PER_MIN, PROMETHEUS, scraped

pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="needs the program prometheus: apt-get install prometheus"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("httpx", "numpy", "scipy")),
        reason="needs the extra watch",
    ),
]

SCRAPED_S = 36.0
"""Seventy scrapes, of which the restarted instance gives a half to each life; 36 MB are a hundred times the noise."""

LIMIT = ("--max-mb-per-min", "15")
"""A quarter of the leak: what an interpreter gains in its first seconds is not what this is about."""

MOST_SAMPLES = 400
"""Less than the pods have together."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scraped(tmp_path_factory.mktemp("prometheus"), most_samples=MOST_SAMPLES) as (url, restart):
        time.sleep(SCRAPED_S / 2)
        restart()
        time.sleep(SCRAPED_S / 2)
        yield url


def fleet(store: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_memleak", "fleet", "--prometheus", store, "--range", "5m", *LIMIT]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_what_leaks_is_found_in_all_replicas_and_in_one(store: str) -> None:
    done = fleet(store, "--step", "0.5", "--json")
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    spread = {one["name"]: one["spread"] for one in found["deployments"]}
    assert spread == {
        "shop/api": "all leak at the same rate",
        "shop/queue": "some leak",
        "shop/web": "none leaks",
    }
    api, _, web = found["deployments"]
    assert api["rate"]["value"] == pytest.approx(LEAK_MB_PER_MIN, rel=0.25)
    assert [replica["forecast"]["limit_bytes"] for replica in api["replicas"]] == [512 << 20] * 3
    assert {replica["name"]: replica["restarts"] for replica in web["replicas"]} == {
        "web-7b9c5f8d4-pt9rd": 1,
        "web-7b9c5f8d4-lq2nn": 0,
    }


def test_an_expression_narrows_it(store: str) -> None:
    done = fleet(
        store, "--step", "0.5", "--selector", 'sum by (namespace, pod) (process_resident_memory_bytes{pod=~"web.*"})'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1] == "  none of 2 replicas leaks."


@pytest.mark.parametrize(
    "selector, words",
    [
        ("process_resident_memory_bytes[5m]", "must be Scalar or instant Vector (HTTP 400)"),
        ("sum(", "parse error"),
        ("nothing_like_this", "it has process_resident_memory_bytes"),
    ],
)
def test_prometheus_own_words_are_shown(store: str, selector: str, words: str) -> None:
    done = fleet(store, "--selector", selector)
    assert done.returncode == 2
    assert words in done.stderr


def test_what_prometheus_finds_too_large_was_asked_in_parts(store: str) -> None:
    """It is so above, too: all pods at once have more samples than this Prometheus gives."""
    where = f"{store}/api/v1/query_range?query=process_resident_memory_bytes&step=0.5"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{where}&start={time.time() - 300:.3f}&end={time.time():.3f}")
    assert b"would load too many samples" in caught.value.read()
