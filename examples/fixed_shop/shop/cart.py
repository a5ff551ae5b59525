"""The cart: its total, and the stock that is set aside for it while it is open."""

import weakref
from collections import Counter
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from shop.database import Database, fetch

router = APIRouter()
reserved: Counter[int] = Counter()


class CartRequest(BaseModel):
    """The body of `POST /cart`."""

    customer: str
    product_ids: list[int]


class Cart:
    """What a customer is about to buy."""

    reservation: "Reservation"

    def __init__(self, customer: str, price_cents: dict[int, int]) -> None:
        self.customer = customer
        self.price_cents = price_cents


class Reservation:
    """Stock that is set aside for a cart, and given back when the cart is gone."""

    cart: weakref.ref[Cart]

    def __init__(self, product_ids: list[int]) -> None:
        self.product_ids = product_ids
        reserved.update(product_ids)

    def title(self) -> str:
        cart = self.cart()
        return f"{len(self.product_ids)} items for {cart.customer if cart else 'nobody'}"

    def give_back(self) -> None:
        reserved.subtract(self.product_ids)


@router.post("/cart")
async def fill_cart(wanted: CartRequest, database: Database) -> dict[str, Any]:
    """Fill a cart, set its stock aside and give the total."""
    prices = {row["id"]: row["price_cents"] for row in await fetch(database, "SELECT * FROM products")}
    if not prices.keys() >= set(wanted.product_ids):
        raise HTTPException(404, "no such product")
    cart = Cart(wanted.customer, {key: prices[key] for key in wanted.product_ids})
    reservation = Reservation(wanted.product_ids)
    cart.reservation = reservation
    reservation.cart = weakref.ref(cart)
    weakref.finalize(cart, reservation.give_back)
    return {"reserved": reservation.title(), "total_cents": sum(cart.price_cents.values())}
