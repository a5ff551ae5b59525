"""Prices, and the wish lists that follow them."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from shop.database import Database, fetch

router = APIRouter()
Listener = Callable[[int, int], None]


class PriceChanges:
    """Tells its listeners which product has which new price in cents."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def publish(self, product_id: int, price_cents: int) -> None:
        for listener in self.listeners:
            listener(product_id, price_cents)


price_changes = PriceChanges()


class Wishlist:
    """What a customer would like, at the prices of the moment."""

    def __init__(self, price_cents: dict[int, int]) -> None:
        self.price_cents = price_cents

    def on_price_change(self, product_id: int, price_cents: int) -> None:
        if product_id in self.price_cents:
            self.price_cents[product_id] = price_cents


@router.put("/products/{product_id}/price")
async def change_price(product_id: int, price_cents: int, database: Database) -> dict[str, int]:
    """Change a product's price and tell everyone who listens."""
    await fetch(database, "UPDATE products SET price_cents = ? WHERE id = ?", price_cents, product_id)
    await database.commit()
    price_changes.publish(product_id, price_cents)
    return {"product_id": product_id, "price_cents": price_cents}


@router.get("/wishlist/{customer}")
async def show_wishlist(customer: str, database: Database) -> dict[str, Any]:
    """Show what the customer's wishes cost together."""
    products = await fetch(database, "SELECT id, price_cents FROM products WHERE category_id = 3")
    wishlist = Wishlist({product["id"]: product["price_cents"] for product in products})
    price_changes.subscribe(wishlist.on_price_change)
    return {"customer": customer, "total_cents": sum(wishlist.price_cents.values())}
