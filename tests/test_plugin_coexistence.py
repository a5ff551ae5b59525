"""Beside other tools: what they record of our repetition is no growth, what they change comes back as it was."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest
from plugin_support import ABSENT, RESULTS_FILE, measure, outcomes, pytest_version, rehearse, results, told_settings
from plugin_support import words_of as words

SHOP = """
    KEPT = []

    def fetch(number):
        return number

    class Api:
        def get(self, number):
            return number

    API = Api()
"""


def verdicts(pytester: pytest.Pytester, outcome: str) -> set[str]:
    """The names of the tests of the run just made that ended so, without `test_`."""
    return {name.removeprefix("test_") for name, found in outcomes(pytester).items() if found == outcome}


def test_what_a_call_patches_is_undone_after_it_and_what_fixtures_patch_stays(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        shop=SHOP,
        test_patches="""
        import os
        import sys
        import time

        import pytest
        import shop

        STOCK = {5: "five", "a": "b"}

        @pytest.fixture
        def patched(mocker, monkeypatch, tmp_path):
            fetch = mocker.patch("shop.fetch", return_value=7)
            monkeypatch.setenv("SHOP", "one")
            monkeypatch.chdir(tmp_path)
            monkeypatch.syspath_prepend(tmp_path)
            yield
            assert os.environ["SHOP"] == "one"
            assert shop.fetch is fetch

        @pytest.mark.no_leak
        def test_mocker(mocker):
            fetch = mocker.patch("shop.fetch", return_value=3)
            mocker.patch.object(shop.API, "get", autospec=True)
            mocker.patch.dict(STOCK, {"patched": 1})
            assert shop.fetch(1) == 3
            fetch.assert_called_once_with(1)

        @pytest.mark.no_leak
        def test_spy_and_autospec(mocker):
            spy = mocker.spy(shop.API, "get")
            shop.API.get(1)
            assert spy.call_count == 1
            mocker.create_autospec(shop.Api)
            mocker.stub()("x")

        @pytest.mark.no_leak
        def test_beyond_a_fixture(patched, mocker, monkeypatch, tmp_path):
            assert (shop.fetch(1), os.environ["SHOP"], os.getcwd()) == (7, "one", str(tmp_path))
            assert sys.path[0] == str(tmp_path)
            mocker.patch("shop.fetch")
            monkeypatch.setenv("SHOP", "two")
            monkeypatch.chdir("/")
            monkeypatch.syspath_prepend("/nowhere")

        @pytest.mark.no_leak
        def test_monkeypatch(monkeypatch, tmp_path):
            class Local:
                size = 1

            monkeypatch.setattr(Local(), "size", 2)
            monkeypatch.setattr(shop, "fetch", lambda number, inner=shop.fetch: inner(number))
            assert shop.fetch(4) == 4
            monkeypatch.delattr(shop.Api, "get")
            monkeypatch.setitem(STOCK, 5, "six")
            monkeypatch.delitem(STOCK, "a")
            assert STOCK == {5: "six"}
            monkeypatch.setenv("PATH", "/x", prepend=":")
            assert not os.environ["PATH"].startswith("/x:/x")
            monkeypatch.setenv("HOME", "/")
            monkeypatch.delenv("HOME")
            monkeypatch.chdir(tmp_path)
            monkeypatch.syspath_prepend(tmp_path)

        @pytest.mark.asyncio
        @pytest.mark.no_leak
        async def test_async(mocker, monkeypatch):
            fetch = mocker.patch("shop.fetch", new_callable=mocker.AsyncMock)
            monkeypatch.setenv("SHOP", os.environ.get("SHOP", "") + "x")
            assert os.environ["SHOP"] == "x"
            await fetch(1)
            fetch.assert_awaited_once()

        @pytest.mark.no_leak
        def test_leak(mocker, monkeypatch):
            time.sleep(0.0003)
            mocker.patch("shop.fetch")
            monkeypatch.setenv("SHOP", "three")
            shop.KEPT.append([1])

        def test_all_is_as_it_was():
            assert shop.fetch(1) == 1
            assert shop.API.get(1) == 1
            assert STOCK == {5: "five", "a": "b"}
            assert "SHOP" not in os.environ
            assert "/nowhere" not in sys.path
        """,
    )
    result = measure(pytester)
    assert verdicts(pytester, "CLEAN") == {"mocker", "spy_and_autospec", "beyond_a_fixture", "monkeypatch", "async"}
    result.assert_outcomes(passed=6, failed=1)
    assert "held by shop.KEPT (list, +1 entry per call)" in words(result)


def test_what_a_call_leaves_to_the_end_of_the_test_is_done_after_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        shop=SHOP,
        test_ends="""
        import unittest
        from unittest import mock

        import pytest
        import shop

        DONE = []

        @pytest.mark.no_leak
        class Old(unittest.TestCase):
            def setUp(self):
                self.addCleanup(DONE.append, "set up")

            def test_cleanup(self):
                self.assertEqual(shop.fetch(1), 1)
                patch = mock.patch("shop.fetch")
                patch.start()
                self.addCleanup(patch.stop)
                self.assertEqual(DONE, [])

            def test_subtests(self):
                for number in range(3):
                    with self.subTest(number=number):
                        self.assertLess(number, 5)

        @pytest.fixture
        def stopped():
            yield
            mock.patch.stopall()
            assert shop.fetch(1) == 1

        @pytest.mark.no_leak
        def test_started(stopped):
            mock.patch("shop.fetch").start()

        @pytest.mark.no_leak
        def test_finalizer(request):
            held = [1]
            request.addfinalizer(held.clear)
            assert request.getfixturevalue("tmp_path").is_dir()
        """,
    )
    measure(pytester).assert_outcomes(passed=4)
    assert verdicts(pytester, "CLEAN") == {"cleanup", "subtests", "started", "finalizer"}


def test_what_pytest_records_per_call_is_kept_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import logging
        import os
        import sys
        import warnings

        import pytest

        pytestmark = pytest.mark.no_leak
        LOG = logging.getLogger("shop")

        def talk():
            LOG.warning("logged")
            print("printed")
            print("complained", file=sys.stderr)
            warnings.warn("mind")

        def test_unread():
            talk()

        def test_read(caplog, recwarn, capsys):
            talk()
            assert (len(caplog.records), len(recwarn), capsys.readouterr().out) == (1, 1, "printed\\n")

        def test_descriptors(capfd):
            os.write(1, b"raw")
            assert capfd.readouterr().out == "raw"

        @pytest.mark.asyncio
        async def test_async(caplog, recwarn, capsys):
            talk()
            await asyncio.sleep(0)
            assert (len(caplog.records), len(recwarn), capsys.readouterr().out) == (1, 1, "printed\\n")

        def test_warning(leak_call):
            warnings.warn(f"in call {leak_call.number}")

        def test_properties(record_property, record_testsuite_property):
            record_property("key", "of a test")
            record_testsuite_property("key", "of the run")
        """
    )
    result = measure(pytester, "--junitxml=junit.xml", "-ojunit_family=legacy")
    result.assert_outcomes(passed=6, warnings=2)
    assert verdicts(pytester, "CLEAN") == {"unread", "read", "descriptors", "async", "warning", "properties"}
    assert "UserWarning: in call 1" in words(result)
    recorded = [
        (found.get("name"), found.get("value"))
        for found in ElementTree.parse(pytester.path / "junit.xml").iter("property")
    ]
    assert recorded.count(("key", "of a test")) == 1
    assert recorded.count(("key", "of the run")) == 1
    assert recorded.count(("memleak verdict", "CLEAN")) == 6


