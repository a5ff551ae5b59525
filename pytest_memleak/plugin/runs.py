"""The measurements of one `memleak.run`: endpoints straight into the app, callables through a client."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pytest_memleak import settings
from pytest_memleak.hunt import hunt
from pytest_memleak.model import Budget, Outcome, Result
from pytest_memleak.plugin import vacuity
from pytest_memleak.plugin.measuring import Measuring, named_fixtures, record
from pytest_memleak.plugin.stores import HarnessStores
from pytest_memleak.probes.catalogue import find_probes, running_loops
from pytest_memleak.reports import text
from pytest_memleak.settings import Settings
from pytest_memleak.slugs import see
from pytest_memleak.workloads import asgi, clients
from pytest_memleak.workloads.steps import drive, drive_async

Client = Any
EndpointLike = str | Callable[[Client], object]
ClientCall = Callable[[Client, int], object]


class Runs:
    """The measurements of one `run`."""

    def __init__(self, item: pytest.Item, measuring: Measuring | None, merged: Settings) -> None:
        self._item = item
        self._measuring = measuring
        self._settings = merged
        self._stores = HarnessStores(item)
        self._app: Any = None
        self._counts = asgi.StatusCounts()
        self._name = ""
        self.progress: Callable[[str], None] = measuring.summary.progress if measuring else _silent

    def all(self, app: Any, targets: Mapping[str, asgi.Endpoint | Callable[[Client], object]]) -> dict[str, Result]:
        """Strings straight into the app, callables through a TestClient; an entered client serves both."""
        self._app = clients.app_of(app) if clients.is_test_client(app) else app
        if not callable(app) and not clients.is_test_client(app):
            raise settings.SettingError(f"app {app!r}: expects an ASGI app or an entered TestClient")
        results: dict[str, Result] = {}
        direct = {name: target for name, target in targets.items() if isinstance(target, asgi.Endpoint)}
        if clients.is_test_client(app):
            direct = {}
        called = {name: _through_client(target) for name, target in targets.items() if name not in direct}
        if direct:
            results.update(_in_new_loop(self._direct(app, direct)))
        if called:
            results.update(self._called(app, called))
        self.progress("")
        return {name: results[name] for name in targets}

    async def _direct(self, app: Any, targets: Mapping[str, asgi.Endpoint]) -> dict[str, Result]:
        results = {}
        async with asgi.lifespan(app) as state:
            for name, target in targets.items():
                counts = self._counts = asgi.StatusCounts()
                self._name = name

                async def call(number: int, target: asgi.Endpoint = target, counts: asgi.StatusCounts = counts) -> None:
                    self._before_call()
                    await asgi.request(app, target, number, counts, state)

                results[name] = await self._measured_async(name, call, counts)
        return results

    async def _measured_async(self, name: str, call: Callable[[int], Any], counts: asgi.StatusCounts) -> Result:
        if self._measuring is None:
            await call(0)
            return _unmeasured(name)
        loops = [asyncio.get_running_loop()]
        if self._measuring.canary:
            call = vacuity.with_canary(call, self._settings)
        steps = hunt(name, self._settings, probes=find_probes(loops), loops=loops, surroundings=self, unit="request")
        return self._judged(await drive_async(steps, call), counts)

    def _called(self, app: Any, targets: Mapping[str, ClientCall]) -> dict[str, Result]:
        if clients.is_test_client(app):
            if not clients.is_entered(app):
                sentence = "the client is not entered: use `with TestClient(app) as client`"
                raise settings.SettingError(see("client-not-entered", sentence))
            return {name: self._measured(name, target, app) for name, target in targets.items()}
        client = _test_client(app)
        try:
            client.__enter__()
        except Exception as error:  # whatever the app's own start-up raises
            raise settings.SettingError(f"the app's start-up failed: {error!r}") from error
        with contextlib.ExitStack() as stack:
            stack.push(client.__exit__)
            return {name: self._measured(name, target, client) for name, target in targets.items()}

    def _measured(self, name: str, target: ClientCall, client: Client) -> Result:
        counts = self._counts = asgi.StatusCounts()
        self._name = name

        def call(number: int) -> None:
            self._before_call()
            target(client, number)

        if self._measuring is None:
            call(0)
            return _unmeasured(name)
        if self._measuring.canary:
            call = vacuity.with_canary(call, self._settings)
        loops = running_loops()
        steps = hunt(name, self._settings, probes=find_probes(loops), loops=loops, surroundings=self, unit="request")
        with clients.observed_responses(counts):
            result = drive(steps, call)
        return self._judged(result, counts)

    def _before_call(self) -> None:
        # An ordinary run is an ordinary test: its records are the user's.
        if self._measuring is not None:
            self._stores.before_call()

    def _judged(self, result: Result, counts: asgi.StatusCounts) -> Result:
        vacuity.refuse_unreached(self._item, counts, result.name)
        vacuity.refuse_too_few_calls(result, self._settings)
        unit = "request" if sum(counts.seen().values()) == result.calls else "call"
        result = dataclasses.replace(result, nodeid=self._item.nodeid, unit=unit)
        record(self._item, result)
        if self._measuring is not None and self._measuring.canary:
            if result.outcome is not Outcome.LEAK:
                pytest.fail(text.canary_missed(result), pytrace=False)
            return _unmeasured(result.name)
        if self._measuring is not None and result.outcome is Outcome.INCONCLUSIVE:
            self._measuring.decide(self._item, result)
        return result

    def prepare(self) -> None:
        """Refuse what never reaches its endpoint; look for what records, before the heap is frozen."""
        vacuity.refuse_unreached(self._item, self._counts, self._name)
        self._stores.find()

    def empty_stores(self) -> None:
        """Empty what the test tools recorded."""
        self._stores.empty()

    def notes(self) -> Sequence[str]:
        """What was left out."""
        return self._stores.notes()

    def roots(self) -> Mapping[int, str]:
        """The fixtures' values by name."""
        return {**named_fixtures(self._item), id(self._app): "app"}


def _through_client(target: asgi.Endpoint | Callable[[Client], object]) -> ClientCall:
    """A call of the client and the call's number."""
    if not isinstance(target, asgi.Endpoint):
        return lambda client, _number: target(client)

    def call(client: Client, number: int) -> object:
        scope = target.scope(number)
        query = scope["query_string"].decode()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in target.headers}
        url = scope["raw_path"].decode() + (f"?{query}" if query else "")
        return client.request(target.method, url, content=target.body(number), headers=headers)

    return call


def _test_client(app: Any) -> Any:
    try:
        from starlette.testclient import TestClient
    except (ImportError, RuntimeError) as error:
        raise settings.SettingError(
            see(
                "missing-extra",
                f"callables need Starlette's TestClient ({error}): python -m pip install 'pytest-memleak[fastapi]'",
            )
        ) from None
    return TestClient(app)


def _in_new_loop(work: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        sentence = "runs an event loop of its own: call it from a test that is not async"
        raise settings.SettingError(see("own-event-loop", sentence))
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        # Leaked tasks, mostly: the loop ends with them, as a server would.
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _unmeasured(name: str) -> Result:
    return Result(
        name=name,
        outcome=Outcome.CLEAN,
        budget=Budget(),
        calls=1,
        rounds=0,
        seconds=0.0,
        measured=False,
        why="not measured",
    )


def _silent(line: str) -> None:
    pass
