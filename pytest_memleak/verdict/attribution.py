"""How many bytes each endpoint keeps per request, when requests overlap: a regression over the readings.

Pure. A worker's live memory at rest is its base, plus what each endpoint's finished requests kept, plus what the
requests held at the time of the reading hold, plus noise. No endpoint gives memory back, so the rates are found by
non-negative least squares; `whitening` says what is done about the noise, `regression` where the intervals come
from. What grows with time alone, without requests, is not in the model: it would be spread over the endpoints.

It needs numpy and scipy: import it only where there are readings to attribute.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pytest_memleak.model_soak import Estimate
from pytest_memleak.verdict.regression import Fit, solve, unsolved
from pytest_memleak.verdict.whitening import ROWS_PER_UNKNOWN, Floats, Rows

# Requests whose counts correlate this much have less than 4 % of their variance (1 - 0.98^2) to tell them apart.
_TOGETHER: Final = 0.98

# Counts that are exact multiples of each other have a cosine of 1; Poisson counts of 1,000 have 0.999.
_MULTIPLES: Final = 1 - 1e-6

# With no growth at all, 99 % exclude 4.6 (-ln 0.01) allocations of malloc's 16 B over all requests.
_UNSEEN_BYTES: Final = -16 * math.log(0.01)


# Jumps that hold less than a tenth of the growth are not worth a sentence.
_JUMPED_SHARE: Final = 0.1

# Names that a sentence can hold.
_LISTED: Final = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Life:
    """The readings of one worker process from its start to its end, n of them, of e endpoints.

    `times_s` (n,) increases; `levels` (n,) are live bytes at rest; `held` (n,) requests held at the gate when
    read; `counts` (n, e) the requests finished since the worker's start, by endpoint.
    """

    times_s: Floats
    levels: Floats
    held: Floats
    counts: Floats


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one endpoint keeps, or several that were always called together, for each request of any of them."""

    endpoints: tuple[str, ...]
    requests: int
    bytes_per_request: Estimate
    """`low` above 0 says that the endpoint leaks; 99 % for all shares together."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Who keeps the growth, largest first.

    `explained` is the share of the growth's variance that the fit explains (R squared of levels about each life's
    mean, 0 to 1), `held_bytes` what a request holds while it is held at the gate.
    """

    shares: tuple[Share, ...]
    notes: tuple[str, ...]
    explained: float
    held_bytes: float


def attribute(lives: Sequence[Life], endpoints: Sequence[str], *, warm_up_s: float = 0.0) -> Attribution:
    """Share the growth of all `lives` among `endpoints`, which name the columns of their counts.

    Leaves out the first `warm_up_s` seconds of each life; 0 where the caller has done so. An endpoint without
    requests has no share. Raises ValueError when a life's arrays do not fit each other or the names.
    """
    for life in lives:
        _check(life, len(endpoints))
    used = [cut for life in lives if len((cut := _after(life, warm_up_s)).times_s) > 1]
    counts = np.vstack([np.zeros((0, len(endpoints))), *(np.diff(life.counts, axis=0) for life in used)])
    groups = _together(counts)
    requests = counts.sum(axis=0)
    notes = _notes_on_mix(endpoints, requests, groups)
    if not groups:
        return Attribution(shares=(), notes=notes, explained=0.0, held_bytes=0.0)
    rows = _rows(used, np.column_stack([counts[:, group].sum(axis=1) for group in groups]))
    short = len(counts) < ROWS_PER_UNKNOWN * (rows.values.shape[1] - 1)
    fit = unsolved(rows) if short else solve(rows)
    shares = [
        _share([endpoints[at] for at in group], float(requests[group].sum()), fit, column)
        for column, group in enumerate(groups)
    ]
    shares.sort(key=lambda share: -share.bytes_per_request.value * share.requests)
    explained = _explained(rows, rows.values[:, :-1] @ fit.rates)
    if short:
        notes += (f"{len(counts) + len(used)} readings are too few for {len(groups)} endpoints.",)
    else:
        notes += _notes_on_fit(shares, float(rows.values[:, -1].sum()), fit.jumped, explained)
    return Attribution(shares=tuple(shares), notes=notes, explained=explained, held_bytes=float(fit.rates[-1]))


