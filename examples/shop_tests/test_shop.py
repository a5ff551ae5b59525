"""One test for each endpoint of the shop, written as any test of an endpoint is.

`leak_call.number` is the number of the present call of a measured test, and 0 in a test that runs once.
An input made from it is new on every call: a cache that forgets nothing shows only on inputs it has not met.
"""

from typing import Protocol

import pytest
from fastapi.testclient import TestClient


class LeakCall(Protocol):
    """What these tests use of the fixture `leak_call`."""

    @property
    def number(self) -> int: ...


@pytest.mark.no_leak
def test_home(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.json() == {"shop": "Kettle & Co"}


@pytest.mark.no_leak
def test_products(client: TestClient) -> None:
    response = client.get("/products")
    assert response.status_code == 200
    assert response.json()[0]["name"] == "Copper kettle"


@pytest.mark.no_leak
def test_categories(client: TestClient) -> None:
    response = client.get("/categories")
    assert response.status_code == 200
    assert [child["name"] for child in response.json()["children"]] == ["Kitchen", "Garden"]


@pytest.mark.no_leak
def test_picture(client: TestClient, leak_call: LeakCall) -> None:
    response = client.get("/products/2/picture", params={"width_px": 100 + leak_call.number})
    assert response.status_code == 200
    assert f'width="{100 + leak_call.number}"' in response.text


@pytest.mark.no_leak
def test_price(client: TestClient, leak_call: LeakCall) -> None:
    price_cents = 1000 + leak_call.number % 100
    response = client.put("/products/7/price", params={"price_cents": price_cents})
    assert response.status_code == 200
    assert response.json() == {"product_id": 7, "price_cents": price_cents}


@pytest.mark.no_leak(max_mb_per_min=1, rps=200)
def test_search(client: TestClient, leak_call: LeakCall) -> None:
    response = client.get("/search", params={"q": f"kettle {leak_call.number}"})
    assert response.status_code == 200
    assert response.json()[0] == "Enamel kettle at 29.00"


@pytest.mark.no_leak(max_mb_per_min=1, rps=200)
def test_visits(client: TestClient, leak_call: LeakCall) -> None:
    page = f"/products/{leak_call.number}"
    response = client.post("/visits", params={"page": page})
    assert response.status_code == 200
    assert response.json()[-1] == page


@pytest.mark.no_leak
def test_cart(client: TestClient, leak_call: LeakCall) -> None:
    order = {"customer": f"customer {leak_call.number}", "product_ids": [5, 6]}
    response = client.post("/cart", json=order)
    assert response.status_code == 200
    assert response.json() == {"reserved": f"2 items for customer {leak_call.number}", "total_cents": 2700}


@pytest.mark.no_leak
def test_wishlist(client: TestClient) -> None:
    response = client.get("/wishlist/ada")
    assert response.status_code == 200
    assert response.json() == {"customer": "ada", "total_cents": 13800}


@pytest.mark.no_leak
def test_orders(client: TestClient) -> None:
    response = client.get("/orders/ada")
    assert response.status_code == 200
    assert [order["product"] for order in response.json()] == ["Copper kettle", "Rolling pin"]


@pytest.mark.no_leak
def test_shipping(client: TestClient, leak_call: LeakCall) -> None:
    response = client.get("/shipping", params={"postcode": f"{leak_call.number:05}"})
    assert response.status_code == 200
    assert response.json()["carrier"] == "Bicycle"


@pytest.mark.no_leak
def test_label(client: TestClient) -> None:
    response = client.get("/orders/3/label")
    assert response.status_code == 200
    assert len(response.content) == 40 * 24
    assert response.text.startswith("ORDER 3 ")


@pytest.mark.no_leak
def test_export(client: TestClient) -> None:
    response = client.post("/exports")
    assert response.status_code == 200
    assert response.json()["products"] == 7


@pytest.mark.no_leak
def test_notifications(client: TestClient) -> None:
    response = client.get("/notifications/ada")
    assert response.status_code == 200
    assert response.json() == {"customer": "ada", "message": "Welcome back, Ada!"}
