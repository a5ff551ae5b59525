"""The interval of a slope, against the library's, which a watched process is not to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

np = pytest.importorskip("numpy")
stats = pytest.importorskip("scipy.stats")

from pytest_memleak.verdict.settled import _sen  # noqa: E402  (it needs numpy)


@pytest.mark.parametrize("decimals", [0, 1, 12], ids=["many ties", "some ties", "none"])
@pytest.mark.parametrize("size", [6, 7, 12, 16, 31, 32])
def test_the_interval_is_sens(size: int, decimals: int) -> None:
    random = np.random.default_rng(size)
    for _ in range(50):
        xs, ys = np.sort(random.random(size)), random.normal(size=size).round(decimals)
        slope, _, low, high = stats.theilslopes(ys, xs, alpha=0.99)
        found = _sen(xs, ys, 1.0)
        assert (found.value, found.low, found.high) == pytest.approx((slope, low, high), abs=1e-9)


def test_the_judge_does_not_load_all_statistics() -> None:
    code = "from pytest_memleak.monitor import judging; judging.prepare(); assert 'scipy.stats' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