@pytest.mark.skipif(pytest_version() < (9, 0), reason="pytest has subtests since 9.0")
def test_subtests_are_reported_for_one_call_and_end_the_measurement_when_they_fail(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak
        def test_passing(subtests):
            for number in range(3):
                with subtests.test("part", number=number):
                    assert number < 5

        @pytest.mark.no_leak
        def test_failing(subtests, leak_call):
            for number in range(3):
                with subtests.test("part", number=number):
                    assert number + leak_call.number < 6
        """
    )
    result = measure(pytester, "-v")
    assert outcomes(pytester) == {"test_passing": "CLEAN"}
    shown = [line for line in result.stdout.lines if "::test_" in line and "SUB" in line]
    assert sum("SUBPASSED" in line for line in shown) == 6
    assert sum("SUBFAILED" in line and "number=2" in line for line in result.stdout.lines if "PASSED" not in line) >= 1
    said = words(result)
    assert "contains a failed subtest" in said
    assert "failed on call 4 of the measurement" in said


def test_mocks_of_the_user_are_named_and_neither_convicted_nor_slow(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time
        from unittest.mock import AsyncMock, MagicMock, Mock

        import pytest

        PLAIN, NESTED, LATER = Mock(name="plain"), MagicMock(), AsyncMock(name="later")
        MANY = [Mock(name=f"many {number}") for number in range(1_000)]
        for number in range(1_000):
            getattr(MANY[0], f"child_{number}").grand_child(number)
        HELD = []

        @pytest.mark.no_leak
        def test_mocks():
            PLAIN(1)
            PLAIN.attribute.method()
            NESTED.a.b(1).c(2)
            NESTED["key"]

        @pytest.mark.no_leak
        def test_many(leak_call):
            MANY[leak_call.number % 1_000](1)
            getattr(MANY[0], f"child_{leak_call.number % 1_000}").grand_child(1)

        @pytest.mark.asyncio
        @pytest.mark.no_leak
        async def test_async():
            await LATER(1)
            await LATER.method(2)

        @pytest.mark.no_leak
        def test_leak():
            time.sleep(0.0003)
            PLAIN(1)
            HELD.append([1])
        """
    )
    result = measure(pytester)
    assert verdicts(pytester, "CLEAN") == {"mocks", "many", "async"}
    result.assert_outcomes(passed=3, failed=1)
    found = results(pytester)
    left_out = {
        name: {note for note in result["notes"] if note.startswith("unittest.mock")} for name, result in found.items()
    }
    assert left_out == {
        name: {f"unittest.mock recorded every call of {mock}: left out" for mock in mocks}
        for name, mocks in {
            "test_mocks": ["plain (Mock)", "a mock (MagicMock)"],
            "test_many": [f"many {number} (Mock)" for number in (0, 1, 10, 100, 101)] + ["995 more mocks"],
            "test_async": ["later (AsyncMock)"],
            "test_leak": ["plain (Mock)"],
        }.items()
    }
    (leak,) = found["test_leak"]["leaks"]
    assert leak["holder"]["name"].endswith(".HELD")


