"""Requests straight into an app: what it is told, how it is answered, and which answers are its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import pytest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pytest_memleak.workloads.asgi import (
    App,
    Endpoint,
    EndpointError,
    Scope,
    StatusCounts,
    endpoint,
    lifespan,
    placeholders,
    request,
)


def answered(app: App, spelt: str, times: int = 1, **options: Any) -> StatusCounts:
    counts = StatusCounts()
    target = endpoint(spelt, {}, **options)

    async def main() -> None:
        for number in range(1, times + 1):
            await request(app, target, number, counts, {})

    asyncio.run(main())
    return counts


async def hello(scope: Scope, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("spelt", ["", "GET", "/items", "get /items", "GET items", "GET  /items", "GET /a b"])
def test_a_misspelt_endpoint_is_told_in_one_sentence(spelt: str) -> None:
    with pytest.raises(EndpointError, match="expects 'METHOD /path'"):
        endpoint(spelt, {})


def test_the_placeholders_of_an_endpoint_are_its_names() -> None:
    assert placeholders("GET /users/{user}/files/{path:path}?page={page}") == {"user", "path", "page"}


def test_a_placeholder_takes_its_argument_else_the_number_of_the_call() -> None:
    scope = endpoint("GET /users/{user}/items/{item:int}", {"user": "ann"}).scope(7)
    assert scope["path"] == "/users/ann/items/7"


def test_values_are_quoted_in_path_and_query() -> None:
    scope = endpoint("GET /find/{word}?word={word}&n={n}", {"word": "ä & b?"}).scope(7)
    assert scope["path"] == "/find/ä & b?"
    assert scope["raw_path"] == b"/find/%C3%A4%20%26%20b%3F"
    assert scope["query_string"] == b"word=%C3%A4+%26+b%3F&n=7"


@pytest.mark.parametrize(
    "target, body",
    [
        (endpoint("POST /", {}, json_body={"a": 1}), b'{"a": 1}'),
        (endpoint("POST /", {}, json_body=lambda number: [number]), b"[7]"),
        (endpoint("POST /", {}, content="text"), b"text"),
        (endpoint("POST /", {}, content=lambda number: b"%d" % number), b"7"),
        (endpoint("POST /", {}), b""),
    ],
)
def test_a_body_is_made_of_json_or_content(target: Endpoint, body: bytes) -> None:
    assert target.body(7) == body


def test_headers_are_lower_case_and_the_given_ones_win() -> None:
    headers = dict(endpoint("POST /", {}, json_body={}, headers={"Content-Type": "text/x", "X-A": "1"}).headers)
    assert headers == {b"content-type": b"text/x", b"x-a": b"1", b"host": b"testserver"}
    assert dict(endpoint("POST /", {}, json_body={}).headers)[b"content-type"] == b"application/json"


def test_an_app_that_receives_after_its_answer_is_told_of_the_disconnect() -> None:
    received: list[Any] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        received.append(await receive())
        await hello(scope, receive, send)
        received.append(await receive())

    assert answered(app, "POST /", json_body={"a": 1}).seen() == {200: 1}
    assert json.loads(received[0]["body"]) == {"a": 1}
    assert received[1] == {"type": "http.disconnect"}


def test_each_request_has_a_task_and_a_context_of_its_own() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    tasks: list[Any] = []
    found: list[int] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        found.append(variable.get())
        variable.set(1)
        await hello(scope, receive, send)

    answered(app, "GET /", 3)
    assert len(set(map(id, tasks))) == 3
    assert found == [0, 0, 0]


def test_what_the_app_raises_passes_through() -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answered(app, "GET /")


def entered(app: App) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with lifespan(app) as state:
            return dict(state)

    return asyncio.run(main())


def test_the_state_of_a_lifespan_is_lent_and_its_end_is_reached() -> None:
    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def span(app: fastapi.FastAPI) -> AsyncIterator[dict[str, str]]:
        steps.append("start")
        yield {"pool": "a pool"}
        steps.append("end")

    assert entered(fastapi.FastAPI(lifespan=span)) == {"pool": "a pool"}
    assert steps == ["start", "end"]


def test_a_start_up_that_fails_is_told() -> None:
    @contextlib.asynccontextmanager
    async def span(app: fastapi.FastAPI) -> AsyncIterator[None]:
        if app.title == "FastAPI":
            raise LookupError("no database")
        yield

    with pytest.raises(EndpointError, match=r"start-up failed: (.|\n)*no database"):
        entered(fastapi.FastAPI(lifespan=span))


def test_an_app_without_a_lifespan_passes_through() -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    assert entered(app) == {}


def shop() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    def item(number: int) -> None:
        raise fastapi.HTTPException(404 if number == 4 else 422, "of its own")

    app.get("/items/{number}")(item)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["testserver"])
    return app


@pytest.mark.parametrize(
    "spelt, status, reached",
    [
        ("GET /items/4/", 307, False),
        ("GET /nowhere", 404, False),
        ("POST /items/4", 405, False),
        ("GET /items/word", 422, False),
        ("GET /items/4", 404, True),
        ("GET /items/5", 422, True),
    ],
)
def test_only_answers_of_the_endpoint_itself_say_that_it_was_reached(spelt: str, status: int, reached: bool) -> None:
    counts = answered(shop(), spelt)
    assert counts.seen() == {status: 1}
    assert counts.never_reached() == ({} if reached else {status: 1})


def test_a_middleware_that_refuses_has_not_reached_the_endpoint() -> None:
    counts = answered(shop(), "GET /items/4", headers={"host": "elsewhere"})
    assert counts.never_reached() == {400: 1}
