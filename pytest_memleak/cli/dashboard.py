"""`memleak dashboard`: a process tree, live in the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pytest_memleak.cli import refusal
from pytest_memleak.cli.behind import command_behind
from pytest_memleak.cli.detect import seconds_of
from pytest_memleak.cli.keys import Keys, reading_keys
from pytest_memleak.cli.live import clock_words

if TYPE_CHECKING:
    from pytest_memleak.model_watch import WatchResult
    from pytest_memleak.watch.act import Progress, Sampler
    from pytest_memleak.watch.panel import Panel
    from pytest_memleak.watch.plan import Plan
    from pytest_memleak.watch.sampling import Snapshot
    from pytest_memleak.watch.sources import Source

_STYLES: Final = {"title": "bold", "growth": "yellow", "leak": "bold red", "quiet": "dim", "": ""}


def dashboard(
    context: typer.Context,
    duration: Annotated[str, typer.Argument(help="How long: seconds, or 10m, 2h.")] = "600",
    interval: Annotated[str, typer.Argument(help="Seconds between readings.")] = "5",
    pid: Annotated[int, typer.Option(help="The process; its children are shown too.")] = 0,
    name: Annotated[str, typer.Option(help="A word in its command line.")] = "",
    port: Annotated[int, typer.Option(help="The port at which it listens.")] = 0,
) -> None:
    """Show a running process and its workers live.

    RSS, VMS, threads, descriptors, and how fast it grows. Keys: p pause, n next process, s save, q quit. In a pipe it
    prints a line for each reading.

    Example: memleak dashboard 600 5 --port 8000
    """
    refusal.need_watch("dashboard")
    from pytest_memleak.soak.tree import StartError
    from pytest_memleak.watch import sources
    from pytest_memleak.watch.plan import Plan, WatchError, checked
    from pytest_memleak.watch.target import TargetError

    try:
        plan = checked(
            Plan(
                duration_s=seconds_of("dashboard", duration, "DURATION"),
                interval_s=seconds_of("dashboard", interval, "INTERVAL"),
            )
        )
        wanted = sources.Wanted(pid=pid, name=name, port=port, command=command_behind(context))
        with sources.opened(wanted) as source:
            result = _show(source, plan)
    except (WatchError, TargetError, StartError) as error:
        refusal.refuse("dashboard", str(error))
    _say_end(result)


def _show(source: Source, plan: Plan) -> WatchResult:
    with contextlib.ExitStack() as stack:
        is_live = sys.stdout.isatty()
        keys = stack.enter_context(reading_keys()) if is_live else Keys(None)
        view = stack.enter_context(_live(source, plan, keys)) if is_live else _Lines()
        from pytest_memleak.watch import act

        return act.watch(
            _Detailed(source.sampler, view),
            plan,
            target=source.words,
            root_pid=source.root_pid,
            progress=view.progress,
            sleep=view.sleep,
        )


def _say_end(result: WatchResult) -> None:
    import shutil

    from pytest_memleak.reports import watch_text

    refusal.say(watch_text.explain(result, width=min(shutil.get_terminal_size().columns, 120)))


class _Quit(KeyboardInterrupt):
    """The key q: what was seen is judged, as after Ctrl-C."""


class _Detailed:
    """A sampler that reads threads and descriptors too, and hands each snapshot to the view."""

    def __init__(self, sampler: Sampler, view: _Lines | _Live) -> None:
        self._sampler: Any = sampler
        self._view = view

    def read(self) -> Snapshot:
        snapshot: Snapshot = self._sampler.read(details=True)
        self._view.add(snapshot)
        return snapshot

    def pids(self) -> list[int]:
        found: list[int] = self._sampler.pids()
        return found


class _Lines:
    """One line per reading, for a pipe or a file."""

    def __init__(self) -> None:
        from pytest_memleak.watch.panel import Panel

        self._panel: Panel = Panel()
        self._clock_s = time.time() - time.monotonic()
        self._has_heading = False

    def add(self, snapshot: Snapshot) -> None:
        from pytest_memleak.reports import dashboard_text

        self._panel.add(snapshot)
        if not self._has_heading:
            self._has_heading = True
            refusal.say(dashboard_text.heading())
        refusal.say(dashboard_text.row_text(self._panel.rows(1)[0], self._clock_s))
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()

    def progress(self, progress: Progress) -> None:
        """The lines say it all."""

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class _Live:
    """The whole terminal, drawn anew with each reading and each key."""

    def __init__(self, target: str, plan: Plan, keys: Keys, live: Any) -> None:
        from pytest_memleak.watch.panel import Panel

        self._target = target
        self._plan = plan
        self._keys = keys
        self._live = live
        self._panel: Panel = Panel()
        self._clock_s = time.time() - time.monotonic()
        self._elapsed_s = 0.0
        self._is_paused = False
        self._message = ""
        self._folder: Any = None

    def add(self, snapshot: Snapshot) -> None:
        self._panel.add(snapshot)
        if self._folder is not None:
            from pytest_memleak.watch.seen import record

            self._folder.append(record(snapshot))

    def progress(self, progress: Progress) -> None:
        self._elapsed_s = progress.elapsed_s
        self._panel.verdict = progress.verdict
        if not self._is_paused:
            self.draw()

    def sleep(self, seconds: float) -> None:
        """Wait for the next reading, and do what keys ask for meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            key = self._keys.wait(left)
            if key:
                self._heed(key)

    def draw(self) -> None:
        """Draw all of it."""
        from rich.text import Text

        from pytest_memleak.reports import dashboard_text

        size = self._live.console.size
        screen = dashboard_text.Screen(
            target=self._target,
            elapsed=f"{clock_words(self._elapsed_s)} of {clock_words(self._plan.duration_s)}",
            rows=self._panel.rows(size.width + size.height),
            processes=self._panel.processes(),
            verdict=self._panel.verdict,
            clock_s=self._clock_s,
            chosen=self._panel.chosen,
            paused=self._is_paused,
            message=self._message,
        )
        shown = Text(no_wrap=True, overflow="crop")
        for line in dashboard_text.lines(screen, width=size.width, height=size.height):
            shown.append(line.text + "\n", style=_STYLES[line.style])
        shown.right_crop(1)
        self._live.update(shown, refresh=True)

    def close(self) -> None:
        """Close what `save` opened."""
        if self._folder is not None:
            self._folder.close()

    def _heed(self, key: str) -> None:
        self._message = ""
        if key == "q":
            raise _Quit
        if key == "p":
            self._is_paused = not self._is_paused
        elif key == "n":
            self._panel.choose_next()
        elif key == "s":
            self._message = self._save()
        self.draw()

    def _save(self) -> str:
        """Record what was shown, and from now on each reading; gives what to tell."""
        from pytest_memleak.soak.folder import FolderError, RunFolder
        from pytest_memleak.watch.act import WATCH
        from pytest_memleak.watch.seen import record

        if self._folder is not None:
            return f"is being recorded in {self._folder.path}"
        path = Path(time.strftime("memleak-watch-%Y%m%d-%H%M%S"))
        first = self._panel.snapshots[0].readings[0].pid
        try:
            start = {"kind": WATCH, "target": self._target, "root_pid": first, **self._plan.to_dict()}
            self._folder = RunFolder.create(path, start)
        except FolderError as error:
            return str(error)
        for snapshot in self._panel.snapshots:
            self._folder.append(record(snapshot))
        return f"recorded in {path}: memleak report {path}"


@contextlib.contextmanager
def _live(source: Source, plan: Plan, keys: Keys) -> Iterator[_Live]:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        view = _Live(source.words, plan, keys, live)
        try:
            yield view
        finally:
            view.close()
