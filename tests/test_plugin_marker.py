"""The marker's arguments: checked at collection, measured or not; merged from module, class and test."""

from __future__ import annotations

import pytest
from plugin_support import rehearse, run, told_settings, words_of

from pytest_memleak.settings import MARKER_NAMES

ONE_TEST = """
    import pytest

    @pytest.mark.{marker}
    def test_marked():
        pass
"""


@pytest.mark.parametrize("arguments", [(), ("--memleak",)], ids=["not measured", "measured"])
@pytest.mark.parametrize(
    "marker, sentence",
    [
        ("no_leak(max_mb_per_mim=1)", "unknown argument 'max_mb_per_mim', did you mean 'max_mb_per_min'?"),
        ("no_leak(colour='red')", "unknown argument 'colour'."),
        ("no_leak(inconclusive='fail')", "unknown argument 'inconclusive'"),
    ],
)
def test_an_unknown_argument_is_a_usage_error_that_names_the_valid_ones(
    pytester: pytest.Pytester, marker: str, sentence: str, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker=marker))
    result = rehearse(pytester, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = words_of(result)
    assert f"test_one.py::test_marked: no_leak: {sentence}" in said
    assert f"Valid arguments: {', '.join(MARKER_NAMES)}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "marker, sentence",
    [
        ("no_leak(max_mb_per_min='fast')", "max_mb_per_min: expects a number of at least 0, got 'fast'"),
        ("no_leak(max_mb_per_min=True)", "max_mb_per_min: expects a number of at least 0, got True"),
        ("no_leak(max_fds=1.5)", "max_fds: expects a whole number of at least 0, got 1.5"),
        ("no_leak(max_time=0)", "max_time: expects a number above 0, got 0"),
        ("no_leak(ignore=3)", "ignore: expects a list of names, got 3"),
        ("no_leak(reason=3)", "reason: expects text, got 3"),
        ("no_leak(1)", "no_leak(1): takes named arguments only. Valid arguments: max_mb_per_min, "),
    ],
)
def test_a_badly_typed_or_positional_argument_is_a_usage_error(
    pytester: pytest.Pytester, marker: str, sentence: str
) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker=marker))
    result = rehearse(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = words_of(result)
    assert "test_one.py::test_marked: " in said
    assert sentence in said


def test_an_argument_of_none_is_as_good_as_not_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker="no_leak(max_mb_per_min=None, rps=20)"))
    rehearse(pytester, "--memleak", "--memleak-max-mb-per-min=2").assert_outcomes(passed=1)
    told = told_settings(pytester)["test_marked"]
    assert (told["max_mb_per_min"], told["rps"]) == (2.0, 20.0)


def test_markers_of_module_class_and_test_merge_and_the_nearest_wins(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.no_leak(max_time=5, rps=10, ignore="module.HOLDER")

        def test_of_module():
            pass

        @pytest.mark.no_leak(max_time=6, ignore=["class.HOLDER"])
        class TestGroup:
            def test_of_class(self):
                pass

            @pytest.mark.no_leak(max_time=7, max_mb_per_min=1, ignore="test.HOLDER Type")
            def test_of_its_own(self):
                pass
        """
    )
    rehearse(pytester, "--memleak", "--memleak-ignore=line.HOLDER").assert_outcomes(passed=3)
    told = told_settings(pytester)
    assert [told[name]["max_time"] for name in ("test_of_module", "test_of_class", "test_of_its_own")] == [5, 6, 7]
    assert [told[name]["rps"] for name in ("test_of_module", "test_of_class", "test_of_its_own")] == [10, 10, 10]
    assert told["test_of_module"]["ignore"] == ["line.HOLDER", "module.HOLDER"]
    assert told["test_of_class"]["ignore"] == ["line.HOLDER", "module.HOLDER", "class.HOLDER"]
    assert told["test_of_its_own"]["ignore"] == ["line.HOLDER", "module.HOLDER", "class.HOLDER", "test.HOLDER", "Type"]
    assert told["test_of_its_own"]["max_mb_per_min"] == 1
    assert told["test_of_class"]["max_mb_per_min"] is None


def test_the_marker_can_be_put_on_a_parameter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.no_leak(max_time=9))])
        def test_numbers(n):
            pass
        """
    )
    result = rehearse(pytester, "--memleak")
    result.assert_outcomes(passed=2)
    assert {name: told["max_time"] for name, told in told_settings(pytester).items()} == {"test_numbers[2]": 9}


def test_the_marker_with_an_s_too_many_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker="no_leaks(max_mb_per_min=1)"))
    result = rehearse(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "test_one.py::test_marked: marker 'no_leaks' with arguments of 'no_leak': remove the last letter"
        in words_of(result)
    )


def test_the_marker_of_another_plugin_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker="no_leaks('tasks')"))
    rehearse(pytester).assert_outcomes(passed=1)


def test_strict_markers_know_the_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker="no_leak"))
    rehearse(pytester, "--strict-markers").assert_outcomes(passed=1)


def test_a_selected_part_of_a_run_is_not_stopped_by_the_markers_of_the_rest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak(colour="red")
        def test_misspelt():
            pass

        def test_other():
            pass
        """
    )
    rehearse(pytester, "-k", "other").assert_outcomes(passed=1, deselected=1)


def test_without_the_plugin_the_marker_is_only_unknown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=ONE_TEST.format(marker="no_leak(max_mb_per_min=1)"))
    result = run(pytester, "-p", "no:memleak")
    result.assert_outcomes(passed=1, warnings=1)
    assert "PytestUnknownMarkWarning: Unknown pytest.mark.no_leak" in words_of(result)
