"""Wait until the program imports its web framework, and stand in the way of its requests.

Imported at the start of every Python process of the server's tree, most of which serve nothing: it loads
nothing heavy, and the agent itself starts with the first ASGI call.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def wait_for_app() -> None:
    """Patch the frameworks as soon as they are imported."""
    sys.meta_path.insert(0, _Finder({"starlette.applications": _patch_starlette, "uvicorn.config": _patch_uvicorn}))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the others find a module, and patches it once it is loaded."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches
        self._sought: set[str] = set()

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The others' specification, with a loader that patches."""
        patch = self._patches.get(fullname)
        if patch is None or fullname in self._sought:
            return None
        self._sought.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._sought.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, patch)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Load the module, then patch it. The module keeps its real loader."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._patch(module)
        except (KeyError, AttributeError, TypeError) as error:
            sys.stderr.write(f"memleak: {module.__name__} is not as expected ({error!r}); it is not measured\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _patch_starlette(module: ModuleType) -> None:
    """Every Starlette and FastAPI app: whichever server calls it."""
    application: Any = module.__dict__["Starlette"]
    original = application.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        from pytest_memleak.agent.traffic import TICKET, TRAFFIC

        if TICKET in scope:
            # It came through the server's gate already.
            await original(self, scope, receive, send)
        else:
            await TRAFFIC.pass_through(functools.partial(original, self), scope, receive, send)

    application.__call__ = call
    _patch_router(module.__dict__["Router"])


def _patch_router(router: Any) -> None:
    """The routes are matched here, in whatever copy of the scope the middlewares have made."""
    original = router.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        from pytest_memleak.agent.traffic import TRAFFIC

        try:
            await original(self, scope, receive, send)
        finally:
            TRAFFIC.note(scope, self)

    router.__call__ = call


def _patch_uvicorn(module: ModuleType) -> None:
    """Any other ASGI app under uvicorn."""
    config: Any = module.__dict__["Config"]
    original = config.load

    def load(self: Any) -> None:
        from pytest_memleak.agent.traffic import TRAFFIC

        original(self)
        app = self.loaded_app

        async def gated(scope: Any, receive: Any, send: Any) -> None:
            await TRAFFIC.pass_through(app, scope, receive, send)

        self.loaded_app = gated

    config.load = load