def _check(life: Life, endpoints: int) -> None:
    rows = len(life.times_s)
    shapes = (life.levels.shape, life.held.shape, life.counts.shape)
    if shapes != ((rows,), (rows,), (rows, endpoints)):
        raise ValueError(f"{rows} times and {endpoints} endpoints, but levels, held and counts of {shapes}")


def _after(life: Life, warm_up_s: float) -> Life:
    if not warm_up_s or not len(life.times_s):
        return life
    kept = life.times_s >= life.times_s[0] + warm_up_s
    return Life(
        times_s=life.times_s[kept], levels=life.levels[kept], held=life.held[kept], counts=life.counts[kept]
    )  # fmt: skip


def _rows(lives: Sequence[Life], columns: Floats) -> Rows:
    """The differences of all lives: the counts in `columns`, then the requests held, then the levels."""
    periods = np.concatenate([np.diff(life.times_s) for life in lives]).astype(np.float64)
    held = np.concatenate([np.diff(life.held) for life in lives])
    levels = np.concatenate([np.diff(life.levels) for life in lives])
    return Rows(
        values=np.column_stack([columns, held, levels]).astype(np.float64),
        periods=periods / float(np.median(periods)),
        starts=(0, *np.cumsum([len(life.times_s) - 1 for life in lives]).tolist()),
    )


def _together(counts: Floats) -> list[list[int]]:
    """The endpoints that had requests, in groups that were always called together, each in the given order."""
    groups: list[list[int]] = []
    for at in np.flatnonzero(counts.sum(axis=0) > 0).tolist():
        mates = [group for group in groups if any(_same_pace(counts[:, at], counts[:, other]) for other in group)]
        for mate in mates:
            groups.remove(mate)
        groups.append(sorted([at, *(other for mate in mates for other in mate)]))
    return sorted(groups)


def _same_pace(one: Floats, other: Floats) -> bool:
    if one @ other >= _MULTIPLES * math.sqrt((one @ one) * (other @ other)):
        return True
    x, y = one - one.mean(), other - other.mean()
    return bool(x @ y > _TOGETHER * math.sqrt((x @ x) * (y @ y)))


def _share(names: Sequence[str], requests: float, fit: Fit, column: int) -> Share:
    value = float(fit.rates[column])
    high = max(float(fit.high[column]), value + _UNSEEN_BYTES / requests)
    return Share(
        endpoints=tuple(names),
        requests=round(requests),
        bytes_per_request=Estimate(value=value, low=float(fit.low[column]), high=high),
    )


def _explained(rows: Rows, fitted: Floats) -> float:
    """R squared of the levels about the mean of each life."""
    total = rest = 0.0
    for start, end in rows.stretches:
        level = np.concatenate([[0.0], np.cumsum(rows.values[start:end, -1])])
        error = level - np.concatenate([[0.0], np.cumsum(fitted[start:end])])
        total += float(((level - level.mean()) ** 2).sum())
        rest += float(((error - error.mean()) ** 2).sum())
    return max(0.0, 1 - rest / total) if total else 0.0


def _notes_on_mix(endpoints: Sequence[str], requests: Floats, groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
    idle = [name for name, made in zip(endpoints, requests.tolist(), strict=True) if made <= 0]
    notes = [
        f"{_listed([endpoints[at] for at in group])} were always called together, and cannot be told apart:"
        " the bytes are per request of any of them."
        for group in groups
        if len(group) > 1
    ]
    if idle:
        notes.append(f"No request reached {_listed(idle)}: nothing is known of what it keeps.")
    return tuple(notes)


def _notes_on_fit(shares: Sequence[Share], growth: float, jumped: float, explained: float) -> tuple[str, ...]:
    """What no request explains, and whether the mix was too constant: several might each hold half of the growth."""
    if growth <= 0:
        return ()
    notes = []
    if jumped > _JUMPED_SHARE * growth:
        notes.append(
            f"{min(1.0, jumped / growth):.0%} of the growth came in jumps that no request explains (tables that"
            " double, single large allocations), and are in no endpoint's figure."
        )
    wide = [
        share
        for share in shares
        if share.bytes_per_request.low == 0 and share.bytes_per_request.high * share.requests > growth / 2
    ]
    if explained >= 0.5 and len(wide) > 1:
        names = _listed([name for share in wide for name in share.endpoints])
        notes.append(
            f"The mix of requests varied too little to say which of {names} keeps what: vary it, or run longer."
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    if len(names) > _LISTED:
        names = [*names[: _LISTED - 1], f"{len(names) - _LISTED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
