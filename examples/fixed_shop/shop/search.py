"""Search in the catalogue; a search that was made a moment ago is answered from memory."""

import time
from collections import OrderedDict

from fastapi import APIRouter

from shop.database import Database, fetch

SQL = "SELECT name, price_cents FROM products WHERE name LIKE ? ORDER BY price_cents"

router = APIRouter()


class RecentResults:
    """A cache of the last `size` results, none of them older than `ttl_s` seconds."""

    def __init__(self, size: int, ttl_s: float) -> None:
        self.size = size
        self.ttl_s = ttl_s
        self._results: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    def get(self, query: str) -> list[str] | None:
        made_at, found = self._results.get(query, (float("-inf"), None))
        return found if time.monotonic() - made_at < self.ttl_s else None

    def put(self, query: str, found: list[str]) -> None:
        self._results[query] = (time.monotonic(), found)
        self._results.move_to_end(query)
        if len(self._results) > self.size:
            self._results.popitem(last=False)


results = RecentResults(size=100, ttl_s=60)


@router.get("/search")
async def search(q: str, database: Database) -> list[str]:
    """Find the products whose name contains the first word of `q`."""
    found = results.get(q)
    if found is None:
        rows = await fetch(database, SQL, f"%{q.partition(' ')[0]}%")
        found = [f"{row['name']} at {row['price_cents'] / 100:.2f}" for row in rows]
        results.put(q, found)
    return found