COVERED = """
    import threading
    import time

    import pytest
    import shop

    @pytest.mark.no_leak
    def test_plain(leak_call):
        assert shop.fetch(leak_call.number) == leak_call.number

    @pytest.mark.no_leak
    def test_threads():
        thread = threading.Thread(target=shop.fetch, args=(1,))
        thread.start()
        thread.join()

    @pytest.mark.no_leak
    def test_leak():
        time.sleep(0.0003)
        shop.KEPT.append([1])
"""


@pytest.mark.parametrize("way", ["coverage run", "pytest-cov"])
def test_coverage_and_its_tracer_of_each_thread_are_no_growth(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    # Where this run is measured itself, its own coverage stays out of the inner one.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP, test_covered=COVERED)
    pytester.makeini("[pytest]")
    plugins = [f"-pno:{plugin}" for plugin in ABSENT if plugin != "pytest_cov" or way == "coverage run"]
    options = [*plugins, "--memleak", f"--memleak-json={RESULTS_FILE}"]
    if way == "coverage run":
        result = pytester.run(sys.executable, "-m", "coverage", "run", "--branch", "-m", "pytest", *options)
        report = pytester.run(sys.executable, "-m", "coverage", "report", "--include=shop.py")
    else:
        report = result = pytester.run(sys.executable, "-m", "pytest", *options, "--cov=shop", "--cov-branch")
    assert outcomes(pytester) == {"test_plain": "CLEAN", "test_threads": "CLEAN", "test_leak": "LEAK"}
    result.assert_outcomes(passed=2, failed=1)
    report.stdout.re_match_lines([r"shop\.py +7 +1 +0 +0 +86%"])


def test_half_of_the_limit_of_pytest_timeout_is_the_time_for_measuring(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak
        def test_option(): ...

        @pytest.mark.no_leak
        @pytest.mark.timeout(8)
        def test_marker(): ...

        @pytest.mark.no_leak(max_time=2)
        @pytest.mark.timeout(timeout=8)
        def test_shorter_already(): ...

        @pytest.mark.no_leak
        @pytest.mark.timeout(0)
        def test_without_limit(): ...
        """
    )
    rehearse(pytester, "--memleak", "--timeout=20").assert_outcomes(passed=4)
    assert {name: told["max_time"] for name, told in told_settings(pytester).items()} == {
        "test_option": 10,
        "test_marker": 4,
        "test_shorter_already": 2,
        "test_without_limit": 30,
    }


def test_plugins_that_shuffle_limit_or_wrap_the_call_change_no_verdict(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        WRAPPED = []

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            WRAPPED.append((item.name, "call"))
            return (yield)

        @pytest.hookimpl(wrapper=True)
        def pytest_pyfunc_call(pyfuncitem):
            WRAPPED.append((pyfuncitem.name, "function"))
            return (yield)

        def pytest_sessionfinish():
            assert len(WRAPPED) == len(set(WRAPPED)) == 4
        """
    )
    pytester.makepyfile(
        """
        import random
        import time

        import pytest

        KEPT = []

        @pytest.mark.no_leak
        def test_clean():
            assert random.random() < 1

        @pytest.mark.no_leak
        def test_leak():
            time.sleep(0.0003)
            KEPT.append([1])
        """
    )
    absent = [plugin for plugin in ABSENT if plugin != "randomly"]
    result = measure(pytester, "-p", "randomly", "--timeout=60", absent=absent)
    assert outcomes(pytester) == {"test_clean": "CLEAN", "test_leak": "LEAK"}
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["Using --randomly-seed=*"])


