"""Measuring is off unless asked for, and every option can be set by each of its routes; the nearest wins."""

from __future__ import annotations

from typing import Any

import pytest
from plugin_support import outcomes, pytest_version, rehearse, run, told_settings, words_of, write_ini

from pytest_memleak.settings import BY_NAME, OPTIONS, Option

APP = """
    from pathlib import Path

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        with open("requests.txt", "a") as log:
            print(scope["method"], scope["path"], file=log)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""

ROUTES = ("ini", "command line", "marker", "argument")
MEASURED_WITH = [option for option in OPTIONS if option.marker]


def value_of(option: Option, route: str) -> Any:
    """A value that no default has and no other route gives."""
    number = 11 + ROUTES.index(route)
    if option.kind == "number":
        return number + 0.5
    if option.kind == "count":
        return number
    return f"{route.replace(' ', '_')}.{option.name}"


def in_ini(option: Option) -> str:
    return f"{option.ini} = {value_of(option, 'ini')}"


def on_command_line(option: Option) -> str:
    return f"{option.flag}={value_of(option, 'command line')}"


def as_arguments(route: str) -> str:
    return ", ".join(f"{option.name}={value_of(option, route)!r}" for option in MEASURED_WITH)


def expected(*routes: str) -> dict[str, Any]:
    """The settings when these routes were used, the nearest last."""
    settings: dict[str, Any] = {}
    for option in MEASURED_WITH:
        usable = [route for route in routes if option.config or route in ("marker", "argument")]
        if option.kind == "names":
            settings[option.name] = [value_of(option, route) for route in usable]
        else:
            settings[option.name] = value_of(option, usable[-1]) if usable else option.default
    return settings


def test_without_the_option_a_marked_test_runs_once_as_an_ordinary_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import gc
        import sys

        import pytest

        CALLS = []
        FROZEN = gc.get_freeze_count()

        @pytest.mark.no_leak(max_mb_per_min=1)
        def test_marked(leak_call):
            CALLS.append(leak_call.number)

        def test_it_ran_once_and_nothing_was_prepared(request):
            assert CALLS == [0]
            assert gc.get_freeze_count() == FROZEN
            assert not request.config.pluginmanager.hasplugin("memleak-measuring")
            assert "pytest_memleak.hunt" not in sys.modules
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*memory growth*")


def test_without_the_option_run_calls_each_endpoint_once_and_judges_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app=APP,
        test_run="""
        from app import app

        KEPT = []

        def leaking(client):
            KEPT.append(client.get("/called").status_code)

        def test_endpoints(memleak):
            results = memleak.run(app, "GET /items/{item_id}", "POST /orders", leaking)
            assert list(results) == ["GET /items/{item_id}", "POST /orders", "leaking"]
            assert [result.measured for result in results.values()] == [False] * 3
            assert [result.calls for result in results.values()] == [1] * 3
            assert results["POST /orders"].bytes_per_request == 0
            results.assert_no_leak()
            assert KEPT == [200]
        """,
    )
    result = run(pytester)
    result.assert_outcomes(passed=1)
    requests = (pytester.path / "requests.txt").read_text(encoding="utf-8").splitlines()
    assert requests == ["GET /items/0", "POST /orders", "GET /called"]


COUNTED = """
    import pytest

    CALLS = []

    @pytest.mark.no_leak
    def test_marked(leak_call):
        CALLS.append(leak_call.number)

    def test_unmarked():
        print("the marked test was called", len(CALLS), "times, first with", CALLS[0])
