"""The one line: the monitor around an app, and all of it away again.

Nothing of the app's is replaced for good: a middleware around its stack, whenever that is built; routes before its
own, so that none of them takes our paths; and what `teardown` undoes, in a list.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware import Middleware

from pytest_memleak.monitor.gate import Gate
from pytest_memleak.monitor.guard import Guard
from pytest_memleak.monitor.middleware import Noting, Watching
from pytest_memleak.monitor.own_port import OwnPort
from pytest_memleak.monitor.routes import make_router
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.slugs import see

_STATE: Final = "memleak_monitor"
_UNDO: Final = "memleak_undo"
_NO_METRICS: Final = "no metrics without prometheus-client: python -m pip install 'pytest-memleak[monitor]'"


def setup_memory_monitoring(
    app: FastAPI,
    *,
    prefix: str = "/api/debug/memory",
    token: str | None = None,
    dependencies: Sequence[Any] = (),
    include_in_schema: bool = True,
    metrics: bool = True,
    port: int | None = None,
    host: str | None = None,
    interval_s: float = 5.0,
    history_minutes: float = 60,
    max_objects: int = 2_000_000,
    allow_fork: bool = False,
) -> Monitor:
    """Watch the memory of the process that serves `app`, and answer below `prefix`; gives the monitor.

    At any time: before or after the routes are added, in a lifespan too. Called again it does nothing, and gives
    the monitor that is there. Nothing runs before the app is first called.

    Who may ask: this machine alone; with `token` (else the variable MEMLEAK_TOKEN), who sends it as bearer token,
    and nobody else; with `dependencies` (FastAPI's `Depends(...)`), whom they admit, and who has the token if there
    is one. `port` serves all of it, the metrics too, on a port of its own (8001 is what the guides use) instead of
    on the app's; of several workers one has it. `host` is where that port listens: this machine alone (127.0.0.1),
    and every address (0.0.0.0) where a token or dependencies say who may ask. A reading is taken every `interval_s`
    seconds and kept for `history_minutes`. A heap of more than `max_objects` is not walked unasked; with
    `allow_fork` a forked child walks it. Raises ValueError for what cannot be meant.
    """
    found: Monitor | None = getattr(app.state, _STATE, None)
    if found is not None:
        return found
    settings = Settings(
        prefix=prefix,
        token=token if token is not None else os.environ.get("MEMLEAK_TOKEN", "").strip() or None,
        dependencies=tuple(dependencies),
        include_in_schema=include_in_schema,
        metrics=metrics,
        port=port,
        host=host,
        interval_s=interval_s,
        history_minutes=history_minutes,
        max_objects=max_objects,
        allow_fork=allow_fork,
    )
    monitor = Monitor(settings)
    guard = Guard(settings.prefix, settings.token, is_open=bool(settings.dependencies))
    undo: list[Callable[[], None]] = [monitor.stop]
    if settings.port is None:
        place, remove = _add_routes(app, monitor, guard)
        undo.append(remove)
    else:
        place = _nothing
        undo.append(_add_port(app, monitor, guard))
    undo.append(_add_middleware(app, monitor, guard, place))
    if settings.metrics and (attach := _seam("metrics", "attach")) is not None:
        undo.append(attach(app, monitor))
    setattr(app.state, _STATE, monitor)
    setattr(app.state, _UNDO, undo)
    return monitor


def teardown(app: FastAPI) -> None:
    """Take all of the monitor away from an app: routes, middleware, thread, what listens. Without one, nothing."""
    undo: list[Callable[[], None]] = getattr(app.state, _UNDO, [])
    for step in reversed(undo):
        step()
    for name in (_STATE, _UNDO):
        with contextlib.suppress(AttributeError, KeyError):
            delattr(app.state, name)


def _add_routes(app: FastAPI, monitor: Monitor, guard: Guard) -> tuple[Callable[[], None], Callable[[], None]]:
    """The endpoints on the app itself; what puts them around its routes, and what takes them away."""
    router = make_router(monitor, guard, dependency_overrides_provider=app)
    _add_page(router, monitor)
    gate = Gate(router, guard)
    # For the document alone: the gate comes first.
    documented = [route for route in router.routes if getattr(route, "include_in_schema", False)]
    ours = set(map(id, [gate, *documented]))

    def remove() -> None:
        app.router.routes[:] = [route for route in app.router.routes if id(route) not in ours]
        app.openapi_schema = None  # made anew when somebody asks for it

    def place() -> None:
        remove()
        app.router.routes.insert(0, gate)
        app.router.routes.extend(documented)

    place()
    return place, remove


def _add_port(app: FastAPI, monitor: Monitor, guard: Guard) -> Callable[[], None]:
    """The endpoints and the metrics on a port of their own."""
    served = FastAPI(title="Memory monitor", docs_url=None, redoc_url=None, openapi_url=None)
    router = make_router(monitor, guard, dependency_overrides_provider=app)
    _add_page(router, monitor)
    served.router.routes[:0] = list(router.routes)
    if monitor.settings.metrics and (metrics_route := _seam("metrics", "metrics_route")) is not None:
        served.router.routes.append(metrics_route(monitor))
    outer = Watching(served, monitor, guard, served.router, counts=False)
    port = OwnPort(outer, monitor.settings.listens_at, monitor.settings.port or 0)
    monitor.on_reading.append(port.open)
    monitor.on_worker_exit.append(port.close)
    monitor.on_fork.append(port.forget)
    return port.close


def _add_page(router: Any, monitor: Monitor) -> None:
    add_page = _seam("page", "add_page")
    if add_page is not None:
        add_page(router, monitor)


def _nothing() -> None: ...


def _add_middleware(app: FastAPI, monitor: Monitor, guard: Guard, place: Callable[[], None]) -> Callable[[], None]:
    """Around the app's stack, whoever adds to that later, and once more next to the router.

    The inner one is for those who hand on another scope: where nobody is between, it is left out.
    """
    build = app.build_middleware_stack
    inner = Middleware(Noting, router=app.router)
    stacked: Any = app
    outer = Watching(_unbuilt, monitor, guard, app.router, guards=monitor.settings.port is None)

    def build_watched() -> Any:
        place()  # now all of the app's routes are there
        outer.has_noting = bool(app.user_middleware)
        if not outer.has_noting:
            outer.app = build()
            return outer
        app.user_middleware.append(inner)
        try:
            outer.app = build()
        finally:
            app.user_middleware.remove(inner)
        return outer

    app.build_middleware_stack = build_watched  # type: ignore[method-assign]
    if stacked.middleware_stack is not None:
        # It is being served, this may be its lifespan. To build it anew would make the user's middlewares twice.
        outer.app = stacked.middleware_stack
        stacked.middleware_stack = outer

    def remove() -> None:
        if app.__dict__.get("build_middleware_stack") is build_watched:
            del app.build_middleware_stack
        if stacked.middleware_stack is outer:
            # Without the inner one, where the stack has not been served yet; that one has nothing to mark then.
            stacked.middleware_stack = outer.app
        outer.is_over = True

    return remove


async def _unbuilt(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError("the app's middleware stack has not been built")


def _seam(module: str, name: str) -> Any:
    """A part of the monitor that may not be there."""
    full = f"{__package__}.{module}"
    if importlib.util.find_spec(full) is None:
        return None
    try:
        return getattr(importlib.import_module(full), name, None)
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        sys.stderr.write(f"memleak: {see('missing-extra', _NO_METRICS)}\n")
        return None
