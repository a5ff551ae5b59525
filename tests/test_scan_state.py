"""Containers in attributes: on an application's state, which one file makes and another fills, and of a class."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pytest_memleak.scan import engine
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import unbounded_cache

MAIN = """
from fastapi import FastAPI
async def lifespan(app):
    app.state.kept = {made}
    yield
    for one in app.state.kept:
        await one.close()
    app.state.kept.clear()
app = FastAPI(lifespan=lifespan)
"""
ROUTE = """
from fastapi import APIRouter, Request
router = APIRouter()
@router.get("/{{user}}")
async def get(user: str, request: Request):
    {line}
"""


def scanned(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, made: str = "[]", more: str = "") -> list[str]:
    monkeypatch.chdir(folder)
    Path("main.py").write_text(MAIN.format(made=made))
    Path("route.py").write_text(ROUTE.format(line=line))
    Path("more.py").write_text(more)
    found = engine.scan(["."], processes=1).findings
    assert all(each.path == "route.py" and each.holder == "app.state.kept" for each in found)
    return [each.code for each in found]


@pytest.mark.parametrize(
    "line,made,codes",
    [
        ("request.app.state.kept.append(user)", "[]", ["MLK002"]),
        ("request.app.state.kept.add(user)", "set()", ["MLK002"]),
        ("request.app.state.kept[user] = 1", "{}", ["MLK001"]),
        ("request.app.state.kept.append(user)", "deque(maxlen=9)", []),
        ("request.app.state.kept[user] = 1", "LRUCache(9)", []),
        ("request.app.state.kept['user'] = 1", "{}", []),
        ("request.state.kept.append(user)", "[]", []),
        ("kept = request.app.state.kept; kept.append(user)", "[]", ["MLK002"]),
        ("request.app.state.kept.append(user); request.app.state.kept.pop(0)", "[]", []),
    ],
)
def test_a_request_that_fills_an_applications_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, made: str, codes: list[str]
) -> None:
    assert scanned(tmp_path, monkeypatch, line, made) == codes


@pytest.mark.parametrize(
    "more,codes",
    [
        ("def sweep(app):\n    app.state.kept.pop()\n", []),
        ("def sweep(app):\n    kept = app.state.kept\n    del kept[0]\n", []),
        ("def sweep(app):\n    app.state.kept = []\n", []),
        ("def sweep(app):\n    trimmed(app.state.kept)\n", []),
        ("def show(app):\n    return len(app.state.kept), list(app.state.kept)\n", ["MLK002"]),
        ("async def shutdown(app):\n    app.state.kept.clear()\n", ["MLK002"]),
    ],
)
def test_a_file_that_empties_it_while_the_program_runs_clears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, codes: list[str]
) -> None:
    assert scanned(tmp_path, monkeypatch, "request.app.state.kept.append(user)", more=more) == codes


@pytest.mark.parametrize(
    "head,body,count",
    [
        ("class Stub(Backend):", "S: dict[str, int] = {}", 1),
        ("class Stub(Backend):", "S: ClassVar[dict[str, int]] = {}", 1),
        ("class Stub(BaseModel):", "S: dict[str, int] = {}", 0),
        ("class Stub(Backend):", "name: str\n    S: dict[str, int] = {}", 0),
        ("import pydantic\nclass Stub(Backend):", "S: dict[str, int] = {}", 0),
        ("@dataclass\nclass Stub(Backend):", "S: dict[str, int] = {}", 0),
    ],
)
def test_an_annotated_container_of_a_class_is_its_own_unless_that_may_be_a_model(
    head: str, body: str, count: int
) -> None:
    source = f"{head}\n    {body}\n    def put(self, key):\n        self.S[key] = 1"
    assert len(list(unbounded_cache.find(Module(ast.parse(source), "app.stub")))) == count
