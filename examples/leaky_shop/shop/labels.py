"""Parcel labels for the old label printer, which wants a page of plain characters from C."""

import ctypes
import sqlite3
import sys
from contextlib import closing

from fastapi import APIRouter, HTTPException, Request, Response

WIDTH, HEIGHT = 40, 24

router = APIRouter()
libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
copy_to_c = libc._strdup if sys.platform == "win32" else libc.strdup
copy_to_c.argtypes, copy_to_c.restype = [ctypes.c_char_p], ctypes.c_void_p
libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None


def print_page(lines: list[str]) -> bytes:
    """Lay lines out on the printer's page, a grid of characters."""
    blank = [""] * (HEIGHT - len(lines))
    grid = "".join(line[:WIDTH].ljust(WIDTH) for line in [*lines, *blank])
    page = copy_to_c(grid.encode("ascii", "replace"))
    return ctypes.string_at(page)


@router.get("/orders/{order_id}/label")
def label(order_id: int, request: Request) -> Response:
    """Print an order's parcel label."""
    with closing(sqlite3.connect(request.app.state.database_file)) as connection:
        row = connection.execute("SELECT customer, address FROM orders WHERE id = ?", (order_id,)).fetchone()
    if row is None:
        raise HTTPException(404, "no such order")
    return Response(print_page([f"ORDER {order_id}", *row]), media_type="text/plain")
