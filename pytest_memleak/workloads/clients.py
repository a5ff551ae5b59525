"""In-process clients: which responses a test's own client saw, and a client for callables."""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Iterator
from typing import Any, Final

from pytest_memleak.workloads.asgi import StatusCounts, Watched

# Module, class and method through which each in-process client's requests pass; each has the app in `app`.
_TRANSPORTS: Final = (
    ("starlette.testclient", "_TestClientTransport", "handle_request"),
    ("httpx", "ASGITransport", "handle_async_request"),
    ("httpx2", "ASGITransport", "handle_async_request"),
)


@contextlib.contextmanager
def observed_responses(counts: StatusCounts) -> Iterator[None]:
    """Count the answers that the apps behind in-process clients give meanwhile.

    Only clients that are imported already are observed: importing them is the user's business.
    """
    with contextlib.ExitStack() as stack:
        for module_name, class_name, method_name in _TRANSPORTS:
            transport = getattr(sys.modules.get(module_name), class_name, None)
            if transport is not None:
                stack.enter_context(_observed(transport, method_name, counts))
        yield


@contextlib.contextmanager
def _observed(transport: Any, method_name: str, counts: StatusCounts) -> Iterator[None]:
    original = getattr(transport, method_name)
    # Clients made and dropped by the calls must not be kept alive here.
    watching: weakref.WeakSet[Any] = weakref.WeakSet()

    # Sync or async alike: what the original returns is passed on.
    @functools.wraps(original)
    def observing(self: Any, request: Any) -> Any:
        if not isinstance(self.app, Watched):
            self.app = Watched(self.app, counts)
            watching.add(self)
        return original(self, request)

    setattr(transport, method_name, observing)
    try:
        yield
    finally:
        setattr(transport, method_name, original)
        for client in list(watching):
            # The test may have given it another app meanwhile.
            if isinstance(client.app, Watched):
                client.app = client.app.app


def is_test_client(value: object) -> bool:
    """Whether a value is a Starlette or FastAPI TestClient; never imports them."""
    module = sys.modules.get("starlette.testclient")
    return module is not None and isinstance(value, module.TestClient)


def app_of(client: Any) -> object:
    """The ASGI app behind a TestClient."""
    return client.app


def is_entered(client: Any) -> bool:
    """Whether a TestClient runs inside its `with` block, where one portal and one loop serve all requests."""
    return getattr(client, "portal", None) is not None
