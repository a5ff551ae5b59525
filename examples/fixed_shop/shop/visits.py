"""Which pages were looked at: the shop window shows what others looked at last."""

import time
from collections import deque
from typing import Any

from fastapi import APIRouter, Request

router = APIRouter()
visits: deque[dict[str, Any]] = deque(maxlen=100)


@router.post("/visits")
async def record_visit(page: str, request: Request) -> list[str]:
    """Record a visit and give the pages that were visited last."""
    visits.append({"page": page, "at": time.time(), "by": request.headers.get("user-agent")})
    return [visit["page"] for visit in list(visits)[-3:]]
