"""Soaks by marker and by fixture: what they are told, how they end, and what a run tells of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from plugin_support import ABSENT, failures_of, lines_of_section, run, words_of, write_ini

# Inner runs in this process forget what they imported; numpy cannot be imported again.
import pytest_memleak.plugin.soaking  # noqa: F401
from pytest_memleak.model import Outcome
from pytest_memleak.plugin import soak_lines, soaked
from pytest_memleak.settings import BY_NAME, SOAK_OPTIONS, Option
from pytest_memleak.soak.plan import Plan
from pytest_memleak.soak.recorder import Progress

if importlib.util.find_spec("locust") is None:
    pytest.skip("a soak is refused where Locust is not installed", allow_module_level=True)

SCRIPTED = """
    import json
    from pathlib import Path

    from pytest_memleak.model import Outcome
    from pytest_memleak.model_soak import EndpointGrowth, Estimate, SoakResult
    from pytest_memleak.soak import act, plan as plans, tree

    SOAK, PLANS = act.soak, {}

    def scripted_soak(plan, progress):
        folder = Path(plan.folder)
        PLANS[folder.name] = plan.to_dict()
        Path("plans.json").write_text(json.dumps(PLANS))
        if "refused" in folder.name:
            raise tree.StartError("the server ended with code 3 before it answered")
        if "interrupted" in folder.name:
            (folder / "readings.jsonl").write_text('{"kind": "event", "t": 1, "event": "interrupted"}\\n')
        outcome = next((one for one in Outcome if one.value.lower() in folder.name), Outcome.CLEAN)
        growth = Estimate(value=2.0, low=1.9, high=2.1) if outcome is Outcome.LEAK else Estimate(
            value=0.0, low=-0.1, high=0.2
        )
        each = Estimate(value=20_000.0, low=19_000.0, high=21_000.0)
        return SoakResult(
            name=plan.name, outcome=outcome, why="as scripted", basis="live heap at rest",
            limit_mb_per_min=plan.max_mb_per_min, growth=growth, seconds=plan.duration_s,
            wanted_seconds=plan.duration_s, warm_up_s=0.0, workers=1, readings=100, folder=plan.folder,
            endpoints=(
                EndpointGrowth(endpoints=("GET /a", "GET /b"), requests=9, bytes_per_request=each, mb_per_min=each),
            ),
            failure="Locust made no request" if "failed" in folder.name else "",
        )

    def pytest_configure():
        act.soak = scripted_soak

    def pytest_unconfigure():
        act.soak = SOAK
"""
"""A conftest whose soaks end as the test's name says: "leak", "inconclusive", "failed", "refused" or clean.

What they were asked is in `plans.json`.
"""

APP = """
    async def app(scope, receive, send):
        raise AssertionError("nobody calls it in this process")

    other = app
"""

MARKED = """
    import pytest

    @pytest.mark.no_leak(app="shop:app", {arguments})
    def {name}():
        pass
"""


def rehearse(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the inner tests in this process with scripted soaks, measured into `results.json`."""
    if not list(pytester.path.glob("*.ini")):
        write_ini(pytester)
    pytester.makeconftest(SCRIPTED)
    absent = (f"-pno:{plugin}" for plugin in ABSENT)
    return pytester.runpytest_inprocess("-Wdefault", "--memleak", "--memleak-json=results.json", *absent, *arguments)


