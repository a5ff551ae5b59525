"""The end of a measured run: a table of what was measured, and one of soaks; and the live line while it goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_memleak import model
from pytest_memleak.plugin import soak_lines
from pytest_memleak.reports import table

_SAVE, _RESTORE, _ERASE_REST = "\x1b7", "\x1b8", "\x1b[K"
_LEAST_ROOM = 24
_REFRESH_S = 0.2

_MARKUP: Final = {"LEAK": {"red": True}, "INCONCLUSIVE": {"yellow": True}, "CLEAN": {"green": True}}
# Where a leak was planted, a conviction is what passes.
_CANARY_MARKUP: Final = {"LEAK": {"green": True}, "INCONCLUSIVE": {"red": True}, "CLEAN": {"red": True}}


class Summary:
    """Collects results as plain values, since those of xdist's workers come as such."""

    def __init__(self, config: pytest.Config, configured: Mapping[str, Any]) -> None:
        self.config = config
        self.results: list[Mapping[str, Any]] = []
        self.soaks: list[Mapping[str, Any]] = []
        self.error = ""
        self._fails = configured.get("inconclusive", "warn") == "fail"
        self._canary = bool(configured.get("canary", False))
        self._shown = False
        self._shown_at = 0.0

    def add(self, results: Sequence[Mapping[str, Any]], soaks: Sequence[Mapping[str, Any]]) -> None:
        """Take over what one report brought."""
        self.results.extend(results)
        self.soaks.extend(soaks)

    def width(self) -> int:
        """The terminal's width in columns; 80 in a worker that has none."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        return reporter._tw.fullwidth if reporter is not None else 80

    def progress(self, line: str) -> None:
        """Show one line that replaces the one before; an empty one removes it. Only on a terminal, not with -q."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None or not reporter.isatty or self.config.get_verbosity() < 0:
            return
        now = time.monotonic()
        if not (self._shown if not line else now - self._shown_at >= _REFRESH_S):
            return
        self._shown_at = now
        # Behind pytest's own line, which stays as it is: write, and go back to where it ends.
        room = reporter._tw.fullwidth - reporter._tw.width_of_current_line - 3
        self._shown = bool(line) and room >= _LEAST_ROOM
        text = f"  {line[:room]}" if self._shown else ""
        capture: Any = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter._tw._file.write(f"{_SAVE}{text}{_ERASE_REST}{_RESTORE}")
            reporter._tw._file.flush()

    def write(self, reporter: Any) -> None:
        """The tables, what is inconclusive, and what could not be read. With -q only what is not clean."""
        if self.error:
            reporter.write_line(self.error, red=True)
        verbose = self.config.get_verbosity() > 0
        shown = self._worth_telling(self.results)
        if shown:
            # `section` would leave pytest's line of dots open, and an empty line below its title.
            reporter.write_sep("=", "memory growth beside a planted leak" if self._canary else "memory growth")
            markup = _CANARY_MARKUP if self._canary else _MARKUP
            for line, outcome in table.rows(shown, width=reporter._tw.fullwidth, verbose=verbose):
                reporter.write_line(line, **markup.get(outcome, {}))
            for line in table.footnotes(shown, width=reporter._tw.fullwidth, fails=self._fails, verbose=verbose):
                reporter.write_line(line)
            if self._canary:
                reporter.write_line("every LEAK here is the planted one, convicted as it should be (--memleak-canary)")
        soaks = self._worth_telling(self.soaks)
        if soaks:
            reporter.write_sep("=", "soaks")
            for line, outcome in soak_lines.rows(soaks, width=reporter._tw.fullwidth, verbose=verbose):
                reporter.write_line(line, **_MARKUP.get(outcome, {}))
            for line in soak_lines.footnotes(soaks, width=reporter._tw.fullwidth, fails=self._fails):
                reporter.write_line(line)

    def _worth_telling(self, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        quiet = self.config.get_verbosity() < 0
        return [result for result in results if not quiet or result["outcome"] != "CLEAN"]

    def write_json(self, path: Path) -> None:
        """Write the results whole or not at all: a killed run leaves the file of the run before. Raises OSError."""
        everything = {"version": model.SCHEMA_VERSION, "results": self.results, "soaks": self.soaks}
        partial = path.with_name(path.name + ".part")
        try:
            partial.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
