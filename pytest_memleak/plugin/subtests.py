"""Subtests report once per call: those of the first call go into the run's report, and any failure.

pytest's `subtests` (and pytest-subtests before it) hands each report to all plugins, which keep it.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

_HOOKS: Final = ("_ihook", "ihook")
"""Where pytest 9 and where pytest-subtests has the hooks that its reports go to."""


class SubtestReports:
    """Stands between the `subtests` of one test and the hooks while it is measured."""

    def __init__(self, item: pytest.Item) -> None:
        self._fixture: Any = getattr(item, "funcargs", {}).get("subtests")
        self._testcase: Any = getattr(item, "instance", None) if type(item).__name__ == "TestCaseFunction" else None
        self._name = next((name for name in _HOOKS if name in getattr(self._fixture, "__dict__", {})), "")
        self._relay: _Relay | None = None

    def begin(self) -> None:
        """The first call is about to begin."""
        if self._name and self._relay is None:
            self._relay = _Relay(getattr(self._fixture, self._name))
            setattr(self._fixture, self._name, self._relay)

    def call_is_over(self) -> None:
        """From now on passes are not reported. A subtest that failed ends the measurement as a failure."""
        if self._relay is not None:
            self._relay.is_first_call = False
            if self._relay.failed:
                self.end()
                pytest.fail("contains a failed subtest", pytrace=False)
        # unittest's own: without reports, what fails in a `subTest` fails the test.
        outcome: Any = getattr(self._testcase, "_outcome", None)
        if outcome is not None and hasattr(outcome, "result_supports_subtests"):
            outcome.result_supports_subtests = False

    def end(self) -> None:
        """Put the hooks back."""
        if self._relay is not None:
            setattr(self._fixture, self._name, self._relay.hooks)
            self._relay = None


class _Relay:
    """The hooks, but for the reports that repeat the first call's."""

    def __init__(self, hooks: Any) -> None:
        self.hooks = hooks
        self.is_first_call = True
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hooks, name)

    def pytest_runtest_logreport(self, *, report: pytest.TestReport) -> object:
        """Pass a report on if it tells something new."""
        self.failed = self.failed or report.failed
        if self.is_first_call or report.failed:
            return self.hooks.pytest_runtest_logreport(report=report)
        return []
