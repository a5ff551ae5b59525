"""Which endpoint, which line: the attribution of a run, and its diagnosis joined to the endpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cattrs
import numpy as np

from pytest_memleak.diagnosis import causes
from pytest_memleak.model import Leak, Resource
from pytest_memleak.model_soak import EndpointGrowth
from pytest_memleak.soak.consistency import consistent
from pytest_memleak.soak.lives import Life, Recorded
from pytest_memleak.soak.stretches import Stretch
from pytest_memleak.units import MB
from pytest_memleak.verdict import attribution

# A diagnosis weighs a leak to within a fifth; half of it is less than it says.
_CONTRADICTS: Final = 0.5

# The attribution's smallest piece is malloc's smallest: a descriptor, a thread, a task counts as one of these.
_UNIT_BYTES: Final = 16

LIVE_BYTES: Final = "live_bytes"
"""The column of all live bytes."""

_HALVES: Final = ("pymalloc_bytes", "native_bytes")
_WORTH_A_NOTE: Final = 0.2

_SERVERS: Final = ("uvicorn/", "gunicorn/", "uvicorn_worker/", "hypercorn/", "granian/")

_SITES: Final = 3

_LEAST_ROWS: Final = 12
"""Fewer readings of a life than these tell the endpoints apart by chance."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """What each endpoint keeps, what has to be said of it, and what a request at the gate holds, in bytes."""

    endpoints: tuple[EndpointGrowth, ...] = ()
    notes: tuple[str, ...] = ()
    held_bytes: float = 0.0


def blame(parts: Sequence[Stretch], settled_s: float, column: str = LIVE_BYTES) -> Blame:
    """The growth of each endpoint that was called after the warm-up, in bytes or in the column's own unit."""
    lives = [(life, rows) for part in parts for life in part.lives if (rows := _rows(life, part, settled_s)).any()]
    lives = [(life, rows) for life, rows in lives if rows.sum() >= _LEAST_ROWS]
    names = sorted({name for life, rows in lives for name in life.counts if np.ptp(_counts(life, name, rows)) > 0})
    if not names:
        return Blame()
    found = _attributed(lives, names, column)
    # Requests a minute of the whole service: lives side by side add up, lives one after another do not.
    spans = [np.asarray(life.times_s)[rows] for life, rows in lives]
    whole = max(float(span[-1]) for span in spans) - min(float(span[0]) for span in spans)
    minutes = max(1e-9, min(sum(float(np.ptp(span)) for span in spans), whole) / 60)
    growths = tuple(
        EndpointGrowth(
            endpoints=share.endpoints,
            requests=share.requests,
            bytes_per_request=share.bytes_per_request,
            mb_per_min=share.bytes_per_request.times(share.requests / minutes / MB),
        )
        for share in found.shares
    )
    return Blame(endpoints=growths, notes=found.notes, held_bytes=found.held_bytes)


def _attributed(lives: Sequence[tuple[Life, Any]], names: Sequence[str], column: str) -> attribution.Attribution:
    """One column shared out among the endpoints; live bytes by their halves, which scatter apart.

    A thread's stack or a C library's buffers move the C heap by kilobytes, and would hide a leak of Python objects
    that pymalloc counts to the byte.
    """
    if column != LIVE_BYTES:
        return _one_column(lives, names, column, _UNIT_BYTES)
    halves = [_one_column(lives, names, half, 1) for half in _HALVES]
    native = {share.endpoints: share.bytes_per_request for share in halves[1].shares}
    shares = [
        dataclasses.replace(share, bytes_per_request=share.bytes_per_request.plus(native[share.endpoints]))
        for share in halves[0].shares
    ]
    shares.sort(key=lambda share: -share.bytes_per_request.value * share.requests)
    return dataclasses.replace(
        halves[0],
        shares=tuple(shares),
        notes=_notes(lives, halves),
        held_bytes=halves[0].held_bytes + halves[1].held_bytes,
    )


def _notes(lives: Sequence[tuple[Life, Any]], halves: Sequence[attribution.Attribution]) -> tuple[str, ...]:
    """What is said of a half that hardly grows is of no use to anybody."""
    gains = [
        sum(
            float(levels[-1] - levels[0]) for life, rows in lives if len(levels := np.asarray(life.columns[half])[rows])
        )
        for half in _HALVES
    ]
    told = (half.notes for half, gain in zip(halves, gains, strict=True) if gain > _WORTH_A_NOTE * max(gains))
    return tuple(dict.fromkeys(note for notes in told for note in notes))


def _one_column(
    lives: Sequence[tuple[Life, Any]], names: Sequence[str], column: str, unit: float
) -> attribution.Attribution:
    found = attribution.attribute(
        [
            attribution.Life(
                times_s=np.asarray(life.times_s)[rows],
                levels=np.asarray(life.columns[column])[rows] * unit,
                held=np.asarray(life.columns["held"])[rows],
                counts=np.column_stack([_counts(life, name, rows) for name in names]),
            )
            for life, rows in lives
        ],
        names,
    )
    shares = tuple(
        dataclasses.replace(share, bytes_per_request=share.bytes_per_request.times(1 / unit)) for share in found.shares
    )
    shares = consistent(shares, lives, column)
    return dataclasses.replace(found, shares=shares, held_bytes=found.held_bytes / unit)


def _counts(life: Life, endpoint: str, rows: Any) -> Any:
    return np.asarray(life.count_column(endpoint))[rows]


def _rows(life: Life, part: Stretch, settled_s: float) -> Any:
    times = np.asarray(life.times_s)
    begin = max(float(part.times_s[0]), settled_s)
    return (times >= begin) & (times <= float(part.times_s[-1]))


