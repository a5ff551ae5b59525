"""What measured tests end as: leaks are convicted with what, where, who and how to mend it; the rest is left alone."""

from __future__ import annotations

import pytest
from plugin_support import lines_of_section, measure, outcomes, rehearse, results, run, words_of

# In all leaks a pause: a few thousand calls convict, and without it there would be a hundred thousand of them.
LEAKS = {
    "app_code": """
        import time

        VISITS = []
        RESULTS = {}

        class Session:
            def __init__(self, number):
                self.number = number

        class Registry:
            def __init__(self):
                self.sessions = []

        REGISTRY = Registry()

        def visit(number):
            time.sleep(0.0003)
            VISITS.append(["page", number])

        def look_up(key):
            time.sleep(0.0003)
            if key not in RESULTS:
                RESULTS[key] = [key] * 20
            return RESULTS[key]

        def log_in(number):
            time.sleep(0.0003)
            REGISTRY.sessions.append(Session(number))
    """,
    "test_leaks": """
        import app_code
        import pytest

        @pytest.mark.no_leak
        def test_list(leak_call):
            app_code.visit(leak_call.number)

        @pytest.mark.no_leak(max_mb_per_min=0.01, reason="the front page is hot")
        def test_dict(leak_call):
            app_code.look_up(f"key {leak_call.number}")

        @pytest.mark.no_leak
        def test_object(leak_call):
            app_code.log_in(leak_call.number)

        @pytest.mark.no_leak
        def test_clean():
            assert app_code.look_up("always the same")
    """,
}


