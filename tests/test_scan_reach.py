"""Which functions the endpoints reach, through routers, imports, methods, dependencies and middleware."""

from __future__ import annotations

import ast

import pytest

from pytest_memleak.scan.facts import facts
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.reach import reached


def reach(**files: str) -> dict[str, tuple[str, ...]]:
    return reached(
        facts(Module(ast.parse(text), name.replace("__", "."), is_package=False)) for name, text in files.items()
    )


def test_a_route_reaches_what_it_calls_in_another_file() -> None:
    found = reach(
        app__main="""
from fastapi import APIRouter
from app.store import STORE, save
router = APIRouter(prefix="/shop")
@router.get("/items/{id}")
async def item(id):
    save(id)
    STORE.add(id)
def lonely(): save(1)
""",
        app__store="""
class Base:
    def add(self, x): self._keep(x)
class Store(Base):
    def _keep(self, x): inner()
    def other(self): pass
STORE = Store()
def inner(): pass
def save(x): pass
""",
    )
    way = ("GET /shop/items/{id}",)
    assert found == {
        "app.main.item": way,
        "app.store.save": way,
        "app.store.Base.add": way,
    }


def test_without_endpoints_nothing_is_reached() -> None:
    assert reach(app="class M:\n    async def __call__(self, scope, receive, send): pass\n") == {}


def test_dependencies_and_middleware() -> None:
    found = reach(
        app="""
from typing import Annotated
from fastapi import Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
def guard(): pass
def db(): pass
def user(): pass
DB = Annotated[object, Depends(db)]
app = FastAPI(dependencies=[Depends(guard)])
class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next): self.note()
    def note(self): pass
@app.middleware("http")
async def log(request, call_next): pass
@app.post("/a")
def a(d: DB, u: Annotated[object, Depends(user)]): pass
def late(): pass
app.add_api_route("/late", late, methods=["PUT"])
@app.websocket("/ws")
async def ws(socket): pass
""",
    )
    assert found == {
        "app.guard": ("dependency guard",),
        "app.a": ("POST /a",),
        "app.@DB": ("POST /a",),
        "app.db": ("POST /a",),
        "app.user": ("POST /a",),
        "app.late": ("PUT /late",),
        "app.ws": ("WEBSOCKET /ws",),
        "app.log": ("middleware log",),
        "app.Timing.dispatch": ("middleware Timing.dispatch",),
        "app.Timing.note": ("middleware Timing.dispatch",),
    }


def test_at_most_five_endpoints_and_rings_end() -> None:
    routes = "\n".join(f"@app.get('/{n}')\ndef r{n}(): ring()" for n in range(9))
    found = reach(app=f"from fastapi import FastAPI\napp = FastAPI()\ndef ring(): ring()\n{routes}\n")
    assert len(found["app.ring"]) == 5


def test_re_exports_and_folders_without_init_are_followed() -> None:
    found = reach(
        store="def save(): pass\n",
        api="from app.store import save\n",
        main="import api\nfrom fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\ndef root(): api.save()\n",
    )
    assert found["store.save"] == ("GET /",)


STORE = """
class Store:
    def add(self, x): pass
    def drop(self, x): pass
class Other:
    def add(self, x): pass
"""


@pytest.mark.parametrize(
    "parameter, body, reached_by_it",
    [
        ("id", "x = Store()\n    x.add(id)", {"store.Store.add"}),
        ("id", "x: Store = Store()\n    for i in id:\n        x.add(i)", {"store.Store.add"}),
        ("id", "Store().add(id)", {"store.Store.add"}),
        ("x: Store = Depends()", "x.add(1)", {"store.Store.add"}),
        ("x: Annotated[Store, Depends()]", "x.add(1)", {"store.Store.add"}),
        ("id", "x = Store()\n    x = Other()\n    x.add(id)", set()),
        ("id", "x = store()\n    x.add(id)", set()),
        ("id", "x = Store()\n    def inner(x):\n        x.add(id)\n    inner(id)", set()),
        ("id", "x = Store().other\n    x.add(id)", set()),
    ],
)
def test_methods_of_what_an_endpoint_makes_or_is_given(parameter: str, body: str, reached_by_it: set[str]) -> None:
    main = f"""
from typing import Annotated
from fastapi import Depends, FastAPI
from store import Other, Store, store
app = FastAPI()
@app.get("/")
def root({parameter}):
    {body}
"""
    found = reach(store=STORE, main=main)
    assert {name for name in found if name.startswith("store.")} == reached_by_it
    assert all(found[name] == ("GET /",) for name in reached_by_it)


ITEMS = """
from fastapi import APIRouter
router = APIRouter(prefix="/items")
@router.get("/{id}")
def item(id): pass
"""


@pytest.mark.parametrize(
    "lines, labels",
    [
        ("app.include_router(items.router)", ["GET /items/{id}"]),
        (
            "app.include_router(items.router, prefix='/v1')\napp.include_router(items.router, prefix='/v2')",
            ["GET /v1/items/{id}", "GET /v2/items/{id}"],
        ),
        (
            "app.include_router(items.router)\napp.include_router(items.router, prefix='/v2')",
            ["GET /items/{id}", "GET /v2/items/{id}"],
        ),
        (
            """
api = APIRouter(prefix='/api')
api.include_router(items.router, prefix='/shop')
app.include_router(api, prefix='/v1')
""",
            ["GET /v1/api/shop/items/{id}"],
        ),
        (
            "sub = FastAPI()\nsub.include_router(items.router)\napp.mount('/sub', sub)",
            ["GET /sub/items/{id}"],
        ),
        (
            "def make():\n    made = FastAPI()\n    made.include_router(items.router, prefix='/made')",
            ["GET /made/items/{id}"],
        ),
    ],
)
def test_each_place_that_a_router_is_included_at_counts(lines: str, labels: list[str]) -> None:
    main = f"import items\nfrom fastapi import APIRouter, FastAPI\napp = FastAPI()\n{lines}\n"
    assert list(reach(items=ITEMS, main=main)["items.item"]) == labels


def test_routers_that_are_included_in_one_another_end() -> None:
    ring = "one = APIRouter()\ntwo = APIRouter()\none.include_router(two, prefix='/a')\ntwo.include_router(one)\n"
    (label,) = reach(app=f"from fastapi import APIRouter\n{ring}@one.get('/x')\ndef x(): pass\n")["app.x"]
    assert label.endswith("/x")
