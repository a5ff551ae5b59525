"""The shop's database: an SQLite file, seeded from this module."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import aiosqlite
from fastapi import Depends, Request

SEED = """
PRAGMA page_size = 512;
CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT, parent_id INTEGER);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, category_id INTEGER, price_cents INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, product_id INTEGER, address TEXT);
CREATE TABLE messages (id INTEGER PRIMARY KEY, customer TEXT, text TEXT);
INSERT INTO categories VALUES (1, 'Home', NULL), (2, 'Kitchen', 1), (3, 'Tea', 2), (4, 'Garden', 1);
INSERT INTO products VALUES (1, 'Copper kettle', 3, 4900), (2, 'Enamel kettle', 3, 2900),
    (3, 'Whistling kettle', 3, 3400), (4, 'Glass teapot', 3, 2600), (5, 'Rolling pin', 2, 1200),
    (6, 'Cake tin', 2, 1500), (7, 'Watering can', 4, 2200);
INSERT INTO orders VALUES (1, 'ada', 1, '12 Mill Rd'), (2, 'ada', 5, '12 Mill Rd'), (3, 'grace', 7, '3 Key');
INSERT INTO messages VALUES (1, 'ada', 'Welcome back, Ada!'), (2, 'grace', 'Your can is on its way.');
"""


def seed(file: Path) -> None:
    """Make the database `file` and fill it."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(SEED)


async def shared_connection(request: Request) -> aiosqlite.Connection:
    """Give the connection that the whole shop shares."""
    connection: aiosqlite.Connection = request.app.state.database
    return connection


Database = Annotated[aiosqlite.Connection, Depends(shared_connection)]


async def fetch(database: aiosqlite.Connection, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run a query and give its rows as dictionaries."""
    return [dict(row) for row in await database.execute_fetchall(sql, parameters)]
