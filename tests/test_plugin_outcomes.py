"""How measured tests end together with the rest of pytest: xfail, reruns, the debugger, workers, canaries."""

from __future__ import annotations

import re
import sys

import pytest
from plugin_support import (
    ABSENT,
    failures_of,
    lines_of_section,
    measure,
    outcomes,
    rehearse,
    results,
    words_of,
    write_ini,
)

# In all leaks a pause: a few thousand calls convict, and without it there would be a hundred thousand of them.
VISITS = """
    import time

    VISITS = []

    def visit(page):
        time.sleep(0.0003)
        VISITS.append(["page", page])
"""

ENDPOINTS = """
    import asyncio

    KEPT = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await asyncio.sleep(0.0003)
        if scope["path"] == "/kept":
            KEPT.append([scope["method"]])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""


def test_a_leak_that_is_expected_is_an_expected_failure_and_a_clean_test_that_should_leak_fails(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        app=VISITS,
        test_expected="""
        import app
        import pytest

        pytestmark = [pytest.mark.no_leak, pytest.mark.xfail(strict=True, reason="visits are kept")]

        def test_leak(leak_call):
            app.visit(leak_call.number)

        def test_clean():
            pass
        """,
    )
    expected = measure(pytester, "-k", "test_leak", "-rx")
    expected.assert_outcomes(xfailed=1, deselected=1)
    assert expected.ret == pytest.ExitCode.OK
    assert outcomes(pytester) == {"test_leak": "LEAK"}
    expected.stdout.fnmatch_lines(["XFAIL test_expected.py::test_leak - visits are kept*"])
    assert any(line.startswith("test_leak ") for line in lines_of_section(expected, "memory growth"))

    mended = measure(pytester, "-k", "test_clean")
    mended.assert_outcomes(failed=1, deselected=1)
    assert mended.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytester) == {"test_clean": "CLEAN"}
    assert failures_of(mended)["test_clean"] == ["[XPASS(strict)] visits are kept"]


def test_a_leak_stops_the_run_is_run_again_alone_and_opens_the_debugger(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app=VISITS,
        test_shop="""
        from pathlib import Path

        import app
        import pytest

        pytestmark = pytest.mark.no_leak

        def test_clean():
            pass

        def test_leak(leak_call):
            app.visit(leak_call.number)

        def test_later():
            Path("later.txt").touch()
        """,
    )
    first = measure(pytester, "-q", "-x")
    first.assert_outcomes(failed=1, passed=1)
    assert outcomes(pytester) == {"test_clean": "CLEAN", "test_leak": "LEAK"}
    assert not (pytester.path / "later.txt").exists()
    first.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    (report,) = failures_of(first).values()
    assert report[0].startswith("test_leak grew ")
    assert "leak: global_accumulation (HIGH)" in report
    shown = [line.split()[0] for line in lines_of_section(first, "memory growth")]
    assert shown == ["test", "test_leak", "growth"], "with -q only what is not clean"

    arguments = ["--memleak", "--lf", "--pdb", *(f"-pno:{plugin}" for plugin in ABSENT)]
    again = pytester.run(sys.executable, "-mpytest", *arguments, stdin=b"p 6 * 7\nc\n")
    again.assert_outcomes(failed=1)
    assert not (pytester.path / "later.txt").exists()
    again.stdout.fnmatch_lines(
        [
            "*> traceback >*",
            "test_leak grew *",
            "  again pytest --memleak test_shop.py::test_leak",
            "*> entering PDB >*",
            "(Pdb) 42",
            "*> PDB continue *",
            "*= memory growth =*",
            "test_leak * LEAK",
            "*= 1 failed in *",
        ]
    )


def test_the_results_of_all_workers_come_together(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    pytester.makepyfile(
        app=ENDPOINTS,
        test_shop="""
        import pytest
        from app import app

        def test_endpoints(memleak):
            results = memleak.run(app, "GET /home", "GET /kept")
            assert results["GET /home"].outcome.value == "CLEAN"
            results.assert_no_leak()

        @pytest.mark.no_leak
        def test_clean():
            pass
        """,
    )
    result = measure(pytester, "-n2", "-v", "--color=no", "--junitxml=junit.xml")
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.re_match_lines_random(
        [
            r"\[gw\d\].* FAILED test_shop.py::test_endpoints",
            r"\[gw\d\].* PASSED test_shop.py::test_clean",
            r"test_shop.py::test_endpoints GET /kept .* LEAK",
            r"test_shop.py::test_endpoints GET /home .* CLEAN",
            r"test_shop.py::test_clean .* CLEAN",
            r"test_clean: no leak above .* \(99 %\)",
        ]
    )
    workers = set(re.findall(r"^\[(gw\d)\].* (?:FAILED|PASSED) ", result.stdout.str(), re.MULTILINE))
    assert workers == {"gw0", "gw1"}
    assert outcomes(pytester) == {"GET /home": "CLEAN", "GET /kept": "LEAK", "test_clean": "CLEAN"}
    assert results(pytester)["GET /kept"]["nodeid"] == "test_shop.py::test_endpoints"

    report = failures_of(result)["test_endpoints"]
    assert any(line.startswith("GET /kept grew ") for line in report)
    assert "leak: global_accumulation (HIGH)" in report
    assert "  again pytest --memleak test_shop.py::test_endpoints" in report
    assert not any(line.startswith("GET /home") for line in report)

    written = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    for name, verdict in {"memleak GET /kept": "LEAK", "memleak GET /home": "CLEAN", "memleak": "CLEAN"}.items():
        assert f'name="{name} verdict" value="{verdict}"' in written
        assert f'name="{name} growth" value="' in written
        assert f'name="{name} sensitivity" value="' in written


def test_canaries_are_planted_in_every_test_and_missed_only_where_a_leak_would_be_too(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        app=ENDPOINTS,
        test_shop="""
        import time

        import pytest
        from app import app

        @pytest.mark.no_leak
        def test_clean():
            time.sleep(0.0003)

        def test_budget(memleak):
            memleak.run(app, "GET /home", max_bytes_per_request=1000).assert_no_leak()

        @pytest.mark.no_leak(ignore="list")
        def test_ignoring():
            time.sleep(0.0003)
        """,
    )
    result = measure(pytester, "--memleak-canary")
    result.assert_outcomes(passed=2, failed=1)
    assert outcomes(pytester) == {"test_clean": "LEAK", "GET /home": "LEAK", "test_ignoring": "CLEAN"}
    (sentence,) = failures_of(result)["test_ignoring"]
    assert sentence == (
        "test_ignoring: a planted leak of the budget's size was not convicted (CLEAN: all of its growth is known); "
        "give the test more time (max_time), a budget that its noise allows, or a narrower ignore"
    )
    words = words_of(result)
    assert "memory growth beside a planted leak" in words
    assert "every LEAK here is the planted one, convicted as it should be (--memleak-canary)" in words
    planted = {
        name: next(one["growth"]["per_call"] for one in result["judgements"] if one["resource"] == "memory")
        for name, result in results(pytester).items()
    }
    assert planted["GET /home"] == pytest.approx(1533 + 8, abs=100), "one and a half budgets, and the list's table"
    assert 0 < planted["test_clean"] < 20, "one object of 64 B in 25 calls"


def test_a_canary_in_a_test_without_a_verdict_is_missed(pytester: pytest.Pytester) -> None:
    write_ini(pytester, "memleak_canary = true")
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_inconclusive(): pass")
    result = rehearse(pytester, "--memleak")
    result.assert_outcomes(failed=1)
    assert (
        "test_inconclusive: a planted leak of the budget's size was not convicted (INCONCLUSIVE: as scripted); "
        "give the test more time (max_time), a budget that its noise allows, or a narrower ignore"
    ) in words_of(result)


def test_results_that_cannot_be_written_take_nothing_else_along(pytester: pytest.Pytester) -> None:
    pytester.mkdir("memory.json")
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_leak(): pass")
    result = rehearse(pytester, "--memleak", "--memleak-json=memory.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = words_of(result)
    assert "memory.json: cannot be written (Is a directory); choose another place" in said
    assert "test_leak grew" in said
    assert "test or endpoint calls memory objects MB/min verdict" in said
    assert not list(pytester.path.glob("*.part"))


@pytest.mark.parametrize(
    "folder, path", [("shop", "test_shop.py"), (".", "shop/test_shop.py"), ("other", "../shop/test_shop.py")]
)
def test_a_leak_is_measured_again_from_where_pytest_was_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, folder: str, path: str
) -> None:
    pytester.mkdir("shop").joinpath("test_shop.py").write_text(
        "import pytest\n@pytest.mark.no_leak\ndef test_leak(): pass", encoding="utf-8"
    )
    pytester.mkdir("other")
    root = str(pytester.path)
    monkeypatch.chdir(pytester.path / folder)
    result = rehearse(pytester, "--memleak", f"--rootdir={root}", f"{root}/shop/test_shop.py")
    result.assert_outcomes(failed=1)
    assert f"  again pytest --memleak {path}::test_leak" in lines_of_section(result, "FAILURES")
