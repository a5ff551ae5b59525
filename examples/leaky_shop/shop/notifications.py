"""Messages to customers, by long polling: a request waits until there is one."""

import asyncio

from fastapi import APIRouter, Request

from shop.database import Database, fetch

router = APIRouter()


async def say_goodbye(closing: asyncio.Event, message: asyncio.Future[str]) -> None:
    """Wake up a customer who still waits when the shop closes."""
    await closing.wait()
    if not message.done():
        message.set_result("The shop is closing.")


@router.get("/notifications/{customer}")
async def next_message(customer: str, request: Request, database: Database) -> dict[str, str]:
    """Wait for the customer's next message, or for the shop to close."""
    message: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.create_task(say_goodbye(request.app.state.closing, message))
    unread = await fetch(database, "SELECT text FROM messages WHERE customer = ?", customer)
    if unread and not message.done():
        message.set_result(unread[0]["text"])
    return {"customer": customer, "message": await message}