def test_what_hypothesis_keeps_between_runs_of_a_test_is_no_leak(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given, settings
        from hypothesis import strategies as st

        KEPT = []
        few = settings(max_examples=5)

        @pytest.mark.no_leak
        @few
        @given(st.integers())
        def test_marker_outside(number):
            assert number == number

        @few
        @given(st.lists(st.text()))
        @pytest.mark.no_leak
        def test_marker_inside(words):
            assert words == words

        @pytest.mark.no_leak
        @few
        @given(st.integers())
        def test_leak(number):
            KEPT.append([number])
        """
    )
    absent = [plugin for plugin in ABSENT if plugin != "hypothesispytest"]
    result = measure(pytester, absent=absent)
    assert outcomes(pytester) == {
        "test_marker_outside": "CLEAN",
        "test_marker_inside": "CLEAN",
        "test_leak": "LEAK",
    }
    result.assert_outcomes(passed=2, failed=1)


def test_the_collector_and_tracemalloc_are_left_as_the_test_has_set_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import gc
        import time
        import tracemalloc

        import pytest

        KEPT = []

        @pytest.fixture
        def tracing():
            tracemalloc.start(3)
            yield
            assert (tracemalloc.is_tracing(), tracemalloc.get_traceback_limit()) == (True, 3)
            tracemalloc.stop()

        @pytest.fixture
        def disabled():
            gc.disable()
            yield
            assert not gc.isenabled()
            gc.enable()

        @pytest.fixture
        def frozen():
            gc.freeze()
            yield
            assert gc.get_freeze_count() > 10_000
            gc.unfreeze()

        @pytest.mark.no_leak
        def test_tracing(tracing):
            [1]

        @pytest.mark.no_leak
        def test_disabled(disabled):
            cycle = []
            cycle.append(cycle)

        @pytest.mark.no_leak
        def test_frozen(frozen):
            [1]

        @pytest.mark.no_leak
        def test_collecting_itself():
            gc.disable()
            gc.collect()
            gc.enable()

        @pytest.mark.no_leak
        def test_leak(tracing, disabled, frozen):
            time.sleep(0.0003)
            KEPT.append([1])

        def test_all_is_as_it_was():
            assert gc.isenabled()
            assert not tracemalloc.is_tracing()
            assert gc.get_freeze_count() < 2_000
        """
    )
    result = measure(pytester)
    assert verdicts(pytester, "CLEAN") == {"tracing", "disabled", "frozen", "collecting_itself"}
    result.assert_outcomes(passed=5, failed=1)
    assert ".KEPT (list, +1 entry per call)" in words(result)
