"""The shop's application: `uvicorn shop.main:app`."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiosqlite
from fastapi import FastAPI

from shop import cart, catalogue, export, labels, notifications, orders, pricing, search, shipping, visits
from shop.database import seed


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the shop: a fresh database in a directory that goes when the shop closes."""
    with TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as directory:
        app.state.directory = Path(directory)
        app.state.database_file = app.state.directory / "shop.sqlite"
        app.state.connections = []
        app.state.closing = asyncio.Event()
        seed(app.state.database_file)
        async with aiosqlite.connect(app.state.database_file) as app.state.database:
            app.state.database.row_factory = sqlite3.Row
            yield
        app.state.closing.set()
        for connection in app.state.connections:
            await connection.close()
        for journal in export.running.values():
            journal.close()


app = FastAPI(title="Shop", lifespan=lifespan)
for module in (cart, catalogue, export, labels, notifications, orders, pricing, search, shipping, visits):
    app.include_router(module.router)


@app.get("/")
async def home() -> dict[str, str]:
    """Say which shop this is."""
    return {"shop": "Kettle & Co"}
