"""The line that shows how far a soak is."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pytest_memleak.cli.live import LiveLine, clock_words, line
from pytest_memleak.model import Outcome
from pytest_memleak.soak.recorder import Progress


def progress(**values: Any) -> Progress:
    given: dict[str, Any] = {
        "phase": "load",
        "elapsed_s": 750.0,
        "wanted_s": 1800.0,
        "requests": 45_000,
        "failures": 0,
        "requests_per_s": 60.2,
        "rss_bytes": 123_400_000.0,
        "mb_per_min": 2.6,
        "outcome": Outcome.LEAK,
    }
    return Progress(**{**given, **values})


def show(live: LiveLine, found: Progress) -> None:
    live.show(line(found), found.phase)


@pytest.mark.parametrize(
    "values, text",
    [
        ({}, "12:30 of 30:00 · 60 requests/s · RSS 123 MB · 2.6 MB/min, so far LEAK · 17:30 left"),
        (
            {"failures": 1_234, "mb_per_min": None},
            "12:30 of 30:00 · 60 requests/s · 1,234 failed · RSS 123 MB · 17:30 left",
        ),
        ({"rss_bytes": None, "mb_per_min": None}, "12:30 of 30:00 · 60 requests/s · 17:30 left"),
        ({"phase": "starting"}, "the server starts"),
        ({"phase": "starting the load"}, "the load starts"),
        (
            {"phase": "rest", "rss_bytes": None, "elapsed_s": 1800.0},
            "30:00 of 30:00 · 60 requests/s · 2.6 MB/min, so far LEAK · at rest",
        ),
        (
            {"phase": "diagnosis", "rss_bytes": None, "mb_per_min": None, "elapsed_s": 86_400.0, "wanted_s": 86_400.0},
            "24:00:00 of 24:00:00 · 60 requests/s · looking for the lines",
        ),
        ({"elapsed_s": 1_801.0, "rss_bytes": None, "mb_per_min": None}, "30:01 of 30:00 · 60 requests/s · 0:00 left"),
    ],
)
def test_the_line_of_a_soak_that_goes_on(values: dict[str, Any], text: str) -> None:
    assert line(progress(**values)) == text


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3_723, "1:02:03")]
)
def test_a_clock(seconds: float, text: str) -> None:
    assert clock_words(seconds) == text


def test_a_dumb_terminal_has_a_line_a_minute_and_one_for_each_phase() -> None:
    now = 5_000.0
    stream = io.StringIO()
    with LiveLine("the server starts", stream, clock=lambda: now) as live:
        show(live, progress(phase="starting"))
        for second in range(150):
            now = 5_001.0 + second
            show(live, progress(elapsed_s=float(second)))
        show(live, progress(phase="rest", elapsed_s=150.0))
        show(live, progress(phase="rest", elapsed_s=150.0))
    said = [words.partition(" of ")[0] for words in stream.getvalue().splitlines()]
    assert said == ["the server starts", "0:00", "1:00", "2:00", "2:30"]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_has_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with LiveLine("the server starts", stream) as live:
        show(live, progress())
    assert "\x1b" in stream.getvalue()
