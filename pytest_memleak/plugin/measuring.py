"""Measures the marked tests of a run: wraps their call, fails by raising, and sums up at the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest._code.code import ExceptionRepr
from _pytest.outcomes import Failed

from pytest_memleak import settings
from pytest_memleak.hunt import hunt
from pytest_memleak.model import Outcome, Result
from pytest_memleak.plugin import CONFIGURED, LAYERS, LeakCall, vacuity
from pytest_memleak.plugin.stores import HarnessStores
from pytest_memleak.plugin.summary import Summary
from pytest_memleak.plugin.timeouts import timeout_of
from pytest_memleak.probes.catalogue import Probes, find_probes, running_loops
from pytest_memleak.reports import text
from pytest_memleak.settings import Settings
from pytest_memleak.workloads import clients
from pytest_memleak.workloads.asgi import StatusCounts
from pytest_memleak.workloads.steps import Steps, drive, drive_async, runs_trio

RESULTS = pytest.StashKey[list[Result]]()
"""What was measured in an item: one result of a marked test, several of the fixture."""

SOAKS = pytest.StashKey[list[dict[str, Any]]]()
"""The results of an item's soaks, as plain values with the test's name."""

# pytest-timeout stops a test for good; half of its time leaves room for confirmation and diagnosis.
_TIMEOUT_SHARE: Final = 0.5


class Measuring:
    """Registered only when measuring is on."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.configured: dict[str, Any] = config.stash[CONFIGURED]
        path = self.configured.get("json")
        # Now: a test may leave its chdir behind.
        self.json = config.invocation_params.dir / path if path else None
        self.canary: bool = self.configured.get("canary", False)
        self.summary = Summary(config, self.configured)

    def pytest_sessionstart(self) -> None:
        if self.json is not None and not self.json.parent.is_dir():
            raise pytest.UsageError(f"--memleak-json {self.json}: its folder does not exist; make it first")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure a marked test, and fail it when it leaks.

        The test's own failure passes through as it is; `measured` notes on which call it came.
        """
        # A plugin may run a test once more: only its last measurement counts.
        item.stash[RESULTS], item.stash[SOAKS] = [], []
        item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith("memleak")]
        layers = item.stash.get(LAYERS, None)
        if layers is None or not isinstance(item, pytest.Function):
            return (yield)
        if settings.is_soak(layers):
            from pytest_memleak.plugin import soaking

            return (yield from soaking.marked(self, item, layers))
        measurement = Measurement(item, self.settings_of(item, layers), self.summary.progress)
        with measurement.wrapped(canary=self.canary):
            outcome = yield
        result = measurement.finished()
        record(item, result)
        self.decide(item, result)
        return outcome

    def settings_of(
        self, item: pytest.Item, layers: Sequence[Mapping[str, Any]], nearest: Mapping[str, Any] | None = None
    ) -> Settings:
        """All routes merged: ini file and command line, markers, arguments; within the test's timeout."""
        base = {name: value for name, value in self.configured.items() if name in settings.MARKER_NAMES}
        merged = settings.merge(base, *layers, nearest or {})
        limit = timeout_of(item)
        if limit is None or limit * _TIMEOUT_SHARE >= merged.max_time:
            return merged
        return settings.merge(base, *layers, nearest or {}, {"max_time": limit * _TIMEOUT_SHARE})

    def decide(self, item: pytest.Item, result: Result) -> None:
        """Raise what the verdict means for a test."""
        if self.canary:
            if result.outcome is not Outcome.LEAK:
                pytest.fail(text.canary_missed(result), pytrace=False)
            return
        if result.outcome is Outcome.CLEAN:
            return
        if result.outcome is Outcome.INCONCLUSIVE and self.configured.get("inconclusive", "warn") != "fail":
            return
        again = command_again(item)
        raise LeakFound(text.explain(result, width=self.summary.width(), again=again), text.sentence(result))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        results = item.stash.get(RESULTS, None)
        if call.when == "call":
            # Plain values cross xdist.
            if results:
                vars(report)["memleak_results"] = [result.to_dict() for result in results]
            if soaks := item.stash.get(SOAKS, None):
                vars(report)["memleak_soaks"] = soaks
        number = item.stash.get(FAILED_CALL, 0)
        excinfo = call.excinfo
        if excinfo is not None and call.when == "call":
            if isinstance(excinfo.value, LeakFound):
                report.longrepr = text_representation(report.longrepr, excinfo.value)
            elif number and isinstance(report.longrepr, ExceptionRepr):
                report.longrepr.addsection("memleak", f"failed on call {number} of the measurement")
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A subtest's report repeats what its test has measured so far.
        if report.when == "call" and not hasattr(report, "context"):
            self.summary.add(getattr(report, "memleak_results", ()), getattr(report, "memleak_soaks", ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self.summary.write(terminalreporter)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.json is None or hasattr(self.config, "workerinput"):
            return
        try:
            self.summary.write_json(self.json)
        except OSError as error:
            # Raised here it would take the summary along.
            why = f"cannot be written ({error.strerror}); choose another place"
            self.summary.error = f"--memleak-json {self.json}: {why}"
            session.exitstatus = pytest.ExitCode.USAGE_ERROR


FAILED_CALL = pytest.StashKey[int]()
"""On which call of a measurement the test's own failure came."""


class LeakFound(Failed):
    """A test leaks: the failure that pytest shows without a traceback."""

    def __init__(self, report: str, sentence: str) -> None:
        super().__init__(report, pytrace=False)
        self.sentence = sentence


class Measurement:
    """One marked test: its function replaced by one that measures it, in whichever loop runs it."""

    def __init__(self, item: pytest.Function, merged: Settings, progress: Callable[[str], None]) -> None:
        self.item = item
        self.settings = merged
        self.stores = HarnessStores(item)
        self.counts = StatusCounts()
        self.result: Result | None = None
        self.progress = progress
        found = item.funcargs.get("leak_call")
        self.leak_call = found if isinstance(found, LeakCall) else LeakCall()

    @contextlib.contextmanager
    def wrapped(self, *, canary: bool) -> Iterator[None]:
        """Replace the item's function meanwhile. Async plugins find a coroutine function where one was."""
        original = self.item.obj
        function = vacuity.with_canary(original, self.settings) if canary else original
        self.item.obj = (
            self._measured_async(function) if inspect.iscoroutinefunction(original) else self._measured(function)
        )
        try:
            with clients.observed_responses(self.counts):
                yield
        except vacuity.Refused:
            raise
        except BaseException:
            self.item.stash[FAILED_CALL] = self.leak_call.number
            raise
        finally:
            self.item.obj = original
            self.leak_call.number = 0
            self.progress("")

    def finished(self) -> Result:
        """The result, after refusing a test that proved nothing or whose function was never called."""
        if self.result is not None:
            vacuity.refuse_unreached(self.item, self.counts, self.item.name)
            vacuity.refuse_too_few_calls(self.result, self.settings)
            requests = sum(self.counts.seen().values())
            if requests == self.result.calls:
                return dataclasses.replace(self.result, unit="request", nodeid=self.item.nodeid)
            return dataclasses.replace(self.result, nodeid=self.item.nodeid)
        pytest.fail(
            f"{self.item.name} was not measured: its runner does not call the test's function "
            "(unittest.IsolatedAsyncioTestCase?); write it as a plain async test for pytest-asyncio or anyio",
            pytrace=False,
        )

    def _measured(self, function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> object:
            returned: object = None

            def call(number: int) -> None:
                nonlocal returned
                self._begin(number)
                value = function(*args, **kwargs)
                if number == 1:
                    # pytest warns of a test that returns something; keeping more would keep it alive.
                    returned = value

            self.result = drive(self._hunt(running_loops()), call)
            return returned

        return measured

    def _measured_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def measured(*args: Any, **kwargs: Any) -> None:
            async def call(number: int) -> None:
                self._begin(number)
                await function(*args, **kwargs)

            loops = [] if runs_trio() else [asyncio.get_running_loop()]
            self.result = await drive_async(self._hunt(loops), call)

        return measured

    def _begin(self, number: int) -> None:
        # What the call before left undone is still that call's failure.
        self.stores.before_call()
        self.leak_call.number = number

    def _hunt(self, loops: Sequence[asyncio.AbstractEventLoop]) -> Steps[Result]:
        reason = "" if loops or not runs_trio() else "trio has no asyncio tasks"
        probes: Probes = find_probes(loops, tasks_missing=reason)
        return hunt(self.item.name, self.settings, probes=probes, loops=loops, surroundings=TestSurroundings(self))


class TestSurroundings:
    """What a test lends to its hunt."""

    __test__ = False

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        self.progress = measurement.progress

    def prepare(self) -> None:
        """Look for what records, before the heap is frozen."""
        item = self._measurement.item
        vacuity.refuse_unreached(item, self._measurement.counts, item.name)
        self._measurement.stores.find()

    def empty_stores(self) -> None:
        """Empty what the test tools recorded."""
        self._measurement.stores.empty()

    def notes(self) -> Sequence[str]:
        """What was left out, and what cannot be seen."""
        notes = self._measurement.stores.notes()
        for name, value in self._measurement.item.funcargs.items():
            if clients.is_test_client(value) and not clients.is_entered(value):
                notes.append(
                    f"{name} is not entered (`with TestClient(app) as {name}`): tasks that leak are cancelled unseen"
                )
        return notes

    def roots(self) -> Mapping[int, str]:
        """The fixtures' values by name."""
        return named_fixtures(self._measurement.item)


def command_again(item: pytest.Item) -> str:
    """The command that measures a test again, from where pytest was started."""
    # A nodeid begins at the root directory.
    path, separator, names = item.nodeid.partition("::")
    with contextlib.suppress(ValueError):  # on another drive
        path = os.path.relpath(item.config.rootpath / path, item.config.invocation_params.dir)
    return text.command_again(f"{Path(path).as_posix()}{separator}{names}")


def named_fixtures(item: pytest.Item) -> dict[int, str]:
    """What a reference path may start at beside modules: the values of the test's fixtures."""
    funcargs: Mapping[str, object] = getattr(item, "funcargs", {})
    names = {id(value): f"fixture {name}" for name, value in funcargs.items() if value is not None}
    # Routes, closures and states all refer to the app: a path that has reached it has said enough.
    names |= {id(clients.app_of(value)): "app" for value in funcargs.values() if clients.is_test_client(value)}
    return names


def record(item: pytest.Item, result: Result) -> None:
    """Keep a result for the report, and its figures for JUnit XML."""
    item.stash.setdefault(RESULTS, []).append(result)
    prefix = "memleak" if result.name == item.name else f"memleak {result.name}"
    item.user_properties += [
        (f"{prefix} verdict", result.outcome.value),
        (f"{prefix} growth", text.growth_words(result)),
        (f"{prefix} sensitivity", result.sensitivity or "none"),
    ]


def text_representation(longrepr: Any, leak: LeakFound) -> Any:
    """The failure as pytest shows it: the sentence in the short summary, colours in the long text."""
    from pytest_memleak.plugin.representation import LeakRepr

    if not hasattr(longrepr, "chain"):
        return longrepr
    longrepr.reprcrash.message = leak.sentence
    return LeakRepr(chain=longrepr.chain)
