"""The diagnosis inside a live worker: the inquiry of a test, with the load's requests for its calls.

The gate admits exactly as many requests as the inquiry asks for, and stays closed while it looks. The load
waits meanwhile: its measured time is over.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
import types
from typing import Any, Final

from pytest_memleak.agent.traffic import Traffic
from pytest_memleak.diagnosis.inquiry import Findings, Suspicion, inquire
from pytest_memleak.model import Resource, plain
from pytest_memleak.probes.catalogue import find_probes, running_loops
from pytest_memleak.probes.heap import borrowed_heap
from pytest_memleak.workloads.steps import CallNumbers, Calls, Steps

# A load that makes no request for so long is over, or stuck.
_STARVED_S: Final = 20.0
_LOOK_S: Final = 0.02
_DRAIN_S: Final = 2.0

# An endpoint that the load calls once in 20 requests still gets 40 of 800. Under tracing a request takes five
# to ten times as long: 800 of 5 ms take 30 s.
_PATIENCE_S: Final = 30.0


class Starved(Exception):
    """The load has ended before the diagnosis did."""


def examine(traffic: Traffic, order: dict[str, Any]) -> dict[str, Any]:
    """What grows in this worker, where it was allocated and who holds it, as plain values.

    `order` has the convicted `resources`, the signals' `rates` per request, and `least_share`, the smallest
    share of the load that a guilty endpoint has.
    """
    begun = time.monotonic()
    loops = list({id(loop): loop for loop in (*traffic.loops, *running_loops())}.values())
    resources = frozenset(Resource(name) for name in order["resources"])
    suspicion = Suspicion(
        resources=resources,
        # How often the rarest leak happens, not how much the sum of all grows, says how many requests it takes.
        rates={"blocks": order["least_share"], "native": order["rates"].get("native", 0.0)},
        seconds_per_call=order["seconds_per_request"],
        native_only=bool(order.get("native_only")),
        share=order["least_share"],
    )
    traffic.close()
    traffic.wait_until_empty(_DRAIN_S)
    # While the gate is closed, here and below: exactly the requests that the inquiry has seen.
    before = dict(traffic.finished)
    try:
        with borrowed_heap() as heap:
            steps = inquire(
                suspicion,
                heap=heap,
                probes=find_probes(loops),
                numbers=CallNumbers(),
                loops=loops,
                roots={},
                empty_stores=lambda: None,
                clock=time.monotonic,
                patience_s=_PATIENCE_S,
            )
            findings = _carry_out(steps, traffic)
            made = {name: count - before.get(name, 0) for name, count in dict(traffic.finished).items()}
    except Starved as error:
        return {"error": str(error), "seconds": time.monotonic() - begun}
    finally:
        traffic.open()
    return {
        "leaks": [plain(dataclasses.asdict(leak)) for leak in findings.leaks],
        "notes": list(findings.notes),
        "shown_again": sorted(resource.value for resource in findings.shown_again),
        "seconds": time.monotonic() - begun,
        "requests": {name: count for name, count in made.items() if count},
        "handlers": {name: _lines(function) for name, function in dict(traffic.handlers).items()},
    }


def _carry_out(steps: Steps[Findings], traffic: Traffic) -> Findings:
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                found: Findings = stop.value
                return found
            if isinstance(step, Calls):
                _let_pass(step.count, traffic)
            else:
                time.sleep(step.seconds)
    finally:
        steps.close()


def _let_pass(count: int, traffic: Traffic) -> None:
    """Admit exactly `count` requests and wait until they are finished."""
    if not count:
        return
    target = sum(traffic.finished.values()) + count
    traffic.open(admitted=count)
    latest, since = target - count, time.monotonic()
    while True:
        finished = sum(traffic.finished.values())
        if finished >= target:
            return
        if traffic.is_closed and time.monotonic() - since > _DRAIN_S:
            # All were admitted, and what is left inside does not end: a stream, a long poll.
            return
        if finished > latest:
            latest, since = finished, time.monotonic()
        elif time.monotonic() - since > _STARVED_S:
            raise Starved(f"the load made no request for {_STARVED_S:.0f} s during the diagnosis")
        time.sleep(_LOOK_S)


def _lines(function: Any) -> tuple[str, int, int] | None:
    """A handler's file, first and last line; None for what is no Python function."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if not isinstance(code, types.CodeType):
        return None
    lines = [line for _, _, line in code.co_lines() if line]
    return code.co_filename, code.co_firstlineno, max(lines, default=code.co_firstlineno)
