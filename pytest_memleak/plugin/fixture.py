"""The fixture `memleak`: endpoints of an app measured one by one, or its server soaked; assertions per endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pytest

from pytest_memleak import settings
from pytest_memleak.model import Outcome, Result
from pytest_memleak.plugin import LAYERS, soaked
from pytest_memleak.plugin.measuring import LeakFound, Measuring, command_again
from pytest_memleak.plugin.runs import EndpointLike, Runs
from pytest_memleak.reports import text
from pytest_memleak.settings import Settings
from pytest_memleak.slugs import see
from pytest_memleak.workloads import asgi


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
            results = Runs(self._item, self._measuring, merged).all(
                app, dict(zip(_names(endpoints), targets, strict=True))
            )
        except (settings.SettingError, asgi.EndpointError) as error:
            raise pytest.fail.Exception(f"memleak.run: {error}", pytrace=False) from None
        width = self._measuring.summary.width() if self._measuring else 80
        return EndpointResults(results, again=command_again(self._item), width=width)

    def soak(
        self,
        app: Any = None,
        *,
        duration: str | float | None = None,
        locustfile: str | None = None,
        users: int | None = None,
        command: str | Sequence[str] | None = None,
        max_mb_per_min: float | None = None,
        fail_fast: bool = False,
        **arguments: Any,
    ) -> soaked.Soaked:
        """Serve an app in a process of its own, load it with Locust, and judge what it keeps.

        `app` is `"shop.main:app"`, the app itself or a TestClient of it; without it the option `app` tells, or the
        test's fixtures. `command` is a server command of your own, with `{port}` or `{bind}` in it.
        Further keywords are `reason` and the fields of a plan, such as `url`, `openapi` or `health_path`.
        Without `--memleak` nothing is started, and the result says `measured=False`. Fails the test on bad
        arguments, when server or load fail, and on INCONCLUSIVE if the run asks for that.
        """
        options = {"duration": duration, "locustfile": locustfile, "users": users, "max_mb_per_min": max_mb_per_min}
        try:
            given, fields = soaked.split({**options, "fail_fast": fail_fast, **arguments})
            self._refuse_marked()
            return self._soak(app, command, given, fields)
        except settings.SettingError as error:
            raise pytest.fail.Exception(f"memleak.soak: {error}", pytrace=False) from None

    def _soak(
        self, app: Any, command: str | Sequence[str] | None, given: dict[str, Any], fields: dict[str, Any]
    ) -> soaked.Soaked:
        if self._measuring is None:
            return soaked.Soaked(soaked.unmeasured(app if isinstance(app, str) else ""))
        from pytest_memleak.plugin import apps, soak_plans, soaking

        measuring, item = self._measuring, self._item
        if command is not None:
            fields["command"] = soak_plans.command_words(command)
        if app is not None:
            given["app"] = app if isinstance(app, str) else apps.import_name(app, "the app")
            fields["app"] = given["app"]
        asked = settings.merge_soak(measuring.configured, given)
        result = soaking.carry_out(measuring, item, soak_plans.plan_of(item, asked, fields), asked)
        return soaked.Soaked(result, lambda found: soaking.raise_leak(measuring, item, found))

    def _split(
        self, endpoints: Sequence[EndpointLike], arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Marker arguments and path values out of one set of keywords."""
        if not endpoints:
            raise settings.SettingError("no endpoint: expects at least one 'METHOD /path' or callable")
        for endpoint in endpoints:
            if not callable(endpoint) and not isinstance(cast(object, endpoint), str):
                raise settings.SettingError(f"endpoint {endpoint!r}: expects 'METHOD /path' or a callable")
        self._refuse_marked()
        wanted = {name for spelt in endpoints if isinstance(spelt, str) for name in asgi.placeholders(spelt)}
        values = {name: value for name, value in arguments.items() if name in wanted}
        rest = {name: value for name, value in arguments.items() if name not in wanted}
        return settings.parse_arguments(rest, "arguments"), values

    def _refuse_marked(self) -> None:
        if LAYERS in self._item.stash:
            raise settings.SettingError(
                see(
                    "marker-and-fixture",
                    "the test is marked no_leak too: measure it by the marker or by the fixture, not both",
                )
            )

    def _settings(self, budget: Mapping[str, Any]) -> Settings:
        if self._measuring is None:
            return settings.merge(budget)
        return self._measuring.settings_of(self._item, (), budget)


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