def plans(pytester: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """What the soaks of the run just made were asked, by the name of their test."""
    told = json.loads((pytester.path / "plans.json").read_text(encoding="utf-8"))
    return {re.sub(r"^soak-|\d+$", "", folder): plan for folder, plan in told.items()}


def soaks(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    """The soaks in the JSON file of the run just made."""
    found: list[dict[str, Any]] = json.loads((pytester.path / "results.json").read_text(encoding="utf-8"))["soaks"]
    return found


def refused(pytester: pytest.Pytester, name: str) -> str:
    """What was told of a failing test, as one line."""
    result = rehearse(pytester)
    result.assert_outcomes(failed=1)
    assert "Traceback" not in words_of(result)
    assert not (pytester.path / "plans.json").exists()
    return " ".join(" ".join(failures_of(result)[name]).split())


def test_without_the_option_nothing_is_soaked_or_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        import pytest

        CALLS = []

        @pytest.mark.no_leak(duration="30m", max_mb_per_min=1)
        def test_marked():
            CALLS.append(1)

        def test_fixture(memleak):
            result = memleak.soak("shop:app", duration="30m", url=None)
            assert (result.measured, result.name, result.outcome.value) == (False, "shop:app", "CLEAN")
            assert result["GET /search"].bytes_per_request.high < 10
            result.assert_no_leak()
            assert CALLS == [1]
            assert not [name for name in sys.modules if name.startswith(("pytest_memleak.soak", "numpy", "locust"))]
        """
    )
    run(pytester, "-pno:locust", "--memleak-soak=2m").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "name, option, ends, words",
    [
        ("test_clean", "warn", "passed", ""),
        ("test_leak", "warn", "failed", "LEAK shop:app: as scripted"),
        ("test_inconclusive", "warn", "passed", ""),
        ("test_inconclusive", "fail", "failed", "INCONCLUSIVE shop:app: as scripted"),
        ("test_failed", "warn", "failed", "the soak of test_failed failed: Locust made no request (kept in /"),
        ("test_failed_leak", "warn", "failed", "LEAK shop:app: as scripted"),
        ("test_refused", "warn", "failed", "test_refused could not be soaked: the server ended with code 3 before"),
    ],
)
def test_a_marked_test_ends_as_its_soak_does(
    pytester: pytest.Pytester, name: str, option: str, ends: str, words: str
) -> None:
    pytester.makepyfile(test_one=MARKED.format(arguments="duration='2m', reason='a cache'", name=name))
    result = rehearse(pytester, f"--memleak-inconclusive={option}")
    result.assert_outcomes(**{ends: 1})
    assert "Traceback" not in words_of(result)
    if words:
        told = failures_of(result)[name]
        assert " ".join(told).startswith(words)
        if "LEAK" in words:
            assert "  again pytest --memleak test_one.py::" + name in told
            assert "  note  the limit's reason: a cache" in told
    assert len(soaks(pytester)) == (name != "test_refused")


def test_the_body_runs_once_and_its_failure_spares_the_soak(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.no_leak(duration="2m", app="shop:app")

        def test_wrong():
            assert 1 == 2

        def test_right(leak_call):
            print("call", leak_call.number)

        async def test_that_is_async():
            pass

        @pytest.mark.xfail(strict=True)
        def test_known_leak():
            pass
        """
    )
    result = rehearse(pytester, "-s", "-o", "asyncio_mode=auto")
    result.assert_outcomes(failed=1, passed=2, xfailed=1)
    assert result.stdout.str().count("call 0") == 1
    assert sorted(plans(pytester)) == ["test_known_leak", "test_right", "test_that_is_async"]


ROUTES = ("ini", "command line", "marker", "argument")
CONFIGURED = [option for option in SOAK_OPTIONS if option.config and option.marker]
FIELDS = {"duration": "duration_s"}


def value_of(option: Option, route: str) -> Any:
    """A value that no default has and no other route gives."""
    if option.kind in ("duration", "count"):
        return 101 + ROUTES.index(route)
    return f"{route.replace(' ', '_')}.py" if option.name == "locustfile" else f"{route.replace(' ', '_')}:app"


def as_arguments(route: str) -> str:
    return ", ".join(f"{option.name}={value_of(option, route)!r}" for option in SOAK_OPTIONS if option.marker)


def test_every_option_is_set_by_each_of_its_routes_and_the_nearest_wins(pytester: pytest.Pytester) -> None:
    files = {value_of(BY_NAME["locustfile"], route)[:-3]: "" for route in ROUTES}
    pytester.makepyfile(
        **files,
        test_routes=f"""
        import pytest

        @pytest.mark.no_leak(duration="2m")
        def test_bare():
            pass

        @pytest.mark.no_leak({as_arguments("marker")})
        def test_marked():
            pass

        def test_fixture(memleak):
            memleak.soak({as_arguments("argument")})
        """,
    )

    def told(name: str, *routes: str) -> None:
        plan = plans(pytester)[name]
        for option in SOAK_OPTIONS:
            usable = [route for route in routes if option.marker and (option.config or route in ROUTES[2:])]
            if usable:
                value = value_of(option, usable[-1])
                wanted = str(pytester.path / value) if option.name == "locustfile" else value
                assert plan[FIELDS.get(option.name, option.name)] == wanted

    write_ini(pytester, *(f"{option.ini} = {value_of(option, 'ini')}" for option in CONFIGURED))
    rehearse(pytester).assert_outcomes(passed=3)
    told("test_bare", "ini")
    told("test_marked", "ini", "marker")
    told("test_fixture", "ini", "argument")
    line = [f"{option.flag}={value_of(option, 'command line')}" for option in CONFIGURED]
    rehearse(pytester, *line).assert_outcomes(passed=3)
    told("test_bare", "ini", "command line")
    told("test_marked", "ini", "command line", "marker")


@pytest.mark.parametrize(
    "ini, arguments, durations",
    [
        ([], [], [1800, 90, 60]),
        (["memleak_soak = 3m"], [], [180, 180, 180]),
        (["memleak_soak = 3m"], ["--memleak-soak=2m"], [120, 120, 120]),
    ],
)
def test_one_option_sets_the_duration_of_all_soaks(
    pytester: pytest.Pytester, ini: list[str], arguments: list[str], durations: list[float]
) -> None:
    pytester.makepyfile(
        locustfile="",
        test_soaks="""
        import pytest

        @pytest.mark.no_leak(locustfile="locustfile.py")
        def test_a():
            pass

        @pytest.mark.no_leak(duration="1m30s")
        def test_b():
            pass

        def test_c(memleak):
            memleak.soak(duration=60)
        """,
    )
    write_ini(pytester, "memleak_app = shop:app", *ini)
    rehearse(pytester, *arguments).assert_outcomes(passed=3)
    asked = plans(pytester)
    assert [asked[name]["duration_s"] for name in ("test_a", "test_b", "test_c")] == durations


def test_a_limit_of_the_ini_file_holds_and_what_is_not_for_soaks_is_left_out(pytester: pytest.Pytester) -> None:
    write_ini(pytester, "memleak_max_mb_per_min = 3", "memleak_max_fds = 2")
    pytester.makepyfile(MARKED.format(arguments="duration='2m'", name="test_of_ini"))
    rehearse(pytester).assert_outcomes(passed=1)
    assert plans(pytester)["test_of_ini"]["max_mb_per_min"] == 3
    write_ini(pytester)
    rehearse(pytester).assert_outcomes(passed=1)
    assert plans(pytester)["test_of_ini"]["max_mb_per_min"] == 1


def test_the_locustfile_is_beside_the_test_or_else_below_the_root(pytester: pytest.Pytester) -> None:
    for place in ("locustfile.py", "common.py", "tests/locustfile.py"):
        (pytester.path / place).parent.mkdir(exist_ok=True)
        (pytester.path / place).touch()
    source = MARKED.format(arguments="locustfile={file!r}", name="test_{name}").replace("\n    ", "\n")
    for name, file in (("near", "locustfile.py"), ("far", "common.py")):
        path = pytester.path / "tests" / f"test_{name}.py"
        path.write_text(source.format(file=file, name=name), encoding="utf-8")
    rehearse(pytester).assert_outcomes(passed=2)
    assert plans(pytester)["test_near"]["locustfile"] == str(pytester.path / "tests" / "locustfile.py")
    assert plans(pytester)["test_far"]["locustfile"] == str(pytester.path / "common.py")


@pytest.mark.parametrize(
    "marker, sentence",
    [
        ("duration='soon'", "no_leak: duration: expects a time such as 30m, 90s or 1h30m, got 'soon'"),
        ("duration='2m', users=0", "no_leak: users: expects a whole number of at least 1, got 0"),
        ("duration='2m', max_fds=1", "no_leak: max_fds is not for soaks, and duration makes the test one."),
        ("users=5", "no_leak: users is for soaks: add duration or locustfile, or leave it out"),
        ("soak='2m'", "no_leak: unknown argument 'soak'"),
        ("durations='2m'", "unknown argument 'durations', did you mean 'duration'?"),
    ],
)
def test_a_marker_that_makes_no_sense_is_a_usage_error(pytester: pytest.Pytester, marker: str, sentence: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.no_leak({marker})\ndef test_one(): pass")
    write_ini(pytester)
    result = pytester.runpytest_inprocess("-pno:randomly")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in words_of(result)


@pytest.mark.parametrize("route", ["ini", "command line"])
def test_a_bad_duration_of_all_soaks_is_a_usage_error(pytester: pytest.Pytester, route: str) -> None:
    write_ini(pytester, *(["memleak_soak = soon"] if route == "ini" else []))
    result = pytester.runpytest_inprocess("-pno:randomly", *(["--memleak-soak=soon"] if route != "ini" else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    spelt = "memleak_soak" if route == "ini" else "--memleak-soak"
    assert f"{spelt}: expects a time such as 30m, 90s or 1h30m, got 'soon'" in words_of(result)


def test_a_missing_locustfile_is_told_before_the_body_runs(pytester: pytest.Pytester) -> None:
    source = MARKED.format(arguments="locustfile='none.py'", name="test_a").replace("pass", "assert 0, 'ran'")
    pytester.makepyfile(source)
    here = pytester.path
    assert refused(pytester, "test_a") == (
        f"test_a cannot be soaked: locustfile: none.py is neither in {here} nor in {here}"
    )


def test_a_soak_longer_than_the_timeout_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MARKED.format(arguments="duration='30m'", name="test_a").replace(
            "@pytest.mark.no_leak", "@pytest.mark.timeout(300)\n    @pytest.mark.no_leak"
        )
    )
    assert refused(pytester, "test_a").startswith(
        "test_a cannot be soaked: a soak of 30 min 0 s takes 31 min 36 s in all, and pytest-timeout stops the test "
        "after 5 min 0 s: raise it (@pytest.mark.timeout(1896)), or shorten the soak"
    )
    rehearse(pytester, "--memleak-soak=2m").assert_outcomes(passed=1)


def test_what_a_soak_needs_is_named_with_the_command_that_installs_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    absent = ("scipy", "locust")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find_spec(name))
    pytester.makepyfile(MARKED.format(arguments="duration='2m'", name="test_a"))
    assert refused(pytester, "test_a") == (
        "test_a cannot be soaked: a soak needs scipy and locust: python -m pip install 'pytest-memleak[locust]' "
        "(memleak explain missing-extra)"
    )


def test_a_planted_leak_cannot_be_in_the_process_of_a_soak(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MARKED.format(arguments="duration='2m'", name="test_a") + "\n    def test_b(memleak):\n"
        "        memleak.soak('shop:app')\n"
    )
    result = rehearse(pytester, "--memleak-canary", "-rs")
    result.assert_outcomes(skipped=2)
    assert "plants its leaks in this process" in words_of(result)


@pytest.mark.parametrize(
    "arguments, names",
    [
        ("", ["test_of_client", "test_of_app", "test_of_transport", "test_of_global"]),
        ("--import-mode=importlib", ["test_of_client", "test_of_app", "test_of_transport", "test_of_global"]),
    ],
)
def test_the_app_is_found_in_fixtures_and_globals(pytester: pytest.Pytester, arguments: str, names: list[str]) -> None:
    pytester.makepyfile(
        longer_named_shop="from shop import app as the_same_app",
        shop=APP,
        test_apps="""
        import pytest
        import longer_named_shop
        import shop
        from shop import app
        from httpx import ASGITransport, AsyncClient
        from starlette.testclient import TestClient

        pytestmark = pytest.mark.no_leak(duration="2m")

        @pytest.fixture
        def client():
            return TestClient(shop.app)

        @pytest.fixture
        def transport():
            return AsyncClient(transport=ASGITransport(app=shop.app))

        @pytest.fixture
        def fixture_app():
            return shop.other

        def test_of_client(client): pass
        def test_of_app(fixture_app): pass
        def test_of_transport(transport): pass
        def test_of_global():
            assert app
        """,
    )
    write_ini(pytester, "pythonpath = .")
    rehearse(pytester, *filter(None, [arguments])).assert_outcomes(passed=4)
    assert {name: plan["app"] for name, plan in plans(pytester).items()} == dict.fromkeys(names, "shop:app")


@pytest.mark.parametrize(
    "body, sentence",
    [
        ("return None", "no fixture of the test holds an ASGI app or a client of one: give app='shop.main:app', or"),
        (
            "async def app(scope, receive, send): pass\n    return app",
            "the app of the fixture 'thing' is no attribute of a module that a server could import: give app='shop",
        ),
    ],
)
def test_an_app_that_is_not_found_has_to_be_named(pytester: pytest.Pytester, body: str, sentence: str) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.fixture\ndef thing():\n    " + body + "\n@pytest.mark.no_leak(duration='2m')\n"
        "def test_a(thing): pass"
    )
    assert refused(pytester, "test_a").startswith(f"test_a cannot be soaked: {sentence}")


def test_two_apps_of_one_test_are_not_guessed_between(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        async def app(scope, receive, send): pass
        async def admin(scope, receive, send): pass

        @pytest.mark.no_leak(duration="2m")
        def test_a():
            assert app and admin
        """
    )
    assert "the test has 2 apps (app, admin): give app='shop.main:app'" in refused(pytester, "test_a")


@pytest.mark.parametrize(
    "call, sentence",
    [
        ("'shop:app', duratoin='2m'", "unknown argument 'duratoin', did you mean 'duration'?"),
        ("'shop:app', rps=5", "unknown argument 'rps'"),
        ("'shop:app', duration=0", "arguments: duration: expects a time such as 30m, 90s or 1h30m, got 0"),
        ("'shop:app', port='x'", "arguments: port: expects a whole number of at least 0, got 'x'"),
        ("'shop:app', fail_fast=1", "arguments: fail_fast: expects true or false, got 1"),
        ("'shop:app', locust_options='-v'", "arguments: locust_options: expects a list of words, got '-v'"),
        ("command=3", "command: expects text or a list of words, got 3"),
        ("object()", "the app is no attribute of a module that a server could import"),
        ("'shop:app', url='http://localhost:1'", "shop:app and a server that runs already"),
    ],
)
def test_a_bad_argument_of_the_fixture_is_one_sentence(pytester: pytest.Pytester, call: str, sentence: str) -> None:
    pytester.makepyfile(f"def test_a(memleak):\n    memleak.soak({call})")
    told = refused(pytester, "test_a")
    assert told.startswith("memleak.soak: ")
    assert sentence in told


def test_the_fixture_and_the_marker_do_not_go_together(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak(duration="2m", app="shop:app")
        def test_a(memleak):
            memleak.soak("shop:app")
        """
    )
    assert "measure it by the marker or by the fixture, not both" in refused(pytester, "test_a")


def test_the_fixture_gives_the_result_and_its_endpoints(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        shop=APP,
        test_fixture="""
        import pytest
        import shop

        def test_leak(memleak):
            result = memleak.soak(
                shop.app, duration="2m", health_path="/health", wait_s=1, locust_options=["-L", "INFO"], fail_fast=True
            )
            assert (result.name, result.seconds, result.measured) == ("shop:app", 120, True)
            assert result["GET /a"] is result["GET /a + GET /b"] is result.endpoints[0]
            assert result["GET /b"].bytes_per_request.high == 21_000
            with pytest.raises(KeyError, match="GET /c.* was not requested, or too seldom; measured: GET /a, GET /b"):
                result["GET /c"]
            result.assert_no_leak()

        def test_clean(memleak):
            memleak.soak(command="gunicorn -b {bind} 'shop:app'").assert_no_leak()
            memleak.soak(url="http://127.0.0.1:8000").assert_no_leak()
        """,
    )
    result = rehearse(pytester)
    result.assert_outcomes(failed=1, passed=1)
    assert failures_of(result)["test_leak"][0] == "LEAK shop:app: as scripted"
    asked = plans(pytester)["test_leak"]
    assert (asked["health_path"], asked["wait_s"], asked["fail_fast"]) == ("/health", 1.0, True)
    assert asked["locust_options"] == ["-L", "INFO"]
    told = json.loads((pytester.path / "plans.json").read_text(encoding="utf-8"))
    assert told["soak-test_clean0"]["command"] == ["gunicorn", "-b", "{bind}", "shop:app"]
    assert (told["soak-test_clean1"]["url"], told["soak-test_clean1"]["app"]) == ("http://127.0.0.1:8000", "")
    assert [soak["test"] for soak in soaks(pytester)] == ["test_leak", "test_clean", "test_clean (2)"]


def test_the_fixture_takes_the_fields_of_a_plan_under_their_names_and_types() -> None:
    types = {field.name: str(field.type).partition("[")[0] for field in dataclasses.fields(Plan)}
    assert {name: types.get(name) for name in soaked.PLAN_FIELDS} == {
        name: kind.__name__ for name, kind in soaked.PLAN_FIELDS.items()
    }


def test_a_run_tells_of_its_soaks_at_its_end(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("test_clean", "test_leak", "test_inconclusive", "test_failed")
    pytester.makepyfile(
        "import pytest\npytestmark = pytest.mark.no_leak(duration='2m', app='shop:app')\n"
        + "".join(f"def {name}(): pass\n" for name in names)
    )
    result = rehearse(pytester, "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, failed=2)
    heading, *lines = [" ".join(line.split()) for line in lines_of_section(result, "soaks")]
    assert heading == "test load MB/min between (99 %) limit verdict"
    assert lines[:4] == [
        "test_clean 2 min 0 s 0 -0.1 to 0.2 1 CLEAN",
        "test_leak 2 min 0 s 2 1.9 to 2.1 1 LEAK",
        "test_inconclusive 2 min 0 s 0 -0.1 to 0.2 1 INCONCLUSIVE",
        "test_failed 2 min 0 s 0 -0.1 to 0.2 1 failed",
    ]
    told = " ".join(lines[4:])
    assert "INCONCLUSIVE test_inconclusive: as scripted (--memleak-inconclusive=fail makes this a failure)" in told
    assert all(f"{name}: kept in {plan['folder']}" in told for name, plan in plans(pytester).items())
    assert "= memory growth =" not in result.stdout.str()
    assert {soak["test"]: soak["outcome"] for soak in soaks(pytester)} == dict(
        zip(names, ("CLEAN", "LEAK", "INCONCLUSIVE", "CLEAN"), strict=True)
    )
    assert soaks(pytester)[0]["nodeid"].endswith(".py::test_clean")
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    assert {one.get("name"): one.get("value") for one in cases["test_leak"].iter("property")} == {
        "memleak soak verdict": "LEAK",
        "memleak soak growth": "2 MB/min [1.9, 2.1]",
        "memleak soak seconds": "120",
        "memleak soak folder": plans(pytester)["test_leak"]["folder"],
    }
    quiet = rehearse(pytester, "-q")
    assert "test_clean" not in " ".join(lines_of_section(quiet, "soaks"))


def test_soaks_cross_the_workers_of_xdist(pytester: pytest.Pytester) -> None:
    write_ini(pytester)
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(
        "import pytest\npytestmark = pytest.mark.no_leak(duration='2m', app='shop:app')\n"
        "def test_clean(): pass\ndef test_leak(): pass\n"
    )
    result = run(pytester, "-n2", "--memleak", "--memleak-json=results.json")
    result.assert_outcomes(passed=1, failed=1)
    assert sorted((soak["test"], soak["outcome"]) for soak in soaks(pytester)) == [
        ("test_clean", "CLEAN"),
        ("test_leak", "LEAK"),
    ]
    assert len(lines_of_section(result, "soaks")) == 5


def test_a_soak_that_is_stopped_by_hand_ends_the_run_and_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\npytestmark = pytest.mark.no_leak(duration='2m', app='shop:app')\n"
        "def test_interrupted_inconclusive(): pass\ndef test_never(): pass\n"
    )
    pytester.makeconftest(SCRIPTED)
    result = run(pytester, "--memleak", "--memleak-json=results.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [soak["test"] for soak in soaks(pytester)] == ["test_interrupted_inconclusive"]
    assert "test_interrupted_inconclusive" in " ".join(lines_of_section(result, "soaks"))


def test_a_soak_without_figures_has_a_row_too() -> None:
    growth = {"value": 0.0, "low": None, "high": None}
    soak = {
        "test": "test_of_a_name_that_is_longer_than_there_is_room_for_it",
        "nodeid": "tests/test_shop.py::test_of_a_name",
        "seconds": 12.0,
        "growth": growth,
        "limit_mb_per_min": 1.0,
        "outcome": "INCONCLUSIVE",
        "failure": "",
    }
    _, (line, outcome) = soak_lines.rows([soak], width=80, verbose=False)
    assert (len(line), outcome) == (79, "INCONCLUSIVE")
    assert re.fullmatch(r"test_o…\S+ +12 s +- +- +1 INCONCLUSIVE", line)
    assert soak_lines.growth_words(soak) == "not known"


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"phase": "starting the load"}, "soak: starting the load"),
        ({}, "soak 0:07 of 30:00 · 41 requests/s"),
        (
            {"elapsed_s": 3700.0, "mb_per_min": 1.25, "failures": 3, "rss_bytes": 2e8, "outcome": Outcome.LEAK},
            "soak 1:01:40 of 30:00 · 1.25 MB/min, so far LEAK · 41 requests/s · 3 failed · RSS 200 MB",
        ),
        ({"phase": "diagnosis"}, "soak 0:07 of 30:00 · diagnosis · 41 requests/s"),
    ],
)
def test_the_line_of_a_soak_that_goes_on(changes: dict[str, Any], line: str) -> None:
    progress = Progress(
        phase="load",
        elapsed_s=7.2,
        wanted_s=1800.0,
        requests=300,
        failures=0,
        requests_per_s=41.3,
        rss_bytes=None,
        mb_per_min=None,
        outcome=Outcome.INCONCLUSIVE,
    )
    assert soak_lines.progress_line(dataclasses.replace(progress, **changes)) == line


