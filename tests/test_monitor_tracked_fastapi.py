"""`@memory_tracked` on FastAPI's handlers and dependencies: nothing of what FastAPI reads off them is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.testclient import TestClient

from pytest_memleak.monitor.tracked import memory_of, memory_tracked

# The annotations of this file are text, to be looked up among its globals: so every name in them is up here.
app = FastAPI()


class Item(BaseModel):
    name: str
    size: int = 1


class Answer(BaseModel):
    number: int
    who: str


@memory_tracked
def user(token: str = "nobody") -> Iterator[str]:
    yield token


@memory_tracked
async def user_later(token: str = "nobody") -> AsyncIterator[str]:
    await asyncio.sleep(0)
    yield token


class Shop:
    @memory_tracked
    async def stock(self, number: int) -> dict[str, int]:
        return {"number": number}


@app.get("/plain/{number}", response_model=Answer)
@memory_tracked
def plain(number: int, who: str = Depends(user)) -> dict[str, Any]:
    """Its words."""
    return {"number": number, "who": who, "secret": 1}


@app.get("/later/{number}", response_model=Answer)
@memory_tracked(name="shop.later")
async def later(number: int, request: Request, who: str = Depends(user_later)) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"number": number, "who": who, "secret": request.url.path}


@app.post("/items")
@memory_tracked
async def items(item: Item) -> Item:
    return item


@app.get("/missing")
@memory_tracked
async def missing() -> None:
    raise HTTPException(404, "not here")


@memory_tracked
async def numbers() -> AsyncIterator[str]:
    for number in range(3):
        yield f"{number}\n"


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(numbers())


@app.websocket("/socket")
@memory_tracked
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text((await websocket.receive_text()).upper())
    await websocket.close()


app.get("/stock/{number}")(Shop().stock)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    "path, status, answer",
    [
        ("/plain/3?token=me", 200, {"number": 3, "who": "me"}),
        ("/plain/3", 200, {"number": 3, "who": "nobody"}),
        ("/later/4?token=you", 200, {"number": 4, "who": "you"}),
        ("/stock/5", 200, {"number": 5}),
        ("/missing", 404, {"detail": "not here"}),
    ],
)
def test_a_decorated_handler_answers_as_the_bare_one(
    client: TestClient, path: str, status: int, answer: object
) -> None:
    got = client.get(path)
    assert (got.status_code, got.json()) == (status, answer)


def test_path_parameters_and_bodies_are_checked(client: TestClient) -> None:
    assert client.get("/plain/three").status_code == 422
    assert client.post("/items", json={"name": "cup"}).json() == {"name": "cup", "size": 1}
    assert client.post("/items", json={}).status_code == 422


def test_streams_and_sockets_pass(client: TestClient) -> None:
    assert client.get("/stream").text == "0\n1\n2\n"
    with client.websocket_connect("/socket") as session:
        session.send_text("hello")
        assert session.receive_text() == "HELLO"


def test_the_openapi_document_says_what_it_said(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/plain/{number}"]["get"]
    assert operation["description"] == "Its words."
    assert [(part["name"], part["in"], part["required"]) for part in operation["parameters"]] == [
        ("number", "path", True),
        ("token", "query", False),
    ]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Answer"}


def test_each_call_was_counted(client: TestClient) -> None:
    before = {function: memory_of(function).calls for function in (plain, later, user, user_later, missing)}
    client.get("/plain/1")
    client.get("/later/1")
    client.get("/missing")
    assert {memory_of(function).calls - count for function, count in before.items()} == {1}
    assert memory_of(missing).raised_calls == memory_of(missing).calls
    assert memory_of(later).name == "shop.later"
