"""From the readings of a process to what is said of it: the live heap, RSS, and who keeps the growth.

Pure. The process is judged as it runs, so what a test at rest rules out has to be told from a leak here: what more
requests hold while they are inside, garbage that nobody has collected yet, and growth that fades because the requests
do.

It needs numpy and scipy: import it only where there are readings to judge.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from pytest_memleak.model import Outcome
from pytest_memleak.model_monitor import Judged, Reading
from pytest_memleak.model_soak import EndpointGrowth, Estimate
from pytest_memleak.model_watch import Severity, Thresholds, Track, TrackVerdict
from pytest_memleak.units import MB, format_seconds
from pytest_memleak.verdict import attribution
from pytest_memleak.verdict.watched import judge_track

Columns = dict[str, list[float]]

# Of the readings under load: what a process loads with its first requests is no endpoint's growth.
_WARM_UP: Final = 0.1

# Readings whose lowest is a level: one alone holds what the requests and connections of its moment do.
_LEVEL: Final = 3

# Of a leak's growth all is still there after a full collection, of growth that is garbage nothing.
_STAYS: Final = 0.5

# Of the time: a full collection after that has seen enough of the growth to speak for it.
_LATE: Final = 1 / 3

_UNCOLLECTED: Final = (
    "no full garbage collection shows that it stays: collect garbage (POST gc-collect, with force=true where it"
    " declines), and ask again"
)
_HELD: Final = "the requests that were inside held it: there is more traffic, or there are requests that do not end"
_COLLECTED: Final = "most of it was garbage, as a full garbage collection showed"
_GIVEN_BACK: Final = "most of it has been given back since"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """Who keeps how much, and what a request holds while it is inside."""

    endpoints: tuple[EndpointGrowth, ...] = ()
    held_bytes: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def blamed(self) -> list[str]:
        """The endpoints whose growth is told from zero."""
        return [name for growth in self.endpoints if growth.leaks for name in growth.endpoints]


def judged(readings: Sequence[Reading], columns: Columns, thresholds: Thresholds) -> Judged:
    """Judge `readings`, n of them, with the n cumulative finished requests of each endpoint in `columns`."""
    clock = [one.t - readings[0].t for one in readings]
    rss = judge_track(_track("RSS", clock, [one.rss_bytes for one in readings]), thresholds)
    # While allocations are traced the live heap is not known.
    known = [at for at, one in enumerate(readings) if one.live_bytes >= 0]
    if not known:
        note = "the live heap cannot be read here: RSS is judged, and no endpoint can be named"
        return Judged(
            t=time.time(), heap=None, rss=rss, endpoints=(), unattributed_mb_per_min=rss.rate.value, notes=(note,)
        )
    readings = [readings[at] for at in known]
    columns = {name: [column[at] for at in known] for name, column in columns.items()}
    shares = _attributed(readings, columns)
    heap, by_requests = _heap(readings, columns, shares, thresholds)
    endpoints = shares.endpoints if heap.outcome is Outcome.LEAK else tuple(map(_untold, shares.endpoints))
    named = sum(growth.mb_per_min.value for growth in endpoints)
    return Judged(
        t=time.time(),
        heap=heap,
        rss=rss,
        endpoints=endpoints,
        unattributed_mb_per_min=max(0.0, heap.rate.value - named),
        notes=by_requests + shares.notes,
    )


def _heap(
    readings: Sequence[Reading], columns: Columns, shares: _Shares, thresholds: Thresholds
) -> tuple[TrackVerdict, tuple[str, ...]]:
    """The live heap's verdict by time; where that says no leak, by the requests of those who are blamed.

    A leak grows with its requests. Where they come and go, its growth fades or stands still with them, as that of a
    cache does by itself.
    """
    clock = [one.t - readings[0].t for one in readings]
    levels = [one.live_bytes for one in readings]
    found = judge_track(_track("live heap", clock, levels), thresholds)
    note: tuple[str, ...] = ()
    if found.outcome is not Outcome.LEAK and shares.blamed:
        busy = _request_clock(clock, columns, shares.blamed)
        again = judge_track(_track("live heap", busy, levels), thresholds)
        if again.outcome is Outcome.LEAK:
            found, quiet_s = again, clock[-1] - clock[busy.index(busy[-1])]
            clock = busy
            last = f"; the last one ended {format_seconds(quiet_s)} ago" if quiet_s >= 1 else ""
            note = (f"The growth goes with the requests of {', '.join(shares.blamed)}, not with time{last}.",)
    if found.outcome is not Outcome.LEAK:
        return found, ()
    doubt = _doubt(readings, clock, shares.held_bytes, found.rate.value * MB / 60)
    if not doubt:
        return found, note
    return dataclasses.replace(
        found, outcome=Outcome.INCONCLUSIVE, severity=Severity.NONE, shape="passing", why=f"{found.why}; but {doubt}"
    ), ()  # fmt: skip


def _request_clock(clock: Sequence[float], columns: Columns, names: Sequence[str]) -> list[float]:
    """A clock that goes with the requests of `names`, as many seconds as there were some; it stands where none are."""
    requests = np.diff(np.sum([columns[name] for name in names], axis=0))
    seconds = float(np.diff(clock)[requests > 0].sum())
    ticks = np.cumsum(requests) * seconds / max(1.0, float(requests.sum()))
    return [0.0, *ticks.tolist()]


def _doubt(readings: Sequence[Reading], clock: Sequence[float], held_bytes: float, bytes_per_s: float) -> str:
    """Why growth of so much a second, by `clock`, may be none that stays; empty if it does.

    What a program drops in cycles is live until the next full collection, which on a large heap may be hours away.
    No more has stayed at one than the lowest level from then on says, if it comes late enough for there to be
    something. What that is compared with is the level after an early one, where a heap that rises and falls is low too.
    """
    levels = [one.live_bytes for one in readings]
    first = math.ceil(_WARM_UP * len(readings))
    enough_s = clock[first] + _LATE * (clock[-1] - clock[first])

    def stays(at: int, since: int) -> bool:
        grown = min(levels[at:]) - min(levels[since : since + _LEVEL])
        return grown >= _STAYS * bytes_per_s * (clock[at] - clock[since])

    # Where the requests have ended, the clock of the verdict has, too: it has not seen what came after.
    if clock[-1] == clock[-_LEVEL] and not stays(len(readings) - _LEVEL, first):
        return _GIVEN_BACK
    # Of a quarter the median: a single reading is one moment's chance.
    quarter = len(readings) // 4
    inside = [float(np.median([one.in_flight for one in part])) for part in (readings[:quarter], readings[-quarter:])]
    if held_bytes * (inside[1] - inside[0]) >= _STAYS * bytes_per_s * clock[-1]:
        return _HELD
    if readings[-1].full_collections < 0:
        return ""
    collected = [
        at
        for at in range(first + 1, len(readings))
        if readings[at].full_collections > readings[at - 1].full_collections
    ]
    if not collected or clock[collected[-1]] < enough_s:
        return _UNCOLLECTED
    early = collected[0] if clock[collected[0]] < enough_s else first
    return "" if stays(collected[-1], early) else _COLLECTED


def _track(name: str, clock: Sequence[float], levels: Sequence[int]) -> Track:
    return Track(name=name, times_s=tuple(clock), levels=tuple(map(float, levels)))


def _attributed(readings: Sequence[Reading], columns: Columns) -> _Shares:
    """The growth shared among the endpoints, from the first requests on."""
    names = [name for name, column in columns.items() if column[-1] > 0]
    if not names:
        return _Shares(notes=("no request has been finished yet",))
    table = np.array([columns[name] for name in names], dtype=np.float64).T
    served = int(np.argmax(table.sum(axis=1) > 0))
    first = max(served - 1, 0) + math.ceil(_WARM_UP * (len(readings) - served))
    kept = readings[first:]
    if len(kept) < 2:
        return _Shares(notes=("the readings are too few to name an endpoint",))
    life = attribution.Life(
        times_s=np.array([one.t - kept[0].t for one in kept]),
        levels=np.array([float(one.live_bytes) for one in kept]),
        held=np.array([float(one.in_flight) for one in kept]),
        counts=table[first:],
    )
    found = attribution.attribute([life], names)
    minutes = max(1e-9, (kept[-1].t - kept[0].t) / 60)
    endpoints = tuple(_growth(share, minutes) for share in found.shares)
    return _Shares(endpoints=endpoints, held_bytes=found.held_bytes, notes=found.notes)


def _growth(share: attribution.Share, minutes: float) -> EndpointGrowth:
    growth = EndpointGrowth(
        endpoints=share.endpoints,
        requests=share.requests,
        bytes_per_request=share.bytes_per_request,
        mb_per_min=share.bytes_per_request.times(share.requests / minutes / MB),
    )
    return growth if growth.leaks else _untold(growth)


def _untold(growth: EndpointGrowth) -> EndpointGrowth:
    """What is not told from nothing is in the unattributed figure, not in an innocent's."""
    return dataclasses.replace(
        growth,
        bytes_per_request=Estimate(value=0.0, low=0.0, high=growth.bytes_per_request.high),
        mb_per_min=Estimate(value=0.0, low=0.0, high=growth.mb_per_min.high),
    )
