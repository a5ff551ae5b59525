"""What a watch is asked for, checked before anything begins."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pytest_memleak.model_watch import Thresholds


class WatchError(Exception):
    """What was asked for cannot be done; the message is one sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A watch: how long, how often, against what. `folder` is where it is recorded, empty for nowhere."""

    duration_s: float = 300.0
    interval_s: float = 10.0
    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    fail_fast: bool = False
    folder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `run.json` holds them beside the target."""
        return dataclasses.asdict(self)


def checked(plan: Plan) -> Plan:
    """The plan itself. Raises WatchError."""
    if not (math.isfinite(plan.duration_s) and plan.duration_s > 0):
        raise WatchError(f"the duration has to be above 0 seconds, got {plan.duration_s:g}")
    if not (math.isfinite(plan.interval_s) and plan.interval_s >= 0.05):
        raise WatchError(f"the interval has to be at least 0.05 seconds, got {plan.interval_s:g}")
    if plan.interval_s > plan.duration_s:
        raise WatchError(
            f"an interval of {plan.interval_s:g} s leaves no reading in {plan.duration_s:g} s: "
            "name the duration first, then the interval (memleak detect 300 10)"
        )
    levels = (plan.thresholds.medium, plan.thresholds.high, plan.thresholds.critical)
    if not all(math.isfinite(level) and level >= 0 for level in levels) or list(levels) != sorted(levels):
        raise WatchError(
            f"the thresholds have to rise from medium to critical, got {', '.join(f'{level:g}' for level in levels)}"
        )
    return plan
