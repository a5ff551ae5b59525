"""Exports of the catalogue as CSV; a journal tells what was done."""

import csv
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

router = APIRouter()
numbers = itertools.count(1)


@router.post("/exports")
def export_products(request: Request) -> dict[str, Any]:
    """Write all products to a CSV file."""
    number = next(numbers)
    directory: Path = request.app.state.directory
    with open(directory / "exports.log", "a", encoding="utf-8") as journal:
        with closing(sqlite3.connect(request.app.state.database_file)) as connection:
            products = connection.execute("SELECT id, name, price_cents FROM products").fetchall()
        print(f"export {number}: read {len(products)} products", file=journal, flush=True)
        with open(directory / "products.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(products)
        print(f"export {number}: written", file=journal, flush=True)
    return {"export": number, "products": len(products)}
