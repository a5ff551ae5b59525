"""The types whose objects accumulate: a walk against a baseline that can be set anew."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from typing import Any, Final

from pytest_memleak.model_monitor import Walk
from pytest_memleak.monitor import walking
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.units import format_count

SHOWN: Final = 30
"""Types in an answer: those that grew most, and behind them those that are most."""


class Declined(Exception):
    """The heap is too large to walk unasked; the message says what to do."""


class Growth:
    """The walks of one monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def reset(self, *, force: bool) -> Walk:
        """Walk, and take that for the baseline. Raises Declined."""
        walk, _ = self._walk(force, 0)
        self._monitor.baseline = walk
        return walk

    def types(self, *, force: bool, samples: int, most: int = SHOWN) -> tuple[Walk, Walk | None, list[dict[str, Any]]]:
        """A walk, the baseline that it is held against, and the first types; for `samples` of them, who holds one.

        The first walk is the baseline of those to come. Raises Declined.
        """
        baseline = self._monitor.baseline
        walk, held = self._walk(force, samples if baseline is not None else 0)
        if baseline is None:
            self._monitor.baseline = walk
        rows = [_row(name, walk, baseline, held.get(name)) for name in _ranked(walk, baseline)[:most]]
        return walk, baseline, rows

    def _walk(self, force: bool, samples: int) -> tuple[Walk, dict[str, walking.Held]]:
        monitor = self._monitor
        estimate = walking.estimated_objects(monitor.walk, monitor.walk_blocks)
        baseline = monitor.baseline
        if estimate > monitor.settings.max_objects and not force:
            if not monitor.settings.allow_fork or not hasattr(os, "fork"):
                raise Declined(
                    f"about {format_count(estimate)} objects are more than max_objects="
                    f"{format_count(monitor.settings.max_objects)}: a walk would stall this process for about"
                    f" {estimate / 1e6 * _STALL_MS:.0f} ms; ask with ?force=true, or allow_fork=True"
                )
            look = functools.partial(_forked, baseline, samples)
        else:
            look = functools.partial(_both, baseline, samples, walking.LOOK_S)
        with monitor.unjudged():
            if monitor.walk is None:
                # What the listeners make of the first, such as series of metrics, is part of the second.
                self._tell(look()[0])
            walk, held = look()
        self._tell(walk)
        return walk, held

    def _tell(self, walk: Walk) -> None:
        monitor = self._monitor
        monitor.walk_blocks = sys.getallocatedblocks()
        monitor.walk = walk
        monitor.tell(monitor.on_walk, walk)


_STALL_MS: Final = 45
"""Of a million objects, again and again: to list them, and to count a piece."""


def _both(baseline: Walk | None, samples: int, limit_s: float) -> tuple[Walk, dict[str, walking.Held]]:
    found = walking.count()
    walk = walking.walk_of(found)
    growing = [name for name in _ranked(walk, baseline) if _delta(name, walk, baseline) > 0] if baseline else []
    return walk, walking.look(found, growing[:samples], limit_s)


def _forked(baseline: Walk | None, samples: int) -> tuple[Walk, dict[str, walking.Held]]:
    try:
        found = walking.in_child(lambda: _plain(*_both(baseline, samples, walking.FORKED_LOOK_S)))
    except OSError as error:
        raise Declined(f"no forked child could walk the heap: {error}") from error
    held = {name: walking.Held(site=one["site"], path=tuple(one["path"])) for name, one in found[1].items()}
    return Walk(**found[0]), held


def _plain(walk: Walk, held: dict[str, walking.Held]) -> list[Any]:
    return [dataclasses.asdict(walk), {name: dataclasses.asdict(one) for name, one in held.items()}]


def _delta(name: str, walk: Walk, baseline: Walk | None) -> int:
    return walk.counts.get(name, 0) - (baseline.counts.get(name, 0) if baseline else 0)


def _ranked(walk: Walk, baseline: Walk | None) -> list[str]:
    def rank(name: str) -> tuple[int, int]:
        return (-_delta(name, walk, baseline) if baseline else 0, -walk.counts[name])

    return sorted(walk.counts, key=rank)


def _row(name: str, walk: Walk, baseline: Walk | None, held: walking.Held | None) -> dict[str, Any]:
    count, before = walk.counts[name], baseline.counts.get(name, 0) if baseline else None
    delta = None if before is None else count - before
    return {
        "type": name,
        "count": count,
        "baseline": before,
        "delta": delta,
        "growth_percent": round(100 * delta / before, 2) if before and delta is not None else None,
        "site": held.site if held else "",
        "path": list(held.path) if held else [],
    }