"""


def configure(pytester: pytest.Pytester, where: str) -> None:
    if where == "pytest.ini":
        write_ini(pytester, "memleak = true")
    elif where == "[tool.pytest.ini_options]":
        pytester.makepyprojecttoml("[tool.pytest.ini_options]\nmemleak = true\n")
    elif where == "[tool.pytest]":
        pytester.makepyprojecttoml("[tool.pytest]\nmemleak = true\n")


@pytest.mark.parametrize(
    "where",
    [
        "pytest.ini",
        "[tool.pytest.ini_options]",
        pytest.param(
            "[tool.pytest]",
            marks=pytest.mark.skipif(pytest_version() < (9, 0), reason="pytest 9 is the first to read it"),
        ),
    ],
)
def test_the_ini_file_switches_measuring_on_and_the_command_line_switches_it_off_again(
    pytester: pytest.Pytester, where: str
) -> None:
    configure(pytester, where)
    pytester.makepyfile(COUNTED)
    on = rehearse(pytester, "-s")
    on.assert_outcomes(passed=2)
    on.stdout.fnmatch_lines(["*the marked test was called 3 times, first with 1*", "*= memory growth =*"])
    off = rehearse(pytester, "-s", "--no-memleak")
    off.assert_outcomes(passed=2)
    off.stdout.fnmatch_lines(["*the marked test was called 1 times, first with 0*"])
    off.stdout.no_fnmatch_line("*memory growth*")


def test_the_command_line_switches_measuring_on_against_the_ini_file(pytester: pytest.Pytester) -> None:
    write_ini(pytester, "memleak = false")
    pytester.makepyfile(COUNTED)
    result = rehearse(pytester, "-s", "--memleak")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*the marked test was called 3 times, first with 1*"])


BY_EVERY_ROUTE = """
    import pytest
    from app import app

    @pytest.mark.no_leak
    def test_bare():
        pass

    @pytest.mark.no_leak({marker})
    def test_marked():
        pass

    def test_fixture(memleak):
        memleak.run(app, "GET /by/fixture", {argument})
