"""The fixture `memleak`: endpoints of an app measured one by one, with assertions per endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest

from pytest_memleak import settings
from pytest_memleak.hunt import hunt
from pytest_memleak.model import Budget, Outcome, Result
from pytest_memleak.plugin import LAYERS, vacuity
from pytest_memleak.plugin.measuring import LeakFound, Measuring, command_again, named_fixtures, record
from pytest_memleak.plugin.stores import HarnessStores
from pytest_memleak.probes.catalogue import find_probes, running_loops
from pytest_memleak.reports import text
from pytest_memleak.settings import Settings
from pytest_memleak.workloads import asgi, clients
from pytest_memleak.workloads.steps import drive, drive_async

Client = Any
EndpointLike = str | Callable[[Client], object]
ClientCall = Callable[[Client, int], object]


class EndpointResults(Mapping[str, Result]):
    """Results by endpoint, as it was spelt (a callable by its name)."""

    def __init__(self, results: Mapping[str, Result], *, again: str, width: int) -> None:
        self._results = results
        self._again = again
        self._width = width

    def __getitem__(self, endpoint: str) -> Result:
        try:
            return self._results[endpoint]
        except KeyError:
            raise KeyError(f"{endpoint!r} was not measured; measured: {', '.join(self._results)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def assert_no_leak(self) -> None:
        """Fail the test with the full report when an endpoint leaks; a leak that several share is told once."""
        leaking = [result for result in self._results.values() if result.outcome is Outcome.LEAK]
        if leaking:
            report = text.explain_all(leaking, width=self._width, again=self._again)
            raise LeakFound(report, "; ".join(map(text.sentence, leaking)))


class Memleak:
    """What the fixture gives a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._item: pytest.Item = request.node
        self._measuring: Measuring | None = request.config.pluginmanager.getplugin("memleak-measuring")

    def run(
        self,
        app: Any,
        *endpoints: EndpointLike,
        json: object = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> EndpointResults:
        """Measure each endpoint of an ASGI app, or of an entered TestClient.

        An endpoint is `"METHOD /path"` or a callable that takes the client. `arguments` are those of the
        marker and the values of `{name}` in paths; a `{name}` without a value takes the call's number.
        `json` and `content` are the body, or callables of the call's number. Without `--memleak` each
        endpoint is called once and its result says `measured=False`. Fails the test on bad arguments.
        """
        try:
            budget, values = self._split(endpoints, arguments)
            targets = [
                asgi.endpoint(spelt, values, json_body=json, content=content, headers=headers)
                if isinstance(spelt, str)
                else spelt
                for spelt in endpoints
            ]
            merged = self._settings(budget)
            results = _Runs(self, merged).all(app, dict(zip(_names(endpoints), targets, strict=True)))
        except (settings.SettingError, asgi.EndpointError) as error:
            raise pytest.fail.Exception(f"memleak.run: {error}", pytrace=False) from None
        width = self._measuring.summary.width() if self._measuring else 80
        return EndpointResults(results, again=command_again(self._item), width=width)

    def _split(
        self, endpoints: Sequence[EndpointLike], arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Marker arguments and path values out of one set of keywords."""
        if not endpoints:
            raise settings.SettingError("no endpoint: expects at least one 'METHOD /path' or callable")
        for endpoint in endpoints:
            if not callable(endpoint) and not isinstance(cast(object, endpoint), str):
                raise settings.SettingError(f"endpoint {endpoint!r}: expects 'METHOD /path' or a callable")
        if LAYERS in self._item.stash:
            raise settings.SettingError(
                "the test is marked no_leak too: measure it by the marker or by the fixture, not both"
            )
        wanted = {name for spelt in endpoints if isinstance(spelt, str) for name in asgi.placeholders(spelt)}
        values = {name: value for name, value in arguments.items() if name in wanted}
        rest = {name: value for name, value in arguments.items() if name not in wanted}
        return settings.parse_arguments(rest, "arguments"), values

    def _settings(self, budget: Mapping[str, Any]) -> Settings:
        if self._measuring is None:
            return settings.merge(budget)
        return self._measuring.settings_of(self._item, (), budget)

    @property
    def measuring(self) -> Measuring | None:
        """The run's measuring plugin, None without `--memleak`."""
        return self._measuring

    @property
    def item(self) -> pytest.Item:
        """The test that uses the fixture."""
        return self._item


class _Runs:
    """The measurements of one `run`."""

    def __init__(self, memleak: Memleak, merged: Settings) -> None:
        self._memleak = memleak
        self._settings = merged
        self._stores = HarnessStores(memleak.item)
        self._app: Any = None
        self._counts = asgi.StatusCounts()
        self._name = ""
        self.progress: Callable[[str], None] = memleak.measuring.summary.progress if memleak.measuring else _silent

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
        measuring = self._memleak.measuring
        if measuring is None:
            await call(0)
            return _unmeasured(name)
        loops = [asyncio.get_running_loop()]
        if measuring.canary:
            call = vacuity.with_canary(call, self._settings)
        steps = hunt(name, self._settings, probes=find_probes(loops), loops=loops, surroundings=self, unit="request")
        return self._judged(await drive_async(steps, call), counts)

    def _called(self, app: Any, targets: Mapping[str, ClientCall]) -> dict[str, Result]:
        if clients.is_test_client(app):
            if not clients.is_entered(app):
                raise settings.SettingError("the client is not entered: use `with TestClient(app) as client`")
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
        measuring = self._memleak.measuring
        counts = self._counts = asgi.StatusCounts()
        self._name = name

        def call(number: int) -> None:
            self._before_call()
            target(client, number)

        if measuring is None:
            call(0)
            return _unmeasured(name)
        if measuring.canary:
            call = vacuity.with_canary(call, self._settings)
        loops = running_loops()
        steps = hunt(name, self._settings, probes=find_probes(loops), loops=loops, surroundings=self, unit="request")
        with clients.observed_responses(counts):
            result = drive(steps, call)
        return self._judged(result, counts)

    def _before_call(self) -> None:
        # An ordinary run is an ordinary test: its records are the user's.
        if self._memleak.measuring is not None:
            self._stores.before_call()

    def _judged(self, result: Result, counts: asgi.StatusCounts) -> Result:
        vacuity.refuse_unreached(self._memleak.item, counts, result.name)
        vacuity.refuse_too_few_calls(result, self._settings)
        unit = "request" if sum(counts.seen().values()) == result.calls else "call"
        result = dataclasses.replace(result, nodeid=self._memleak.item.nodeid, unit=unit)
        record(self._memleak.item, result)
        measuring = self._memleak.measuring
        if measuring is not None and measuring.canary:
            if result.outcome is not Outcome.LEAK:
                pytest.fail(text.canary_missed(result), pytrace=False)
            return _unmeasured(result.name)
        if measuring is not None and result.outcome is Outcome.INCONCLUSIVE:
            measuring.decide(self._memleak.item, result)
        return result

    def prepare(self) -> None:
        """Refuse what never reaches its endpoint; look for what records, before the heap is frozen."""
        vacuity.refuse_unreached(self._memleak.item, self._counts, self._name)
        self._stores.find()

    def empty_stores(self) -> None:
        """Empty what the test tools recorded."""
        self._stores.empty()

    def notes(self) -> Sequence[str]:
        """What was left out."""
        return self._stores.notes()

    def roots(self) -> Mapping[int, str]:
        """The fixtures' values by name."""
        return {**named_fixtures(self._memleak.item), id(self._app): "app"}


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
            f"callables need Starlette's TestClient ({error}): python -m pip install 'pytest-memleak[fastapi]'"
        ) from None
    return TestClient(app)


def _in_new_loop(work: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise settings.SettingError("runs an event loop of its own: call it from a test that is not async")
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


def _names(endpoints: Sequence[EndpointLike]) -> list[str]:
    """A name for each endpoint; callables of one name are numbered."""
    names: list[str] = []
    for endpoint in endpoints:
        name = _name(endpoint)
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _name(endpoint: EndpointLike) -> str:
    return endpoint if isinstance(endpoint, str) else getattr(endpoint, "__name__", type(endpoint).__name__)


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
