"""What a customer has ordered so far."""

from typing import Any

import aiosqlite
from fastapi import APIRouter, Request

router = APIRouter()

SQL = "SELECT orders.id, name FROM orders JOIN products ON products.id = product_id WHERE customer = ?"


@router.get("/orders/{customer}")
async def list_orders(customer: str, request: Request) -> list[dict[str, Any]]:
    """List the customer's orders."""
    async with aiosqlite.connect(request.app.state.database_file) as connection:
        rows = await connection.execute_fetchall(SQL, (customer,))
    return [{"order": order_id, "product": product} for order_id, product in rows]
