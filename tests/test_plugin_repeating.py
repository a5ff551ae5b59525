"""Whatever kind of test it is: its function is called again and again, its fixtures are set up once."""

from __future__ import annotations

import pytest
from plugin_support import SCRIPTED, measure, outcomes, rehearse, results, run, words_of


def test_fixtures_of_every_scope_are_set_up_once_and_arguments_stay(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        LOG = []

        def scoped(scope):
            @pytest.fixture(scope=scope, name=f"of_{scope}")
            def one():
                LOG.append(f"{scope} begins")
                yield scope
                LOG.append(f"{scope} ends")
            return one

        of_session, of_package, of_module, of_class, of_function = map(
            scoped, ("session", "package", "module", "class", "function")
        )

        @pytest.fixture(autouse=True)
        def unasked():
            LOG.append("unasked begins")
            yield
            LOG.append("unasked ends")

        class TestGroup:
            @pytest.mark.no_leak
            def test_calls(self, of_session, of_package, of_module, of_class, of_function, leak_call, tmp_path):
                assert of_function == "function"
                self.seen = getattr(self, "seen", 0) + 1
                LOG.append((leak_call.number, self.seen, repr(leak_call), tmp_path.is_dir()))

        def test_what_happened():
            begun = [f"{scope} begins" for scope in ("session", "package", "module", "class")]
            assert LOG == [
                *begun,
                "unasked begins",
                "function begins",
                (1, 1, "LeakCall(number=1)", True),
                (2, 2, "LeakCall(number=2)", True),
                (3, 3, "LeakCall(number=3)", True),
                "function ends",
                "unasked ends",
                "class ends",
                "unasked begins",
            ]
        """
    )
    rehearse(pytester, "--memleak").assert_outcomes(passed=2)


def test_each_parameter_is_a_test_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        SEEN = []

        @pytest.mark.no_leak
        @pytest.mark.parametrize("letter", ["a", "b"])
        def test_letters(letter, leak_call):
            SEEN.append((letter, leak_call.number))

        def test_what_happened():
            assert SEEN == [(letter, number) for letter in "ab" for number in (1, 2, 3)]
        """
    )
    rehearse(pytester, "--memleak", "--memleak-json=results.json").assert_outcomes(passed=3)
    assert outcomes(pytester) == {"test_letters[a]": "CLEAN", "test_letters[b]": "CLEAN"}


def test_the_number_is_zero_again_when_the_fixtures_are_torn_down(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def before(leak_call):
            assert leak_call.number == 0
            yield
            assert leak_call.number == 0

        @pytest.mark.no_leak
        def test_calls(before, leak_call):
            assert leak_call.number > 0

        def test_unmarked(leak_call):
            assert leak_call.number == 0
        """
    )
    rehearse(pytester, "--memleak").assert_outcomes(passed=2)


def test_methods_of_classes_are_measured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak
        class TestGroup:
            calls = []
            set_up = 0

            def setup_method(self):
                type(self).set_up += 1

            def test_method(self, leak_call):
                self.calls.append(leak_call.number)

            @classmethod
            def test_of_class(cls, leak_call):
                cls.calls.append(leak_call.number)

            @staticmethod
            def test_static(leak_call):
                TestGroup.calls.append(leak_call.number)

        def test_what_happened():
            assert TestGroup.calls == [1, 2, 3] * 3
            assert TestGroup.set_up == 3
        """
    )
    rehearse(pytester, "--memleak").assert_outcomes(passed=4)