def leaks(
    recorded: Recorded, attributed: Sequence[EndpointGrowth]
) -> tuple[tuple[Leak, ...], tuple[str, ...], tuple[str, ...]]:
    """The diagnosed leaks, the endpoint in whose code each lies, and the diagnosis's remarks.

    What the diagnosis counts is per request of the whole mix; where the endpoint is known it is turned into
    per request of that endpoint.
    """
    told: list[tuple[Leak, str]] = []
    remarks: list[str] = []
    for diagnosis in recorded.diagnoses:
        if "error" in diagnosis:
            remarks.append(f"the diagnosis failed: {diagnosis['error']}")
            continue
        remarks += map(str, diagnosis.get("notes", ()))
        # The second look is for those endpoints alone that the first did not explain.
        explained = {endpoint for _, endpoint in told}
        for found in cattrs.structure(diagnosis["leaks"], tuple[Leak, ...]):
            requests = diagnosis["requests"]
            endpoint = _endpoint_of(found, diagnosis["handlers"], requests, attributed)
            leak = _per_request(found, sum(requests.values()) / requests[endpoint]) if endpoint else found
            if (endpoint and endpoint in explained) or _is_servers(leak):
                continue
            if _contradicted(leak, endpoint, attributed):
                remarks.append(f"{_name(leak)} still fills, but {endpoint} keeps less than that: not told as a leak")
            else:
                told.append((leak, endpoint))
    told = _native_as_one(_needed(told, attributed))
    rates = {name: growth.mb_per_min.value for growth in attributed for name in growth.endpoints}
    told.sort(key=lambda pair: -rates.get(pair[1], 0.0))
    return tuple(leak for leak, _ in told), tuple(endpoint for _, endpoint in told), tuple(remarks)


def _needed(told: Sequence[tuple[Leak, str]], attributed: Sequence[EndpointGrowth]) -> list[tuple[Leak, str]]:
    """Where every endpoint that grows is explained, what else the C heap kept meanwhile belongs to one of those."""
    culprits = {endpoint for _, endpoint in told}
    if not all(set(growth.endpoints) & culprits for growth in attributed if growth.leaks):
        return list(told)
    return [(leak, endpoint) for leak, endpoint in told if endpoint or not _is_native(leak)]


def _native_as_one(told: Sequence[tuple[Leak, str]]) -> list[tuple[Leak, str]]:
    """An endpoint's growth of the C heap is one leak, its largest lines first."""
    joined = [(leak, endpoint) for leak, endpoint in told if not _is_native(leak)]
    for whose in dict.fromkeys(endpoint for leak, endpoint in told if _is_native(leak)):
        own = [leak for leak, endpoint in told if endpoint == whose and _is_native(leak)]
        sites = sorted((site for leak in own for site in leak.sites), key=lambda site: -site.bytes_per_call)
        whole = sum(leak.bytes_per_call for leak in own)
        joined.append((dataclasses.replace(own[0], sites=tuple(sites[:_SITES]), bytes_per_call=whole), whose))
    return joined


def _is_native(leak: Leak) -> bool:
    """Whether it is growth of the C heap, which has no holder."""
    return leak.what == causes.NATIVE


def _is_servers(leak: Leak) -> bool:
    """Whether it is a connection or a task of the server's own: the load that the diagnosis holds has some open."""
    return bool(leak.sites) and all(site.frame.path.startswith(_SERVERS) for site in leak.sites)


def _name(leak: Leak) -> str:
    return leak.holder.name if leak.holder else leak.what


def _contradicted(leak: Leak, endpoint: str, attributed: Sequence[EndpointGrowth]) -> bool:
    """Whether the endpoint, over the whole soak, kept less than this leak says: a bounded cache that fills."""
    growth = next((growth for growth in attributed if growth.endpoints == (endpoint,)), None)
    return (
        growth is not None
        and leak.resource in (Resource.MEMORY, Resource.OBJECTS)
        and growth.bytes_per_request.high < _CONTRADICTS * leak.bytes_per_call
    )


def unexplained(recorded: Recorded, attributed: Sequence[EndpointGrowth]) -> list[str]:
    """The leaking endpoints in whose code no leak was found yet."""
    _, culprits, _ = leaks(recorded, attributed)
    return [growth.name for growth in attributed if growth.leaks and not set(growth.endpoints) & set(culprits)]


def _endpoint_of(
    leak: Leak,
    handlers: Mapping[str, Sequence[Any] | None],
    requests: Mapping[str, int],
    attributed: Sequence[EndpointGrowth],
) -> str:
    """The endpoint whose handler has the leak's line, or else the only one of the line's file that leaks."""
    called = {name: place for name, place in handlers.items() if place and requests.get(name)}
    guilty = {name for growth in attributed if growth.leaks for name in growth.endpoints}
    for site in leak.sites:
        path, line = site.place
        inside = [name for name, (file, first, last) in called.items() if file == path and first <= line <= last]
        if len(inside) == 1:
            return inside[0]
        same_file = [name for name, (file, _, _) in called.items() if file == path]
        for names in (same_file, [name for name in same_file if name in guilty]):
            if len(names) == 1:
                return names[0]
    return ""


def _per_request(leak: Leak, factor: float) -> Leak:
    """A leak's figures per request of its endpoint, out of those per request of the mix."""
    holder = leak.holder
    return dataclasses.replace(
        leak,
        count_per_call=leak.count_per_call * factor,
        bytes_per_call=leak.bytes_per_call * factor,
        holder=holder and dataclasses.replace(holder, entries_per_call=holder.entries_per_call * factor),
        sites=tuple(
            dataclasses.replace(
                site, bytes_per_call=site.bytes_per_call * factor, count_per_call=site.count_per_call * factor
            )
            for site in leak.sites
        ),
    )
