"""What it costs to send a parcel: the carriers are asked, and the cheapest wins."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter

CARRIERS_CENTS = {"Courier": 690, "Post": 480, "Bicycle": 350}

router = APIRouter()


class CarrierDesk:
    """Asks the carriers, who answer only in the thread that logged in."""

    logged_in = False

    def log_in(self) -> None:
        self.logged_in = True

    def ask(self, carrier: str) -> int:
        return CARRIERS_CENTS[carrier] if self.logged_in else 0

    def quotes(self) -> dict[str, int]:
        self.pool = ThreadPoolExecutor(max_workers=1, initializer=self.log_in)
        return dict(zip(CARRIERS_CENTS, self.pool.map(self.ask, CARRIERS_CENTS), strict=True))


@router.get("/shipping")
def cheapest_carrier(postcode: str) -> dict[str, Any]:
    """Find the cheapest carrier to a postcode."""
    quotes = CarrierDesk().quotes()
    carrier = min(quotes, key=quotes.__getitem__)
    return {"postcode": postcode, "carrier": carrier, "price_cents": quotes[carrier]}