ASYNC = """
    import asyncio
    import time

    import pytest

    KEPT = []

    @pytest.fixture
    def number():
        return 7

    @pytest.mark.no_leak
    {mark}
    async def test_clean(number):
        await asyncio.sleep(0)
        assert number == 7

    @pytest.mark.no_leak
    {mark}
    async def test_leak():
        await asyncio.sleep(0.0003)
        KEPT.append([1])

    class TestGroup:
        @pytest.mark.no_leak
        {mark}
        async def test_method(self):
            await asyncio.sleep(0)

    @pytest.mark.no_leak
    {mark}
    async def test_failing(leak_call):
        assert leak_call.number < 5
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_coroutines_are_measured_inside_the_loop_of_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    pytester.makepyfile(test_async=ASYNC.format(mark="@pytest.mark.asyncio" if mode == "strict" else ""))
    result = measure(pytester, f"--asyncio-mode={mode}")
    result.assert_outcomes(passed=2, failed=2)
    assert outcomes(pytester) == {"test_clean": "CLEAN", "test_leak": "LEAK", "test_method": "CLEAN"}
    said = words_of(result)
    assert "held by test_async.KEPT (list, +1 entry per call)" in said
    assert "failed on call 5 of the measurement" in said


def test_async_fixtures_of_pytest_asyncio_live_in_the_same_loop(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(
        """
        import asyncio

        import pytest
        import pytest_asyncio

        LOG = []

        @pytest_asyncio.fixture
        async def loop_of_fixture():
            LOG.append("begins")
            yield asyncio.get_running_loop()
            LOG.append("ends")

        @pytest.mark.asyncio
        @pytest.mark.no_leak
        async def test_calls(loop_of_fixture, leak_call):
            assert asyncio.get_running_loop() is loop_of_fixture
            LOG.append(leak_call.number)

        def test_what_happened():
            assert LOG == ["begins", 1, 2, 3, "ends"]
        """
    )
    run(pytester, "--memleak").assert_outcomes(passed=2)


def test_coroutines_are_measured_by_anyio_on_asyncio_and_on_trio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import anyio
        import pytest
        import sniffio

        KEPT = []
        SEEN = set()

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.fixture
        async def resource(anyio_backend):
            yield anyio_backend

        @pytest.mark.anyio
        @pytest.mark.no_leak
        async def test_clean(resource):
            SEEN.add(sniffio.current_async_library())
            assert resource == sniffio.current_async_library()
            await anyio.sleep(0)

        @pytest.mark.anyio
        @pytest.mark.no_leak
        async def test_leak(anyio_backend):
            await anyio.sleep(0.0003)
            if anyio_backend == "trio":
                KEPT.append([1])

        def test_both_were_there():
            assert SEEN == {"asyncio", "trio"}
        """
    )
    result = measure(pytester)
    result.assert_outcomes(passed=4, failed=1)
    assert outcomes(pytester) == {
        "test_clean[asyncio]": "CLEAN",
        "test_clean[trio]": "CLEAN",
        "test_leak[asyncio]": "CLEAN",
        "test_leak[trio]": "LEAK",
    }
    assert "not read here: tasks: trio has no asyncio tasks" in words_of(result)


UNITTEST = """
    import time
    import unittest

    import pytest

    KEPT = []
    LOG = []

    @pytest.mark.no_leak
    class Old(unittest.TestCase):
        def setUp(self):
            LOG.append("setUp")

        def tearDown(self):
            LOG.append("tearDown")

        def test_clean(self):
            self.assertEqual(1, 1)

        def test_leak(self):
            time.sleep(0.0003)
            KEPT.append([1])

    @pytest.mark.no_leak
    class OldAsync(unittest.IsolatedAsyncioTestCase):
        async def test_clean_coroutine(self):
            LOG.append("awaited")
            self.assertEqual(1, 1)
            del LOG[5:]

    def test_what_happened():
        assert LOG == ["setUp", "tearDown", "setUp", "tearDown", "awaited"]
"""


def test_methods_of_unittest_are_measured_and_its_coroutines_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_old=UNITTEST)
    result = measure(pytester)
    assert outcomes(pytester) == {"test_clean": "CLEAN", "test_leak": "LEAK"}
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["test_clean_coroutine was not measured:*IsolatedAsyncioTestCase*"])


