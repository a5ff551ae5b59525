"""What the report of a log says, word for word, and how the limit follows the length of a log."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from pytest_memleak.model import Outcome
from pytest_memleak.model_logs import Death, LogResult, LogSeries
from pytest_memleak.model_soak import Estimate
from pytest_memleak.model_watch import Severity, Track, TrackVerdict
from pytest_memleak.reports.logs_text import explain
from pytest_memleak.reports.plot import plot
from pytest_memleak.watch.log_judging import default_limit

VERDICT = TrackVerdict(
    name="app.log", outcome=Outcome.LEAK, severity=Severity.HIGH, rate=Estimate(value=6, low=5.9, high=6.1),
    gained=3e8, shape="linear", why="grew 6 MB/min", readings=51, seconds=3000,
)  # fmt: skip
TRACK = Track(
    name="pid 7",
    times_s=tuple(60.0 * at for at in range(51)),
    levels=tuple(1e8 + 6e6 * at for at in range(51)),
)
SERIES = LogSeries(
    name="app.log", log="app.log", metric="rss", verdict=VERDICT, limit_mb_per_min=1.0, readings=51, first=1e8,
    last=4e8, most=4e8, lives=1, is_timed=True, tracks=(TRACK,),
)  # fmt: skip
DEATH = Death(
    kind="killed by the kernel", name="python", pid=7, file="kern.log", line=12, when="Jan  1 12:50:00", text="",
    killed_at=4.1e8, cgroup="", is_limit=True, series="pid 7", readings=51, first=1e8, last=4e8, seconds=3000.0,
)  # fmt: skip
RESULT = LogResult(
    name="app.log", outcome=Outcome.LEAK, severity=Severity.HIGH, why="grew 6 MB/min", files=("app.log", "kern.log"),
    size=1_000_000, lines=10_000, figures=(("text", 51),), broken=0, series=(SERIES,), deaths=(DEATH,),
    interval_s=10.0, notes=("2 broken lines of JSON were left out",),
)  # fmt: skip

REPORT = """\
LEAK DETECTED in app.log, severity high
  grew 6 MB/min

  read:          app.log, kern.log: 10,000 lines, 1 MB
  figures:       51 of text
  series:        rss, 51 readings, 1 life
  first:         100 MB
  last:          400 MB, at most 400 MB
  total growth:  300 MB
  growth rate:   6 MB/min [5.9, 6.1] (99 %), limit 1
  duration:      50 min 0 s
  verdict:       LEAK DETECTED
  severity:      high

  app.log: rss
     400 MB ┤                                            ▁▂▃▅▆▇█
            │                                     ▁▂▃▅▆▇████████
            │                              ▁▂▄▅▆▇███████████████
            │                       ▁▂▄▅▆▇██████████████████████
            │                ▁▂▄▅▆▇█████████████████████████████
            │         ▁▂▄▅▆▇████████████████████████████████████
            │  ▁▃▄▅▆▇███████████████████████████████████████████
    62.5 MB ┤▇██████████████████████████████████████████████████
            └───────────────────────────────────────────────────
             0                                       +50 min 0 s

1 death by want of memory
  Jan  1 12:50:00: python (pid 7) killed by the kernel at its container's limit,
    with 410 MB resident; before it pid 7 had 400 MB, grown by 300 MB over
    50 min 0 s (51 readings); kern.log:12

  note  2 broken lines of JSON were left out
  next  memleak detect --pid PID watches the process itself, memleak scan-code
        shows what may keep it"""


def test_the_report() -> None:
    assert explain(RESULT, width=80) == REPORT


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_asked(width: int) -> None:
    assert max(map(len, explain(RESULT, width=width).splitlines())) <= width


def test_the_chart() -> None:
    flat = Track(name="x", times_s=(1.0, 61.0), levels=(5e6, 5e6))
    assert plot([flat], width=40, is_timed=False, rows=2) == [
        "       5 MB ┤████████████████████",
        "     2.5 MB ┤████████████████████",
        "            └────────────────────",
        "             0    +60 s (assumed)",
    ]
    assert plot([], width=80, is_timed=True) == []
    assert plot([Track(name="x", times_s=(1.0,), levels=(1.0,))], width=80, is_timed=True) == []


@pytest.mark.parametrize(
    "seconds, limit", [(60, 1.0), (3600, 1.0), (7200, 0.5), (86400, 60 / 1440), (60 * 3600, 1 / 60), (1e7, 1 / 60)]
)
def test_the_limit_follows_the_length(seconds: float, limit: float) -> None:
    assert default_limit(seconds) == pytest.approx(limit)
