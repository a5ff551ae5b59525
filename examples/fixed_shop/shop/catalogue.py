"""What the shop sells: the list, the tree of categories, and pictures in any width."""

from collections import OrderedDict
from typing import Any

from fastapi import APIRouter, Response

from shop.database import Database, fetch

PICTURES_KEPT = 500

router = APIRouter()
pictures: OrderedDict[tuple[int, int], str] = OrderedDict()


class Category:
    """A category, which knows its parent and its children."""

    def __init__(self, name: str, parent: "Category | None") -> None:
        self.name = name
        self.parent = parent
        self.children: list[Category] = []
        if parent is not None:
            parent.children.append(self)

    def tree(self) -> dict[str, Any]:
        return {"name": self.name, "children": [child.tree() for child in self.children]}


@router.get("/products")
async def list_products(database: Database) -> list[dict[str, Any]]:
    """List every product."""
    return await fetch(database, "SELECT id, name, price_cents FROM products ORDER BY id")


@router.get("/categories")
async def category_tree(database: Database) -> dict[str, Any]:
    """Show the categories as a tree."""
    categories: dict[int, Category] = {}
    for row in await fetch(database, "SELECT id, name, parent_id FROM categories ORDER BY id"):
        categories[row["id"]] = Category(row["name"], categories.get(row["parent_id"]))
    return categories[1].tree()


def draw(product_id: int, width_px: int) -> str:
    """Draw a product's picture as SVG."""
    rings = [f'<circle cx="50%" cy="50%" r="{width_px / ring:.1f}"/>' for ring in range(2, 4 + product_id)]
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_px}">{"".join(rings)}</svg>'


@router.get("/products/{product_id}/picture")
async def picture(product_id: int, width_px: int = 400) -> Response:
    """Show a product's picture; the pictures drawn last are kept."""
    key = (product_id, width_px)
    if key not in pictures:
        pictures[key] = draw(product_id, width_px)
        if len(pictures) > PICTURES_KEPT:
            pictures.popitem(last=False)
    return Response(pictures[key], media_type="image/svg+xml")
