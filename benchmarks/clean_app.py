"""Clean endpoints of ten kinds: the subject of the benchmark that counts false alarms."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import BackgroundTasks, Depends, FastAPI, Request, UploadFile, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI()
wrapped = FastAPI()

_folder = tempfile.TemporaryDirectory(prefix="memleak-clean-")
DATABASE: Final = Path(_folder.name) / "items.sqlite"

last_sent: dict[str, str] = {}


@app.get("/async")
async def asynchronous(item: int = 0) -> dict[str, Any]:
    return {"item": item, "words": [str(number) for number in range(20)]}


@app.get("/sync")
def synchronous(item: int = 0) -> dict[str, Any]:
    return {"item": item, "words": [str(number) for number in range(20)]}


@app.get("/streaming")
async def streaming() -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(10):
            yield f"line {number}\n".encode()

    return StreamingResponse(lines(), media_type="text/plain")


def send(address: str, text: str) -> None:
    last_sent[address] = text


@app.post("/background")
async def background(tasks: BackgroundTasks, item: int = 0) -> dict[str, bool]:
    tasks.add_task(send, "everybody", f"item {item} has changed")
    return {"ok": True}


@wrapped.middleware("http")
async def add_header(request: Request, call_next: Callable[[Request], Any]) -> Any:
    request.state.who = {"agent": request.headers.get("user-agent")}
    response = await call_next(request)
    response.headers["x-path"] = request.url.path
    return response


@wrapped.get("/hello")
async def hello() -> dict[str, bool]:
    return {"ok": True}


app.mount("/middleware", wrapped)


def unit_of_work() -> Iterator[dict[str, list[int]]]:
    work: dict[str, list[int]] = {"done": []}
    yield work
    work.clear()


@app.get("/dependency")
async def dependency(work: dict[str, list[int]] = Depends(unit_of_work)) -> dict[str, int]:  # noqa: B008 - as taught
    work["done"].append(1)
    return {"done": len(work["done"])}


class OutOfStockError(Exception):
    """What the endpoint below raises on every request."""


@app.exception_handler(OutOfStockError)
async def out_of_stock(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=409)


@app.get("/exception")
async def exception(item: int = 0) -> None:
    raise OutOfStockError(f"item {item}")


@app.websocket("/websocket")
async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text((await socket.receive_text()).upper())
    await socket.close()


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    content = await file.read()
    return {"name": file.filename, "bytes": len(content)}


@app.get("/sqlite")
def sqlite(item: int = 0) -> dict[str, int]:
    connection = sqlite3.connect(DATABASE)
    try:
        with connection:
            connection.execute("create table if not exists items (id integer primary key, price integer)")
            connection.execute("insert or replace into items values (?, ?)", (item % 50, item))
        (count,) = connection.execute("select count(*) from items").fetchone()
        return {"items": count}
    finally:
        connection.close()


BOUNDARY: Final = "clean"
UPLOAD: Final = (
    f"--{BOUNDARY}\r\n"
    'Content-Disposition: form-data; name="file"; filename="notes.txt"\r\n'
    "Content-Type: text/plain\r\n\r\n" + "some notes\n" * 20 + f"\r\n--{BOUNDARY}--\r\n"
)


def over_websocket(client: Any) -> None:
    """One conversation: a string cannot spell it."""
    with client.websocket_connect("/websocket") as session:
        session.send_text("hello")
        assert session.receive_text() == "HELLO"


KINDS: Final[dict[str, tuple[str | Callable[[Any], None], dict[str, Any]]]] = {
    "async": ("GET /async?item={item}", {}),
    "sync": ("GET /sync?item={item}", {}),
    "streaming": ("GET /streaming", {}),
    "background": ("POST /background?item={item}", {}),
    "middleware": ("GET /middleware/hello", {}),
    "dependency": ("GET /dependency", {}),
    "exception": ("GET /exception?item={item}", {}),
    "websocket": (over_websocket, {}),
    "upload": (
        "POST /upload",
        {"content": UPLOAD, "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}},
    ),
    "sqlite": ("GET /sqlite?item={item}", {}),
}
"""The endpoint of each kind, and the arguments of `memleak.run` for it."""