def test_leaks_are_told_with_their_line_their_holder_their_pattern_and_their_fix(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(**LEAKS)
    result = measure(pytester)
    result.assert_outcomes(failed=3, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytester) == {
        "test_list": "LEAK",
        "test_dict": "LEAK",
        "test_object": "LEAK",
        "test_clean": "CLEAN",
    }
    said = words_of(result)
    result.stdout.fnmatch_lines(
        [
            "*_ test_list _*",
            "test_list grew * per call over * rounds (budget 0);*",
            "",
            "leak: global_accumulation (HIGH)",
            "  what  list: +1, * per call",
            "  where app_code.py:18 in visit: *",
            '            VISITS.append(["page", number])',
            "  held  by app_code.VISITS (list, +1 entry per call); *",
            "        app_code.VISITS",
            "                ~~~~~~~",
            "  fix   *deque(maxlen=*",
            "      calls    blocks   objects     C heap        RSS   since the first round",
            "          0        +0        +0 *",
            "  again pytest --memleak test_leaks.py::test_list",
            "*_ test_dict _*",
            "leak: unbounded_cache (HIGH)",
            "  where app_code.py:23 in look_up: *",
            "            RESULTS[[]key] = [[]key] * 20",
            "  held  by app_code.RESULTS (dict, +1 entry per call)*",
            "  fix   *cachetools.TTLCache(maxsize=*",
            "*_ test_object _*",
            "  what  *Session*: +1, * per call",
            "  where app_code.py:28 in log_in: *",
            "  held  by app_code.REGISTRY.sessions (list, +1 entry per call)*",
        ]
    )
    assert "limit 0.01" in said
    assert "the front page is hot" in said
    assert "Traceback" not in said
    found = results(pytester)
    (leak,) = found["test_list"]["leaks"]
    assert (leak["holder"]["name"], leak["pattern"]) == ("app_code.VISITS", "global_accumulation")
    assert found["test_list"]["nodeid"] == "test_leaks.py::test_list"


def test_a_table_that_is_resized_meanwhile_does_not_weigh_as_growth(pytester: pytest.Pytester) -> None:
    """A list of one entry is 64 B, and what keeps it has 8 B for it: 72 B a call, however often the table moves."""
    pytester.makepyfile(
        """
        import time

        import pytest

        KEPT = []

        @pytest.mark.no_leak(max_bytes_per_request=130)
        def test_small(leak_call):
            time.sleep(0.0003)
            KEPT.append([1])
            if leak_call.number % 200 == 0:
                KEPT.__init__(KEPT[:])
        """
    )
    measure(pytester).assert_outcomes(passed=1)
    (found,) = results(pytester).values()
    taken = found["judgements"][0]["growth"]["per_call"]
    assert 60 <= taken <= 110
    assert found["outcome"] == "CLEAN"


def test_what_ends_by_itself_is_clean(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import collections
        import functools
        import itertools

        import pytest

        NUMBERS = itertools.count()
        LAST = collections.deque(maxlen=400)
        CACHE = {}

        @functools.lru_cache(maxsize=500)
        def remembered(number):
            return [number] * 10

        def evicting(number):
            CACHE[number] = [number]
            if len(CACHE) > 300:
                del CACHE[next(iter(CACHE))]

        class Node:
            pass

        @pytest.mark.no_leak
        def test_nothing():
            pass

        @pytest.mark.no_leak
        def test_lru_cache():
            remembered(next(NUMBERS))

        @pytest.mark.no_leak
        def test_deque():
            LAST.append([next(NUMBERS)])

        @pytest.mark.no_leak
        def test_eviction_by_hand():
            evicting(next(NUMBERS))

        @pytest.mark.no_leak
        def test_cycle_that_the_collector_frees():
            parent, child = Node(), Node()
            parent.child, child.parent = child, parent

        @pytest.mark.no_leak
        def test_file_that_is_closed():
            with open(__file__) as file:
                file.readline()

        @pytest.mark.no_leak
        def test_no_request_is_made_at_all():
            sum(range(100))
        """
    )
    result = measure(pytester)
    result.assert_outcomes(passed=7)
    found = results(pytester)
    assert {one["outcome"] for one in found.values()} == {"CLEAN"}
    assert all("no leak above" in one["sensitivity"] for one in found.values())
    assert all(one["leaks"] == [] for one in found.values())


def test_leaks_of_descriptors_threads_and_tasks_are_told_by_their_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import os
        import threading

        import pytest

        OPEN = []
        OVER = threading.Event()

        @pytest.fixture
        def files():
            yield OPEN
            for file in OPEN:
                file.close()

        @pytest.fixture
        def threads():
            yield
            OVER.set()

        @pytest.mark.no_leak
        def test_files(files):
            files.append(open(os.devnull))

        @pytest.mark.no_leak
        def test_threads(threads):
            threading.Thread(target=OVER.wait, daemon=True).start()

        @pytest.mark.asyncio
        @pytest.mark.no_leak
        async def test_tasks():
            asyncio.get_running_loop().create_task(asyncio.sleep(3600))
            await asyncio.sleep(0.0003)
        """
    )
    result = measure(pytester)
    result.assert_outcomes(failed=3)
    said = words_of(result)
    assert "file descriptor" in said
    assert "1 thread" in said
    assert "1 asyncio task" in said
    result.stdout.fnmatch_lines(
        [
            "*_ test_files _*",
            "leak: file_handle (MEDIUM)",
            "  what  file descriptor (/dev/null): +1*",
            "*test_*.py:23**",
            "*_ test_threads _*",
            "  what  thread running threading.Event.wait: +1 per call",
            "*test_*.py:27**",
            "*_ test_tasks _*",
            "leak: async_task (MEDIUM)",
            "  what  asyncio task running sleep(): +1 per call",
            "*test_*.py:32**",
        ]
    )


def test_growth_that_the_user_knows_is_named_and_not_convicted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_ignored="""
        import time

        import pytest

        HELD, LINED, TYPED = [], [], []

        class Token:
            pass

        @pytest.mark.no_leak(ignore="test_ignored.HELD")
        def test_holder():
            time.sleep(0.0003)
            HELD.append([1])

        @pytest.mark.no_leak(ignore=["nothing.of_ours", "test_ignored.py:17"])
        def test_line():
            time.sleep(0.0003); LINED.append([1])

        @pytest.mark.no_leak(ignore="Token")
        def test_type():
            time.sleep(0.0003)
            TYPED.append(Token())
        """
    )
    result = measure(pytester)
    assert outcomes(pytester) == {"test_holder": "CLEAN", "test_line": "CLEAN", "test_type": "CLEAN"}
    result.assert_outcomes(passed=3)
    said = words_of(result)
    assert "test_holder: ignored as 'test_ignored.HELD': list" in said
    assert "test_line: ignored as 'test_ignored.py:17': list" in said
    assert "test_type: ignored as 'Token': test_ignored.Token" in said