SHOP = """
    from fastapi import FastAPI

    app = FastAPI()
    SEEN = []

    @app.get("/clean")
    def clean() -> str:
        return "clean"

    @app.get("/kept")
    def kept() -> str:
        SEEN.append("x" * 20_000 + str(len(SEEN)))
        return "kept"
"""

USERS = """
    from locust import HttpUser, constant, task

    class Visitor(HttpUser):
        wait_time = constant(0.02)

        @task
        def clean(self):
            self.client.get("/clean")
"""


def test_a_real_soak_names_the_endpoint_and_the_line_of_a_leak_and_lets_a_clean_app_pass(
    pytester: pytest.Pytester,
) -> None:
    """Below a folder that only pytest's own options make importable."""
    write_ini(pytester, "pythonpath = src", "testpaths = tests")
    leaking = USERS + "\n        @task\n        def kept(self):\n            self.client.get('/kept')\n"
    pytester.makepyfile(
        **{
            "src/shop": SHOP,
            "tests/clean_users": USERS,
            "tests/leaking_users": leaking,
            "tests/test_shop": """
                import pytest
                from fastapi.testclient import TestClient
                from shop import SEEN, app

                @pytest.fixture
                def client():
                    return TestClient(app)

                @pytest.mark.no_leak(max_mb_per_min=1, duration="30s", locustfile="leaking_users.py", users=5)
                def test_leak(client):
                    assert client.get("/kept").json() == "kept"
                    assert len(SEEN) == 1

                def test_clean(memleak):
                    result = memleak.soak(app, duration="12s", locustfile="clean_users.py", users=5, interval_s=0.1)
                    result.assert_no_leak()
                    assert result.load.requests > 100
                    assert result["GET /clean"].bytes_per_request.high < 1_000
            """,
        }
    )
    result = run(pytester, "--memleak", "--memleak-json=results.json")
    result.assert_outcomes(failed=1, passed=1)
    told = failures_of(result)["test_leak"]
    assert told[0].startswith("LEAK shop:app: live heap at rest grew ")
    assert re.search(r"GET /kept .* kB .* leaks", " ".join(" ".join(told).split()))
    assert any(re.search(r"where .*shop\.py:12 in kept", line) for line in told)
    assert any("held  by shop.SEEN" in line for line in told)
    found = {soak["test"]: soak for soak in soaks(pytester)}
    assert found["test_leak"]["endpoints"][0]["endpoints"] == ["GET /kept"]
    assert found["test_leak"]["culprits"][0] == "GET /kept"
    assert found["test_clean"]["outcome"] != "LEAK"
    assert (Path(found["test_clean"]["folder"]) / "report.txt").is_file()
