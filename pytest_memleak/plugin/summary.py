"""The end of a measured run: one table of what was measured; and the live line while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_memleak.reports import table


class Summary:
    """Collects results as plain values, since those of xdist's workers come as such."""

    def __init__(self, config: pytest.Config, configured: Mapping[str, Any]) -> None:
        self.config = config
        self.results: list[Mapping[str, Any]] = []
        self._fails = configured.get("inconclusive", "warn") == "fail"
        self._shown = False

    def add(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Take over what one report brought."""
        self.results.extend(results)

    def width(self) -> int:
        """The terminal's width in columns; 80 in a worker that has none."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        return reporter._tw.fullwidth if reporter is not None else 80

    def progress(self, line: str) -> None:
        """Show one line that replaces the one before; an empty one removes it. Only on a terminal, not with -q."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        if (
            reporter is None
            or not reporter.isatty
            or self.config.get_verbosity() < 0
            or hasattr(self.config, "workerinput")
        ):
            return
        if not line and not self._shown:
            return
        self._shown = bool(line)
        # Below pytest's own line of dots, then back up: the dots stay as they are.
        room = reporter._tw.fullwidth - 1
        reporter._tw.write(f"\x1b7\n\x1b[2K{line[:room]}\x1b8" if line else "\x1b7\n\x1b[2K\x1b8")
        reporter._tw.flush()

    def write(self, reporter: Any) -> None:
        """The table, what is inconclusive, and what could not be read. With -q only what is not clean."""
        if not self.results:
            return
        quiet = self.config.get_verbosity() < 0
        shown = [result for result in self.results if not quiet or result["outcome"] != "CLEAN"]
        if not shown:
            return
        reporter.section("memory growth", "=")
        markup = {"LEAK": {"red": True}, "INCONCLUSIVE": {"yellow": True}, "CLEAN": {"green": True}}
        for line, outcome in table.rows(shown, width=reporter._tw.fullwidth, verbose=self.config.get_verbosity() > 0):
            reporter.write_line(line, **markup.get(outcome, {}))
        for line in table.footnotes(shown, fails=self._fails, verbose=self.config.get_verbosity() > 0):
            reporter.write_line(line)