def test_the_failure_of_a_test_itself_is_told_as_it_is_with_the_number_of_its_call(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.no_leak
        def test_assertion(leak_call):
            wanted = {"number": 2}
            assert leak_call.number <= wanted["number"]

        @pytest.mark.no_leak
        def test_exception(leak_call):
            if leak_call.number == 2:
                raise StopIteration("no more")

        @pytest.mark.no_leak
        def test_skipping(leak_call):
            pytest.skip("not today")

        @pytest.mark.no_leak
        def test_failing_outright():
            pytest.fail("because")

        @pytest.fixture
        def broken():
            raise RuntimeError("no fixture")

        @pytest.mark.no_leak
        def test_set_up(broken):
            pass
        """
    )
    result = rehearse(pytester, "--memleak")
    result.assert_outcomes(failed=3, skipped=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_assertion _*",
            ">       assert leak_call.number <= wanted[*",
            "E       assert 3 <= 2",
            "*- memleak -*",
            "failed on call 3 of the measurement",
            "*_ test_exception _*",
            "E           StopIteration: no more",
            "failed on call 2 of the measurement",
            "*_ test_failing_outright _*",
            "E       Failed: because",
            "failed on call 1 of the measurement",
        ]
    )
    result.stdout.no_fnmatch_line("*memory growth*")


def test_a_test_that_fails_without_measuring_is_told_as_ever(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_failing(): assert 0")
    result = rehearse(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*of the measurement*")


def test_what_returns_something_is_told_so_as_it_is_without_measuring(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_returning(): return 3")
    told = "Did you mean to use `assert` instead of `return`?"  # a failure in pytest 8.4, a warning in 9
    assert told in words_of(rehearse(pytester)), "the ordinary run"
    assert told in words_of(rehearse(pytester, "--memleak"))


def test_the_numbers_of_the_calls_have_no_gaps_and_do_not_repeat(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        LAST = [0]

        @pytest.mark.no_leak(max_time=3)
        def test_numbers(leak_call):
            assert leak_call.number == LAST[0] + 1
            LAST[0] = leak_call.number
        """
    )
    measure(pytester).assert_outcomes(passed=1)
    assert outcomes(pytester) == {"test_numbers": "CLEAN"}


def test_doctests_and_other_items_with_a_module_marker_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        '''
        """
        >>> 1 + 1
        2
        """
        import pytest

        pytestmark = pytest.mark.no_leak

        def test_one():
            pass
        '''
    )
    rehearse(pytester, "--memleak", "--doctest-modules").assert_outcomes(passed=2)


def test_what_the_test_tools_recorded_before_an_ordinary_run_of_endpoints_is_the_users(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import logging

        from fastapi import FastAPI

        app = FastAPI()

        @app.get("/a")
        async def a(): return {}

        @app.get("/b")
        async def b(): return {}

        def test_endpoints(memleak, caplog):
            logging.getLogger("shop").warning("before")
            memleak.run(app, "GET /a", "GET /b")
            assert "before" in caplog.text
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_patches_of_two_tools_are_undone_in_the_order_that_pytest_tears_down(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_mock")
    pytester.makepyfile(
        """
        import pytest

        class Shop:
            name = "real"

        @pytest.mark.no_leak
        def test_shop(mocker, monkeypatch):
            assert Shop.name == "real"
            mocker.patch.object(Shop, "name", "mocked")
            monkeypatch.setattr(Shop, "name", "patched")
        """
    )
    measure(pytester).assert_outcomes(passed=1)


def test_a_refusal_blames_no_call(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from fastapi import FastAPI
        from fastapi.testclient import TestClient

        @pytest.fixture
        def client():
            with TestClient(FastAPI()) as client:
                yield client

        @pytest.mark.no_leak
        def test_lost(client):
            client.get("/nowhere")
        """
    )
    result = measure(pytester)
    result.assert_outcomes(failed=1)
    assert "never reached the endpoint" in words_of(result)
    assert "failed on call" not in words_of(result)


def test_a_test_that_is_run_again_has_one_result(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=item, log=False)
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_clean(): pass")
    result = measure(pytester)
    result.assert_outcomes(passed=1)
    assert len(results(pytester)) == 1
    assert words_of(result).count("CLEAN") == 1
