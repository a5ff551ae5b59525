"""Search in the catalogue; a search that was made before is answered from memory."""

from fastapi import APIRouter

from shop.database import Database, fetch

SQL = "SELECT name, price_cents FROM products WHERE name LIKE ? ORDER BY price_cents"

router = APIRouter()
results: dict[str, list[str]] = {}


@router.get("/search")
async def search(q: str, database: Database) -> list[str]:
    """Find the products whose name contains the first word of `q`."""
    if q not in results:
        rows = await fetch(database, SQL, f"%{q.partition(' ')[0]}%")
        results[q] = [f"{row['name']} at {row['price_cents'] / 100:.2f}" for row in rows]
    return results[q]