def test_growth_within_its_budget_passes_and_beyond_it_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        import time

        import pytest

        KEPT = {name: [] for name in ("objects", "few", "bytes", "mb", "fds")}

        @pytest.mark.no_leak(max_objects_per_request=1.5)
        def test_objects_within():
            time.sleep(0.0003)
            KEPT["objects"].append([1])

        @pytest.mark.no_leak(max_objects_per_request=0.5)
        def test_objects_beyond():
            time.sleep(0.0003)
            KEPT["few"].append([1])

        @pytest.mark.no_leak(max_bytes_per_request=500)
        def test_bytes_beyond():
            time.sleep(0.0003)
            KEPT["bytes"].append(bytes(1000))

        @pytest.mark.no_leak(max_mb_per_min=9, rps=50)
        def test_mb_per_min_within():
            time.sleep(0.0003)
            KEPT["mb"].append(bytes(1000))

        @pytest.mark.no_leak(max_fds=20)
        def test_a_pool_of_ten_files():
            if len(KEPT["fds"]) < 10:
                KEPT["fds"].append(open(os.devnull))
        """
    )
    result = measure(pytester)
    assert outcomes(pytester) == {
        "test_objects_within": "CLEAN",
        "test_objects_beyond": "LEAK",
        "test_bytes_beyond": "LEAK",
        "test_mb_per_min_within": "CLEAN",
        "test_a_pool_of_ten_files": "CLEAN",
    }
    result.assert_outcomes(failed=2, passed=3)
    said = words_of(result)
    assert "(budget 0.5 objects)" in said
    assert "(budget 500 B)" in said


def test_growth_that_goes_on_without_calls_is_inconclusive(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading
        import time

        import pytest

        KEPT = []

        @pytest.fixture
        def background():
            over = threading.Event()

            def grow():
                while not over.wait(0.002):
                    KEPT.append([1])

            thread = threading.Thread(target=grow)
            thread.start()
            yield
            over.set()
            thread.join()

        @pytest.mark.no_leak(max_time=3)
        def test_innocent(background):
            time.sleep(0.0003)
        """
    )
    result = measure(pytester)
    assert outcomes(pytester) == {"test_innocent": "INCONCLUSIVE"}
    result.assert_outcomes(passed=1)
    assert "INCONCLUSIVE test_innocent: grows as fast without requests" in words_of(result)


@pytest.mark.parametrize("inconclusive", ["warn", "fail"])
def test_a_test_without_a_verdict_is_shown_and_fails_only_on_demand(
    pytester: pytest.Pytester, inconclusive: str
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_leak\ndef test_inconclusive(): pass")
    result = rehearse(pytester, "--memleak", f"--memleak-inconclusive={inconclusive}")
    shown = " ".join(" ".join(lines_of_section(result, "memory growth")).split())
    assert "INCONCLUSIVE test_inconclusive: as scripted" in shown
    if inconclusive == "fail":
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["test_inconclusive is inconclusive: as scripted"])
    else:
        result.assert_outcomes(passed=1)
        assert "--memleak-inconclusive=fail makes this a failure" in shown


def test_a_test_too_slow_for_its_calls_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time

        import pytest

        @pytest.mark.no_leak(max_time=1)
        def test_slow():
            time.sleep(0.15)

        @pytest.mark.no_leak(max_time=1, min_calls=100_000)
        def test_many_calls():
            time.sleep(0.001)
        """
    )
    result = measure(pytester)
    result.assert_outcomes(failed=2)
    said = words_of(result)
    assert "but its budget needs 30 to be proven: raise max_time (now 1 s) or make a call faster" in said
    assert "but its budget needs 100,000 to be proven" in said


NEVER_REACHED = """
    from http import HTTPStatus

    import pytest
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.get("/items/{item_id}")
    def item(item_id: int):
        return {"id": item_id}

    @pytest.fixture(scope="module")
    def client():
        with TestClient(app) as client:
            yield client

    @pytest.mark.no_leak(max_time=3)
    def test_misspelt(client):
        client.get("/itmes/1")

    @pytest.mark.no_leak(max_time=3)
    def test_wrong_method(client):
        client.post("/items/1")

    @pytest.mark.no_leak(max_time=3)
    def test_bad_input(client):
        client.get("/items/one")

    @pytest.mark.no_leak(max_time=3)
    def test_404_is_what_it_is_about(client):
        assert client.get("/nowhere").status_code == 404

    @pytest.mark.no_leak(max_time=3)
    def test_named_status(client):
        assert client.get("/items/one").status_code in (HTTPStatus.UNPROCESSABLE_ENTITY, 422)

    @pytest.mark.no_leak(max_time=3)
    @pytest.mark.parametrize("path, status", [("/items/one", 422)])
    def test_parametrised_status(client, path, status):
        assert client.get(path).status_code == status

    @pytest.mark.no_leak(max_time=3)
    def test_reached(client):
        assert client.get("/items/1").json() == {"id": 1}
        client.get("/nowhere")
"""


def test_requests_that_never_reach_an_endpoint_prove_nothing_unless_that_is_the_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(NEVER_REACHED)
    result = measure(pytester)
    result.assert_outcomes(failed=3, passed=4)
    said = words_of(result)
    assert "test_misspelt never reached the endpoint: all answers were " in said
    assert " x 404 Not Found, so a pass would prove nothing; check the method, the path and the body" in said
    assert " x 405 Method Not Allowed" in said
    assert " x 422 Unprocessable" in said


def test_without_the_option_a_test_that_never_reaches_its_endpoint_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(NEVER_REACHED)
    run(pytester).assert_outcomes(passed=7)
