"""What `memleak.run` refuses: each in one sentence, with no traceback of what found it."""

from __future__ import annotations

import fnmatch

import pytest
from plugin_support import failures_of, run

SHOP = """
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/items/{item_id}")
    def item(item_id: int):
        return {"id": item_id}
"""

REFUSED = {
    "method": ('"get /items/1"', "memleak.run: endpoint 'get /items/1': expects 'METHOD /path', such as *"),
    "path": (
        '"GET items"',
        "memleak.run: endpoint 'GET items': expects 'METHOD /path', such as 'GET /items/{item_id}'",
    ),
    "number": ('"GET /items/1", 5', "memleak.run: endpoint 5: expects 'METHOD /path' or a callable"),
    "nothing": ("", "memleak.run: no endpoint: expects at least one 'METHOD /path' or callable"),
    "misspelt": (
        '"GET /items/1", max_mb_per_mim=1',
        "memleak.run: arguments: unknown argument 'max_mb_per_mim', did you mean 'max_mb_per_min'? Valid arguments: *",
    ),
    "badly_typed": (
        '"GET /items/1", max_time="long"',
        "memleak.run: arguments: max_time: expects a number above 0, got 'long'",
    ),
}
"""The arguments of `memleak.run` after the app, and the sentence that refuses them."""

UNREACHED = {
    "no_such_path": (
        '"GET /itmes/1"',
        "GET /itmes/1 never reached the endpoint: all answers were * x 404 Not Found, *",
    ),
    "wrong_method": ('"PUT /items/1"', "PUT /items/1 never reached the endpoint: * x 405 Method Not Allowed, *"),
    "bad_value": ('"GET /items/{item_id}", item_id="x"', "GET /items/{item_id} never reached the endpoint: * x 422 *"),
    "callable": ("lost", "lost never reached the endpoint: all answers were * x 404 Not Found, *"),
}

UNSENDABLE = {
    "headers": ('"GET /items/1", headers=5', "memleak.run: *headers*"),
    "header": ('"GET /items/1", headers={"x-count": 5}', "memleak.run: *headers*x-count*"),
    "json": ('"POST /items/1", json={1, 2}', "memleak.run: *json*"),
    "content": ('"POST /items/1", content=1.5', "memleak.run: *content*"),
}


def told_otherwise(
    pytester: pytest.Pytester, refused: dict[str, tuple[str, str]], *arguments: str
) -> dict[str, list[str]]:
    """Run a test for each; those that fail with anything but that sentence alone, with what they said."""
    lines = ["from shop import app", "def lost(client): client.get('/nowhere')"]
    lines += [f"def test_{name}(memleak): memleak.run(app, {given})" for name, (given, _) in refused.items()]
    pytester.makepyfile(shop=SHOP, test_shop="\n".join(lines))
    result = run(pytester, *arguments)
    result.assert_outcomes(failed=len(refused))
    told = failures_of(result)
    assert set(told) == {f"test_{name}" for name in refused}
    return {
        name: told[f"test_{name}"]
        for name, (_, sentence) in refused.items()
        if len(told[f"test_{name}"]) != 1 or not fnmatch.fnmatchcase(told[f"test_{name}"][0], sentence)
    }


@pytest.mark.parametrize("arguments", [(), ("--memleak",)], ids=["not measured", "measured"])
def test_run_refuses_bad_arguments_in_a_sentence(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    assert told_otherwise(pytester, REFUSED, *arguments) == {}


def test_run_refuses_an_endpoint_that_it_never_reaches_in_a_sentence(pytester: pytest.Pytester) -> None:
    assert told_otherwise(pytester, UNREACHED, "--memleak") == {}


def test_run_refuses_what_no_request_can_carry_in_a_sentence(pytester: pytest.Pytester) -> None:
    assert told_otherwise(pytester, UNSENDABLE, "--memleak") == {}


def test_run_refuses_what_is_no_app_and_a_test_that_is_marked_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        shop=SHOP,
        test_shop="""
        import pytest
        from fastapi.testclient import TestClient
        from shop import app

        def test_name(memleak):
            memleak.run("shop:app", "GET /items/1")

        def test_not_entered(memleak):
            memleak.run(TestClient(app), "GET /items/1")

        @pytest.mark.no_leak
        def test_marked(memleak):
            memleak.run(app, "GET /items/1")

        async def needs_no_loop(memleak):
            memleak.run(app, "GET /items/1")

        def test_in_a_loop(memleak):
            import asyncio

            asyncio.run(needs_no_loop(memleak))
        """,
    )
    result = run(pytester)
    result.assert_outcomes(failed=4)
    told = failures_of(result)
    assert told == {
        "test_name": ["memleak.run: app 'shop:app': expects an ASGI app or an entered TestClient"],
        "test_not_entered": [
            (
                "memleak.run: the client is not entered: use `with TestClient(app) as client` "
                "(memleak explain client-not-entered)"
            )
        ],
        "test_marked": [
            (
                "memleak.run: the test is marked no_leak too: measure it by the marker or by the fixture, not both "
                "(memleak explain marker-and-fixture)"
            )
        ],
        "test_in_a_loop": [
            (
                "memleak.run: runs an event loop of its own: call it from a test that is not async "
                "(memleak explain own-event-loop)"
            )
        ],
    }