"""


def write_tests_of_every_route(pytester: pytest.Pytester) -> None:
    source = BY_EVERY_ROUTE.format(marker=as_arguments("marker"), argument=as_arguments("argument"))
    pytester.makepyfile(app=APP, test_routes=source)


def test_every_option_is_set_by_each_of_its_routes_and_the_nearest_wins(pytester: pytest.Pytester) -> None:
    write_tests_of_every_route(pytester)
    configurable = [option for option in MEASURED_WITH if option.config]
    write_ini(pytester, *map(in_ini, configurable))
    rehearse(pytester, "--memleak").assert_outcomes(passed=3)
    told = told_settings(pytester)
    assert told["test_bare"] == expected("ini")
    assert told["test_marked"] == expected("ini", "marker")
    assert told["GET /by/fixture"] == expected("ini", "argument")

    rehearse(pytester, "--memleak", *map(on_command_line, configurable)).assert_outcomes(passed=3)
    told = told_settings(pytester)
    assert told["test_bare"] == expected("ini", "command line")
    assert told["test_marked"] == expected("ini", "command line", "marker")
    assert told["GET /by/fixture"] == expected("ini", "command line", "argument")


def test_options_in_toml_may_have_the_types_of_toml(pytester: pytest.Pytester) -> None:
    if pytest_version() < (9, 0):
        pytest.skip("pytest 9 is the first to read [tool.pytest]")
    write_tests_of_every_route(pytester)
    lines = {
        option.ini: repr([value_of(option, "ini")] if option.kind == "names" else value_of(option, "ini"))
        for option in MEASURED_WITH
        if option.config
    }
    pytester.makepyprojecttoml("[tool.pytest]\nmemleak = true\n" + "\n".join(f"{k} = {v}" for k, v in lines.items()))
    rehearse(pytester).assert_outcomes(passed=3)
    assert told_settings(pytester)["test_bare"] == expected("ini")


def test_a_whole_number_in_toml_is_a_number_too(pytester: pytest.Pytester) -> None:
    if pytest_version() < (9, 0):
        pytest.skip("pytest 9 is the first to read [tool.pytest]")
    write_tests_of_every_route(pytester)
    pytester.makepyprojecttoml("[tool.pytest]\nmemleak = true\nmemleak_max_time = 7\nmemleak_max_mb_per_min = 1\n")
    rehearse(pytester).assert_outcomes(passed=3)
    told = told_settings(pytester)["test_bare"]
    assert (told["max_time"], told["max_mb_per_min"]) == (7.0, 1.0)


@pytest.mark.parametrize("route", ["ini", "command line"])
def test_the_options_of_the_whole_run_are_set_by_ini_file_and_command_line(
    pytester: pytest.Pytester, route: str
) -> None:
    whole_run = [option for option in OPTIONS if not option.marker and option.name not in ("memleak", "canary")]
    values = {"inconclusive": "fail", "json": "results.json"}
    assert {option.name for option in whole_run} == set(values)
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_inconclusive(): pass")
    if route == "ini":
        write_ini(pytester, *(f"{option.ini} = {values[option.name]}" for option in whole_run))
        result = rehearse(pytester, "--memleak")
    else:
        result = rehearse(pytester, "--memleak", *(f"{option.flag}={values[option.name]}" for option in whole_run))
    result.assert_outcomes(failed=1)
    assert outcomes(pytester) == {"test_inconclusive": "INCONCLUSIVE"}


@pytest.mark.parametrize(
    "ini, arguments, failed",
    [
        ("memleak_canary = true", [], 1),
        ("memleak_canary = false", ["--memleak-canary"], 1),
        ("memleak_canary = true", ["--no-memleak-canary"], 0),
    ],
)
def test_the_canary_is_set_by_ini_file_and_command_line(
    pytester: pytest.Pytester, ini: str, arguments: list[str], failed: int
) -> None:
    write_ini(pytester, ini)
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_clean(): pass")
    rehearse(pytester, "--memleak", *arguments).assert_outcomes(failed=failed, passed=1 - failed)


def test_names_on_the_command_line_may_be_given_again_and_again(pytester: pytest.Pytester) -> None:
    write_tests_of_every_route(pytester)
    write_ini(pytester, "memleak_ignore = shop.cache.SEEN Session", "    a file.py:3")
    rehearse(pytester, "--memleak", "--memleak-ignore=cache.py:17", "--memleak-ignore=Order").assert_outcomes(passed=3)
    told = told_settings(pytester)["test_bare"]
    assert told["ignore"] == ["shop.cache.SEEN", "Session", "a file.py:3", "cache.py:17", "Order"]


@pytest.mark.parametrize(
    "option, bad",
    [
        ("max_mb_per_min", "fast"),
        ("rps", "0"),
        ("max_bytes_per_request", "-1"),
        ("max_objects_per_request", "nan"),
        ("max_fds", "1.5"),
        ("max_threads", "-1"),
        ("max_tasks", "many"),
        ("min_calls", "1e400"),
        ("max_time", "0"),
        ("inconclusive", "explode"),
    ],
)
@pytest.mark.parametrize("route", ["ini", "command line"])
def test_a_bad_value_is_a_usage_error_that_names_the_option_as_it_was_spelt(
    pytester: pytest.Pytester, option: str, bad: str, route: str
) -> None:
    found = BY_NAME[option]
    pytester.makepyfile("def test_nothing(): pass")
    write_ini(pytester, *([f"{found.ini} = {bad}"] if route == "ini" else []))
    arguments = [f"{found.flag}={bad}"] if route == "command line" else []
    result = pytester.runpytest_inprocess("-pno:randomly", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = words_of(result)
    assert (found.ini if route == "ini" else found.flag) in said
    assert bad in said
    assert "Traceback" not in said


def test_help_lists_every_option_with_its_unit(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    said = words_of(result)
    for option in OPTIONS:
        if option.config:
            assert option.flag in said
            assert option.ini in said
        if option.config and option.unit:
            assert f"[{option.unit}]" in said
    assert "what an INCONCLUSIVE measurement does to its test (warn or fail) (default: warn)" in said
    assert "without its diagnosis [s] (default: 30)" in said


def test_the_marker_is_registered_with_its_meaning(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.no_leak(max_mb_per_min=...*): with --memleak, the test is repeated *"])
