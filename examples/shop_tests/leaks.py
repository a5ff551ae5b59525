"""What the leaky shop leaks, test by test: the truth that a measurement is compared with.

Of the fixed shop every test is clean. Two tests are clean in both and look as if they were not:
`test_picture` fills a cache of 500 entries, `test_categories` makes cycles that only the garbage collector
frees.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One leak: where it is, and what grows with every request."""

    pattern: str
    """A pattern of the catalogue, or `native`: memory that Python does not know of."""
    endpoint: str
    file: str
    """Below `shop/`."""
    line: str
    """The line, stripped, that allocates what is kept."""
    also: tuple[str, ...] = ()
    """Other lines of the same file that allocate a part of it."""
    held_by: str
    grows: tuple[str, ...]
    """Of memory, objects (those the garbage collector tracks), fds, threads, tasks: each by 1 or more."""


LEAKS: dict[str, Leak | None] = {
    "test_home": None,
    "test_products": None,
    "test_categories": None,
    "test_picture": None,
    "test_price": None,
    "test_search": Leak(
        pattern="unbounded_cache",
        endpoint="GET /search",
        file="search.py",
        line="""results[q] = [f"{row['name']} at {row['price_cents'] / 100:.2f}" for row in rows]""",
        held_by="shop.search.results",
        grows=("memory", "objects"),
    ),
    "test_visits": Leak(
        pattern="global_accumulation",
        endpoint="POST /visits",
        file="visits.py",
        line="""visits.append({"page": page, "at": time.time(), "by": request.headers.get("user-agent")})""",
        held_by="shop.visits.visits",
        grows=("memory",),  # up to Python 3.13 a dictionary of strings and numbers is not tracked
    ),
    "test_cart": Leak(
        pattern="circular_reference",
        endpoint="POST /cart",
        file="cart.py",
        line="cart = Cart(wanted.customer, {key: prices[key] for key in wanted.product_ids})",
        also=(
            "weakref.finalize(cart, reservation.give_back)",
            "reservation = Reservation(wanted.product_ids)",
            "reservation.cart = cart",
        ),
        held_by="weakref.finalize._registry",
        grows=("memory", "objects"),
    ),
    "test_wishlist": Leak(
        pattern="event_listener",
        endpoint="GET /wishlist/{customer}",
        file="pricing.py",
        line="""wishlist = Wishlist({product["id"]: product["price_cents"] for product in products})""",
        also=("price_changes.subscribe(wishlist.on_price_change)", "self.listeners.append(listener)"),
        held_by="shop.pricing.price_changes.listeners",
        grows=("memory", "objects"),
    ),
    "test_orders": Leak(
        pattern="database_connection",
        endpoint="GET /orders/{customer}",
        file="orders.py",
        line="connection = await aiosqlite.connect(request.app.state.database_file)",
        also=("rows = await connection.execute_fetchall(SQL, (customer,))",),
        held_by="shop.main.app.state.connections",
        grows=("memory", "objects", "fds", "threads"),
    ),
    "test_shipping": Leak(
        pattern="thread_pool",
        endpoint="GET /shipping",
        file="shipping.py",
        line="self.pool = ThreadPoolExecutor(max_workers=1, initializer=self.log_in)",
        also=(
            "return dict(zip(CARRIERS_CENTS, self.pool.map(self.ask, CARRIERS_CENTS), strict=True))",
            "quotes = CarrierDesk().quotes()",
        ),
        held_by="threading._active",
        grows=("memory", "objects", "threads"),
    ),
    "test_label": Leak(
        pattern="native",
        endpoint="GET /orders/{order_id}/label",
        file="labels.py",
        line='page = copy_to_c(grid.encode("ascii", "replace"))',
        held_by="nobody",
        grows=("memory",),
    ),
    "test_export": Leak(
        pattern="file_handle",
        endpoint="POST /exports",
        file="export.py",
        line="""journal = open(directory / "exports.log", "a", encoding="utf-8")""",
        also=("running[number] = journal",),
        held_by="shop.export.running",
        grows=("memory", "objects", "fds"),
    ),
    "test_notifications": Leak(
        pattern="async_task",
        endpoint="GET /notifications/{customer}",
        file="notifications.py",
        line="asyncio.create_task(say_goodbye(request.app.state.closing, message))",
        also=(
            "await closing.wait()",
            "message: asyncio.Future[str] = asyncio.get_running_loop().create_future()",
        ),
        held_by="shop.main.app.state.closing._waiters",
        grows=("memory", "objects", "tasks"),
    ),
}
