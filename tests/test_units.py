"""Numbers as text, pinned where rounding changes the unit or the number of digits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memleak import units

LENIENT = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (12, "12 B"),
        (0.05, "0.05 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.5, "1 kB"),
        (1_000, "1 kB"),
        (1_063, "1.06 kB"),
        (3_300_000, "3.3 MB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1 GB"),
        (2_500_000_000, "2.5 GB"),
        (123_000_000_000, "123 GB"),
        (-1_063, "-1.06 kB"),
        (-999.5, "-1 kB"),
    ],
)
def test_bytes_change_their_unit_where_rounding_would_reach_the_next(size: float, text: str) -> None:
    assert units.format_bytes(size) == text


def test_a_megabyte_is_a_million_bytes() -> None:
    assert units.MB == 1_000_000
    assert units.format_bytes(units.MB) == "1 MB"


@pytest.mark.parametrize(
    "amount, text",
    [
        (0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (1.0, "1"),
        (2.5, "2.5"),
        (0.02, "0.02"),
        (0.001, "0.001"),
        (0.00001, "0.00001"),
        (1e-9, "0"),
        (0.996, "1"),
        (100, "100"),
        (1_234, "1234"),
        (-2.5, "-2.5"),
    ],
)
def test_a_rate_has_no_superfluous_digits(amount: float, text: str) -> None:
    assert units.format_rate(amount) == text


@LENIENT
@given(st.floats(min_value=1e-300, max_value=1e12))
def test_a_rate_never_uses_an_exponent(amount: float) -> None:
    assert "e" not in units.format_rate(amount)


@LENIENT
@given(st.floats(min_value=0.01, max_value=1e6))
def test_a_rate_as_text_is_within_five_percent_of_the_number(amount: float) -> None:
    assert float(units.format_rate(amount)) == pytest.approx(amount, rel=0.051)


@LENIENT
@given(st.floats(min_value=1e-3, max_value=1e12))
def test_a_minus_survives_and_changes_nothing_else(size: float) -> None:
    assert units.format_bytes(-size) == "-" + units.format_bytes(size)


@LENIENT
@given(st.floats(min_value=1, max_value=1e12), st.floats(min_value=1, max_value=1e12))
def test_the_text_of_more_bytes_never_says_less(one: float, other: float) -> None:
    factors = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}

    def read(text: str) -> float:
        number, unit = text.split()
        return float(number) * factors[unit]

    small, large = sorted((one, other))
    assert read(units.format_bytes(small)) <= read(units.format_bytes(large)) * (1 + 1e-12)


@pytest.mark.parametrize(
    "bound, text",
    [
        (0, "0"),
        (-3, "0"),
        (0.0015, "0.0015"),
        (0.001501, "0.0016"),
        (0.0199, "0.02"),
        (0.02, "0.02"),
        (0.099001, "0.1"),
        (0.99, "0.99"),
        (0.991, "1"),
        (1.01, "1.1"),
        (12, "12"),
        (12.1, "13"),
        (121, "130"),
    ],
)
def test_a_bound_has_two_digits_and_is_rounded_up(bound: float, text: str) -> None:
    assert units.format_bound(bound) == text


@LENIENT
@given(st.floats(min_value=1e-4, max_value=1e6))
def test_a_bound_as_text_is_never_less_than_what_was_proven_and_at_most_a_tenth_more(bound: float) -> None:
    assert bound * (1 - 1e-5) <= float(units.format_bound(bound)) <= bound * 1.1 * (1 + 1e-5)


@pytest.mark.parametrize("count, text", [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")])
def test_a_count_has_thousands_separators(count: int, text: str) -> None:
    assert units.format_count(count) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (0.84, "0.84 s"),
        (12.3, "12.3 s"),
        (99.9, "99.9 s"),
        (100, "1 min 40 s"),
        (119.6, "2 min 0 s"),
        (250, "4 min 10 s"),
        (3_600, "60 min 0 s"),
        (5_999, "99 min 59 s"),
        (6_000, "1 h 40 min"),
        (7_199, "2 h 0 min"),
        (86_400, "24 h 0 min"),
    ],
)
def test_a_duration_of_a_hundred_seconds_is_told_in_minutes_and_of_a_hundred_minutes_in_hours(
    seconds: float, text: str
) -> None:
    assert units.format_seconds(seconds) == text


def test_growth_per_request_becomes_growth_per_minute_at_a_rate() -> None:
    assert units.mb_per_min(980, 50) == pytest.approx(2.94)
    assert units.mb_per_min(0, 50) == 0
    assert units.mb_per_min(-1_000, 100) == pytest.approx(-6)


@pytest.mark.parametrize(
    "text, seconds",
    [("7d", 604_800), ("1d12h", 129_600), ("2d 30m", 174_600), ("6h", 21_600), ("90", 90), ("0.5s", 0.5)],
)
def test_a_duration_may_be_days(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["d", "0d", "1.5d", "-1d", "12h1d", "7 days"])
def test_what_is_no_duration_of_days_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expects a time such as 30m, 90s or 1h30m, got "):
        units.parse_duration(text)
