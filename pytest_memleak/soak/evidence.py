"""What the load did, and what a reader of the verdict has to know beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pytest_memleak.model_soak import EndpointGrowth, Load
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan
from pytest_memleak.units import MB, format_bytes, format_count

# One failing answer in twenty is an endpoint that does not work: the soak says little about it.
_MANY_FAILURES: Final = 0.05
_ERRORS: Final = 5

# Closing connections and a late collection move less than this.
_QUIET_MB: Final = 0.2


def load(recorded: Recorded) -> Load | None:
    """The totals of the load, all segments together; None when Locust never said anything."""
    parts = [*recorded.loads_before, *([recorded.load] if recorded.load else [])]
    if not parts:
        return None
    requests = sum(int(part["requests"]) for part in parts)
    failing: Mapping[str, int] = parts[-1].get("failing", {})
    return Load(
        requests=requests,
        failures=sum(int(part["failures"]) for part in parts),
        requests_per_s=requests / max(1.0, recorded.measured_s),
        users=max(int(part["users"]) for part in parts),
        errors=tuple(f"{format_count(count)} times: {text}" for text, count in list(failing.items())[:_ERRORS]),
    )


def notes(recorded: Recorded, plan: Plan, attributed: Sequence[EndpointGrowth]) -> tuple[str, ...]:
    """Remarks, each a sentence."""
    return tuple(_notes(recorded, plan, attributed))


def _notes(recorded: Recorded, plan: Plan, attributed: Sequence[EndpointGrowth]) -> Iterator[str]:
    seen = load(recorded)
    if seen and seen.failures > _MANY_FAILURES * max(1, seen.requests):
        share = seen.failures / max(1, seen.requests)
        yield f"{format_count(seen.failures)} requests failed ({share:.0%}): what they should have reached is unjudged"
    if plan.is_foreign:
        yield "the server was not started here: it is seen from outside only, without endpoints or lines"
    elif not recorded.serving() and recorded.windows:
        yield (
            "no agent spoke from inside the server: RSS from outside is all there is; the agent needs pytest-memleak "
            "in the server's Python, started without -I, -S and -E, and a Starlette or FastAPI app (or any ASGI app "
            "under uvicorn)"
        )
    for estimate in sorted({words for life in recorded.serving() for words in life.missing}):
        yield f"not read here: {estimate}"
    below = [growth.name for growth in attributed if growth.leaks]
    if below and sum(growth.mb_per_min.high for growth in attributed if growth.leaks) <= plan.max_mb_per_min:
        yield f"within the limit, and yet not zero: {', '.join(below)}"
    quiet = _grown_in_quiet(recorded)
    if quiet > _QUIET_MB * MB:
        yield f"{format_bytes(quiet)} more were live after a rest without requests: a background task keeps memory too"


def _grown_in_quiet(recorded: Recorded) -> float:
    """Bytes that the service gained between the load's end and its deep rest."""
    end = recorded.end_s
    gained = 0.0
    for life in recorded.serving():
        after = [level for t, level in zip(life.times_s, life.columns["live_bytes"], strict=True) if t > end]
        # The first is read while the load's connections still close.
        if len(after) > 2 and life.deep is not None:
            gained += float(life.deep["live_bytes"]) - after[1]
    return gained
