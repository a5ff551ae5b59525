"""The load of a soak of the shop: every endpoint, equally often, each named by its route.

`locust -f examples/shop_tests/locustfile.py --headless -u 50 -r 10 -t 5m --host http://127.0.0.1:8000`
"""

import itertools
import os

from locust import FastHttpUser, between, task

numbers = itertools.count(1)


def fresh() -> str:
    """Give a word that no request has had, in whichever of Locust's processes."""
    return f"{os.getpid()}-{next(numbers)}"


class Customer(FastHttpUser):
    """A customer makes two requests a second, so 50 of them make 100."""

    wait_time = between(0.3, 0.7)
    network_timeout = 10  # the next message may be long in coming

    @task
    def home(self) -> None:
        self.client.get("/", name="GET /")

    @task
    def products(self) -> None:
        self.client.get("/products", name="GET /products")

    @task
    def categories(self) -> None:
        self.client.get("/categories", name="GET /categories")

    @task
    def picture(self) -> None:
        # New widths again and again: the shop keeps 500 pictures and no more.
        path = f"/products/2/picture?width_px={100 + next(numbers) % 10_000}"
        self.client.get(path, name="GET /products/{product_id}/picture")

    @task
    def price(self) -> None:
        path = f"/products/7/price?price_cents={1000 + next(numbers) % 100}"
        self.client.put(path, name="PUT /products/{product_id}/price")

    @task
    def search(self) -> None:
        self.client.get(f"/search?q=kettle%20{fresh()}", name="GET /search")

    @task
    def visits(self) -> None:
        self.client.post(f"/visits?page=/products/{fresh()}", name="POST /visits")

    @task
    def cart(self) -> None:
        order = {"customer": f"customer {fresh()}", "product_ids": [5, 6]}
        self.client.post("/cart", json=order, name="POST /cart")

    @task
    def wishlist(self) -> None:
        self.client.get("/wishlist/ada", name="GET /wishlist/{customer}")

    @task
    def orders(self) -> None:
        self.client.get("/orders/ada", name="GET /orders/{customer}")

    @task
    def shipping(self) -> None:
        self.client.get(f"/shipping?postcode={fresh()}", name="GET /shipping")

    @task
    def label(self) -> None:
        self.client.get("/orders/3/label", name="GET /orders/{order_id}/label")

    @task
    def export(self) -> None:
        self.client.post("/exports", name="POST /exports")

    @task
    def notifications(self) -> None:
        self.client.get("/notifications/ada", name="GET /notifications/{customer}")
