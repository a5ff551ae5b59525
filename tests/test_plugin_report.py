"""What a measured run writes: the failure, the table at the end, the durations and JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from plugin_support import lines_of_section, measure, output_of, plain, rehearse, results, words_of

# In the leak a pause: a few thousand calls convict, and without it there would be a hundred thousand of them.
LEAK_AND_CLEAN = """
    import time

    import pytest

    VISITS = []

    @pytest.mark.no_leak
    def test_leak(leak_call):
        time.sleep(0.0003)
        VISITS.append(["page", leak_call.number])

    @pytest.mark.no_leak
    def test_clean():
        time.sleep(0.0003)
"""

SENTENCE = (
    r"test_leak grew [\d.]+ k?B and [\d.]+ objects? per call over \d+ rounds \(budget 0\); "
    r"allocated at test_visits\.py:10, held by test_visits\.VISITS \(list, \+1 entry per call\)"
)

HEADING = "test or endpoint calls memory objects MB/min verdict"

ROW_OF_THE_LEAK = r"[\d,]+ [\d.]+ k?B [\d.]+ [\d.]+ LEAK"


def report_of(result: pytest.RunResult) -> list[str]:
    """The lines of the run's failures and of the table at its end, without their colours and pytest's own titles."""
    lines = [plain(line) for title in ("FAILURES", "memory growth") for line in lines_of_section(result, title)]
    return [line for line in lines if not line.startswith(("- generated xml file: ", "_ "))]


def too_long(lines: list[str], width: int) -> list[str]:
    """The lines beyond a width that could have been broken: no commands, no single words behind a label."""
    long = (line for line in lines if len(line) > width)
    return [line for line in long if not line.startswith("  again ") and len(line[8:].split()) > 1]


def table_of(result: pytest.RunResult) -> list[str]:
    """The table at the end and its footnotes, each line with single spaces."""
    return [" ".join(plain(line).split()) for line in lines_of_section(result, "memory growth") if line]


def test_a_leak_is_told_in_the_terminal_in_junit_xml_and_in_the_durations(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    pytester.makepyfile(test_visits=LEAK_AND_CLEAN)
    result = measure(pytester, "--color=no", "--junitxml=junit.xml", "--durations=0", "--durations-min=0")
    result.assert_outcomes(failed=1, passed=1)
    assert "\x1b" not in output_of(result)
    assert too_long(report_of(result), 80) == []

    failure = lines_of_section(result, "FAILURES")
    assert failure[0].strip("_") == " test_leak "
    assert re.match(SENTENCE + r"$", " ".join(failure[1 : failure.index("")]))
    labels = [line[2:8].strip() for line in failure if re.match(r"  [A-Za-z]+ +\S", line)]
    assert labels == ["what", "where", "held", "fix", "RSS", "again"]
    assert "  again pytest --memleak test_visits.py::test_leak" in failure

    heading, leaking, clean, rate = table_of(result)
    assert heading == HEADING
    assert re.fullmatch("test_leak " + ROW_OF_THE_LEAK, leaking)
    assert re.fullmatch(r"test_clean [\d,]+ \S+ k?B \S+ \S+ CLEAN", clean)
    assert rate == "growth is per call; MB/min at 50 requests/s"

    check_durations(pytester, result)
    check_junit(pytester)


def check_durations(pytester: pytest.Pytester, result: pytest.RunResult) -> None:
    """Three of each test, and that of the call has room for the whole measurement."""
    shown = [line.split() for line in lines_of_section(result, "slowest durations") if line]
    parts = ("setup", "call", "teardown")
    assert sorted((test, when) for _, when, test in shown) == sorted(
        (f"test_visits.py::{name}", when) for name in ("test_leak", "test_clean") for when in parts
    )
    taken = {test.partition("::")[2]: float(spent.rstrip("s")) for spent, when, test in shown if when == "call"}
    for name, measured in results(pytester).items():
        assert taken[name] >= measured["seconds"] - 0.01, "rounded to two digits"


def check_junit(pytester: pytest.Pytester) -> None:
    """Three properties of each test, and the failure with its sentence and the whole report."""
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    properties = {
        name: {one.get("name"): one.get("value", "") for one in case.iter("property")} for name, case in cases.items()
    }
    assert {name: list(found) for name, found in properties.items()} == {
        name: ["memleak verdict", "memleak growth", "memleak sensitivity"] for name in ("test_leak", "test_clean")
    }
    assert properties["test_leak"]["memleak verdict"] == "LEAK"
    assert re.fullmatch(r"[\d.]+ k?B and [\d.]+ objects? per call", properties["test_leak"]["memleak growth"])
    assert properties["test_leak"]["memleak sensitivity"] == "none"
    assert properties["test_clean"]["memleak verdict"] == "CLEAN"
    assert re.fullmatch(r"\S+ k?B per call", properties["test_clean"]["memleak growth"])
    assert re.fullmatch(
        r"no leak above [\d.]+ objects or [\d.]+ k?B per call \(99 %\)", properties["test_clean"]["memleak sensitivity"]
    )

    assert cases["test_clean"].find("failure") is None
    failure = cases["test_leak"].find("failure")
    assert failure is not None
    assert re.fullmatch(SENTENCE, failure.get("message", ""))
    told = failure.text or ""
    assert "leak: global_accumulation (HIGH)" in told
    assert "  again pytest --memleak test_visits.py::test_leak" in told
    assert "\x1b" not in told


def test_a_wide_terminal_with_colours_has_a_wide_report_with_colours(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    pytester.makepyfile(test_visits=LEAK_AND_CLEAN)
    result = measure(pytester, "-v", "--color=yes", "-k", "test_leak")
    result.assert_outcomes(failed=1, deselected=1)
    report = report_of(result)
    assert too_long(report, 120) == []
    assert max(map(len, report)) > 80

    colours = {
        "test_leak grew ": "\x1b[31m\x1b[1m",
        "  where test_visits.py:10": "\x1b[36m",
        "  held  by test_visits.VISITS": "\x1b[33m",
        "                   ~~~~~~~": "\x1b[31m",
        "  fix   bound it": "\x1b[32m",
        "  again pytest --memleak ": "\x1b[1m",
        "  what  list": "",
    }
    failure = lines_of_section(result, "FAILURES")
    for start, colour in colours.items():
        (line,) = [line for line in failure if plain(line).startswith(start)]
        assert line.startswith(colour + start)
        assert line.endswith("\x1b[0m" if colour else plain(line))
    assert re.match(SENTENCE + " leak: ", " ".join(" ".join(map(plain, failure[1:])).split()))

    assert table_of(result)[0] == HEADING
    (row,) = [line for line in lines_of_section(result, "memory growth") if "LEAK" in line]
    assert row.startswith("\x1b[31m")
    assert re.fullmatch("test_visits.py::test_leak " + ROW_OF_THE_LEAK, " ".join(plain(row).split()))


def test_the_titles_of_leaks_are_marked_like_their_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_leak(): pass")
    result = rehearse(pytester, "--memleak", "--color=yes")
    result.assert_outcomes(failed=1)
    marked = [plain(line) for line in lines_of_section(result, "FAILURES")[1:] if line.startswith("\x1b[31m\x1b[1m")]
    assert marked[0].startswith("test_leak grew 64 B per call ")
    assert "leak: unbounded_cache (HIGH)" in marked


def test_the_reason_of_a_budget_is_told_where_it_was_broken(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak(reason='the front page is hot')\ndef test_leak(): pass")
    result = rehearse(pytester, "--memleak")
    result.assert_outcomes(failed=1)
    assert "  reason the front page is hot" in lines_of_section(result, "FAILURES")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verbosity", ["-q", "--verbosity=0", "-v"])
def test_no_line_of_report_and_table_is_longer_than_the_terminal_is_wide(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, width: int, verbosity: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    pytester.makepyfile(
        test_visits="""
        import pytest

        @pytest.mark.no_leak(reason="the nightly export reads all orders that were ever made, as it should do")
        def test_leak_of_orders():
            pass

        @pytest.mark.no_leak
        @pytest.mark.parametrize("customer", [pytest.param(1, id="a-customer-of-a-long-name" * 6)])
        def test_leak_of_customers(customer):
            pass

        @pytest.mark.no_leak
        def test_clean():
            pass
        """
    )
    result = rehearse(pytester, "--memleak", verbosity)
    result.assert_outcomes(failed=2, passed=1)
    report = report_of(result)
    assert "leak: unbounded_cache (HIGH)" in report
    assert too_long(report, width) == []
    (row,) = [line for line in report if re.search(r"^test_\S*…\S*of-a-long-name] .* LEAK$", line)]
    assert len(row) == width - 1


@pytest.mark.parametrize("width", [80, 120])
def test_what_stands_below_the_table_is_as_wide_as_the_terminal_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    pytester.makepyfile(
        test_visits="""
        import pytest

        @pytest.mark.no_leak
        def test_that_is_inconclusive_since_a_thread_works_meanwhile():
            pass

        @pytest.mark.no_leak
        def test_that_is_clean_from_its_first_call_to_its_last():
            pass
        """
    )
    result = rehearse(pytester, "--memleak", "-v")
    result.assert_outcomes(passed=2)
    said = " ".join(table_of(result))
    assert (
        "INCONCLUSIVE test_that_is_inconclusive_since_a_thread_works_meanwhile: as scripted "
        "(--memleak-inconclusive=fail makes this a failure)"
    ) in said
    assert "its_last: no leak above 0.02 objects or 3 B a request (99 %)" in said
    assert too_long(report_of(result), width) == []


@pytest.mark.parametrize(
    "verbosity, names",
    [
        ("-q", ["test_leak", "test_inconclusive"]),
        ("--verbosity=0", ["test_leak", "test_inconclusive", "test_clean"]),
        ("-v", ["test_visits.py::test_leak", "test_visits.py::test_inconclusive", "test_visits.py::test_clean"]),
    ],
)
def test_the_table_shows_more_the_more_is_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, verbosity: str, names: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    pytester.makepyfile(
        test_visits="""
        import pytest

        pytestmark = pytest.mark.no_leak

        def test_leak():
            pass

        def test_inconclusive():
            pass

        def test_clean():
            pass
        """
    )
    result = rehearse(pytester, "--memleak", verbosity)
    result.assert_outcomes(failed=1, passed=2)
    heading, *rows = table_of(result)[: len(names) + 1]
    assert heading == HEADING
    assert rows == [
        f"{name} 3,000 {growth}"
        for name, growth in zip(
            names, ["64 B - 0.19 LEAK", "0 B - 0 INCONCLUSIVE", "0 B - 0 CLEAN"][: len(names)], strict=True
        )
    ]
    said = words_of(result)
    assert "test_leak grew 64 B per call over 6 rounds (budget 0); allocated at shop/cache.py:17" in said
    assert "INCONCLUSIVE test_inconclusive: as scripted" in said
    assert ("test_clean: no leak above 0.02 objects or 3 B a request (99 %)" in said) == (verbosity == "-v")


def test_the_table_stands_right_below_its_title_when_nothing_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_clean(): pass")
    result = rehearse(pytester, "--memleak")
    result.assert_outcomes(passed=1)
    assert [line.partition(" ")[0] for line in lines_of_section(result, "memory growth")] == [
        "test",
        "test_clean",
        "growth",
    ]
