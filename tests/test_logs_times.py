"""When a line was written, and the lives that figures make over time."""

from __future__ import annotations

import pytest
from logs_support import YEAR, read

from pytest_memleak.logs.series import MOST_POINTS, Book, Life, SeriesName
from pytest_memleak.logs.times import Clock
from pytest_memleak.logs.whose import Owner

NEW_YEAR = 1767225600.0  # 2026-01-01 00:00:00 UTC

FORMS = [
    ("2026-01-01T00:01:05Z x", 65.0),
    ("2026-01-01 00:01:05,250 INFO x", 65.25),
    ("2026-01-01 00:01:05.250 x", 65.25),
    ("2026-01-01T01:01:05+01:00 x", 65.0),
    ("[2026-01-01 00:01:05 +0000] [7] [INFO] x", 65.0),
    ("2026/01/01 00:01:05 x", 65.0),
    ("level=info time=2026-01-01T00:01:05Z x", 65.0),
    ('1.2.3.4 - - [01/Jan/2026:01:01:05 +0100] "GET /', 65.0),
    ("Jan  1 00:01:05 host app[7]: x", 65.0),
    ("<6>Jan  1 00:01:05 host app[7]: x", 65.0),
    ("Thu Jan  1 00:01:05 UTC 2026", 65.0),
    ("[Thu Jan  1 00:01:05 2026] x", 65.0),
    ("1767225665 x", 65.0),
    ("1767225665.5 x", 65.5),
    ("1767225665500 x", 65.5),
    ("ts=1767225665.5 x", 65.5),
    ("[   65.250000] x", 65.25 - NEW_YEAR),
    ("<6>[   65.250000] x", 65.25 - NEW_YEAR),
    ("00:01:05 x", 65.0 - NEW_YEAR),
]


@pytest.mark.parametrize("line, seconds", FORMS)
def test_forms_of_time(line: str, seconds: float) -> None:
    assert Clock(YEAR).read(line.encode()) == pytest.approx(NEW_YEAR + seconds)


@pytest.mark.parametrize("line", ["x", "12345 x", "2026-13-01 00:00:00", "2026-02-30 00:00:00", "[123] x", "v1.2:3"])
def test_no_time(line: str) -> None:
    assert Clock(YEAR).read(line.encode()) is None


def test_the_turn_of_the_year_and_midnight() -> None:
    clock = Clock(2025)
    assert clock.read(b"Jan  1 00:00:00 x") == NEW_YEAR - 365 * 86400
    assert clock.read(b"Dec 31 23:59:50 x") == NEW_YEAR - 10
    assert clock.read(b"Jan  1 00:00:10 x") == NEW_YEAR + 10
    of_day = Clock(YEAR)
    assert [of_day.read(line) for line in (b"23:59:50 x", b"00:00:10 x")] == [86390.0, 86410.0]


def life_of(text: str) -> Life:
    ((life,),) = read(text).book.lives.values()
    return life


def test_a_line_without_a_time_has_that_of_its_record() -> None:
    life = life_of(
        "2026-01-01 00:00:00 report:\n  all is well\n  RSS: 5 MB\n2026-01-01 00:01:00 report:\n  RSS: 6 MB\n"
    )
    assert life.points()[0] == (NEW_YEAR, NEW_YEAR + 60)


def test_without_times_the_order_counts() -> None:
    life = life_of("RSS: 5 MB\nRSS: 6 MB\nRSS: 7 MB\n")
    assert (life.is_timed, life.points()[0]) == (False, (0.0, 1.0, 2.0))


def test_a_life_keeps_a_thousand_points_of_a_million_readings() -> None:
    life = Life()
    for at in range(1_000_000):
        life.add(at, 1e8 + 10 * at)
    times, levels = life.points()
    assert MOST_POINTS / 2 <= len(times) <= MOST_POINTS
    assert (life.count, life.first, life.last) == (1_000_000, 1e8, 1e8 + 9_999_990)
    slope = (levels[-2] - levels[0]) / (times[-2] - times[0])
    assert slope == pytest.approx(10)


def test_readings_out_of_order_are_sorted_and_those_of_one_time_are_one() -> None:
    life = Life()
    for time_s, level in ((3, 30), (1, 10), (2, 20), (2, 40)):
        life.add(time_s, level)
    assert life.points() == ((1, 2, 3), (10, 30, 30))


def test_the_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_memleak.logs.series.MOST_LIVES", 10)
    book = Book()
    for pid in range(1, 31):
        book.add(SeriesName("log", Owner("", pid), "rss", 0), 1.0, 5e6)
    assert (len(book.lives), book.dropped) == (10, 20)


def counts(text: str) -> dict[str, list[int]]:
    return {str(name.owner): [life.count for life in lives] for name, lives in read(text).book.lives.items()}


def test_a_process_that_begins_is_a_new_life() -> None:
    gunicorn = "[2026-01-01 00:00:0{} +0000] [7] [INFO] {}\n"
    text = "".join(gunicorn.format(at, "rss=5MB") for at in (1, 2))
    text += gunicorn.format(3, "Booting worker with pid: 7")
    text += gunicorn.format(4, "rss=5MB")
    assert counts(text) == {"pid 7": [2, 1]}
    uvicorn = "INFO: RSS: 5 MB\nINFO:     Started server process [9]\nINFO: RSS: 5 MB\n"
    assert counts(uvicorn) == {"": [1, 1]}


def test_a_pod_that_falls_back_to_its_start_was_restarted() -> None:
    text = "".join(f"2026-01-01 00:00:{at:02} pod=web-1 rss={size}MB\n" for at, size in enumerate((100, 300, 500, 110)))
    assert counts(text) == {"web-1": [3, 1]}
