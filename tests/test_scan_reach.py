"""Which functions the endpoints reach, through routers, imports, methods, dependencies and middleware."""

from __future__ import annotations

import ast

from pytest_memleak.scan.facts import facts
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.reach import reached


def reach(**files: str) -> dict[str, tuple[str, ...]]:
    return reached(
        facts(Module(ast.parse(text), name.replace("__", "."), is_package=False), text) for name, text in files.items()
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
