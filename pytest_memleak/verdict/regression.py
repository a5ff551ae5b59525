"""Rates that cannot be negative, with intervals that hold together: the regression beneath `attribution`.

Pure. The rates of non-negative least squares on whitened rows; their errors by a block bootstrap of the residuals and
by a jackknife, whichever is larger. It needs numpy and scipy: import it only where there are readings to attribute.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
from scipy.special import ndtri

from pytest_memleak.verdict.whitening import Floats, Rows, non_negative, without_jumps

CONFIDENCE: Final = 0.99
"""Of all intervals together: each has 1 - (1 - CONFIDENCE) / endpoints (Bonferroni), or else among 50 innocent
endpoints every second server would have one accused."""

REPLICATES: Final = 400
"""Of the bootstrap. Only a standard deviation is taken from them, known to 1 / sqrt(2 * 400) = 3.5 %; the quantiles
that CONFIDENCE asks for would need 100 times more."""

# Groups of the jackknife: 30 leave a standard error good to 13 %, and each few enough rows to show one odd interval.
_GROUPS: Final = 30

# The bootstrap is the same for the same readings.
_SEED: Final = 20_240_901


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Non-negative rates of all columns, and the ends of their intervals.

    `jumped` is what the level gained in jumps that were cut out, beyond what the rates explain of them.
    """

    rates: Floats
    low: Floats
    high: Floats
    jumped: float


def solve(rows: Rows) -> Fit:
    """The rates of all columns of `rows`, of which the last is not an endpoint's, in the level's unit.

    Each column is scaled to a root mean square of 1 meanwhile. There have to be more rows than unknowns.
    """
    sizes = _sizes(rows.values)
    scaled = dataclasses.replace(rows, values=rows.values / sizes)
    white, rates, jumped = without_jumps(scaled)
    amounts = np.append(scaled.values[:, :-2].sum(axis=0), 0.0)
    low, high = _interval(white, rates, amounts, float(ndtri(1 - (1 - CONFIDENCE) / (2 * len(rates) - 2))))
    scale = sizes[-1] / sizes[:-1]
    return Fit(rates=rates * scale, low=low * scale, high=high * scale, jumped=float(jumped * sizes[-1]))


def unsolved(rows: Rows) -> Fit:
    """The rates where there are too few rows to know how far they are off: anything from 0 up."""
    sizes = _sizes(rows.values)
    values = rows.values / sizes
    rates = non_negative(values[:, :-1], values[:, -1])
    unknown = np.full(rates.shape, math.inf)
    return Fit(rates=rates * sizes[-1] / sizes[:-1], low=np.zeros(rates.shape), high=unknown, jumped=0.0)


def _sizes(columns: Floats) -> Floats:
    sizes = np.sqrt((columns**2).mean(axis=0))
    return np.where(sizes > 0, sizes, 1.0)


def _interval(white: Floats, rates: Floats, amounts: Floats, reach: float) -> tuple[Floats, Floats]:
    """The ends of the intervals, `reach` standard errors away: the larger of bootstrap and jackknife.

    A rate held at 0 varies upwards only, so the high end has an error of its own. And what the constraint gives to
    endpoints near 0 it takes from those that leak, about one error (measured): their high end is also that of the
    fit without the constraint. But no endpoint keeps more than all together, `amounts` being the requests.
    """
    free, free_error, replicates = _bootstrap(white, rates)
    jackknife = _jackknife(white)
    upward = np.maximum(replicates - rates, 0)
    above = np.sqrt((upward**2).sum(axis=0) / np.maximum(1, (upward > 0).sum(axis=0)))
    total = float(amounts @ rates) + reach * float((replicates @ amounts).std())
    most = np.divide(total, amounts, out=np.full(amounts.shape, math.inf), where=amounts > 0)
    low = rates - reach * np.maximum(replicates.std(axis=0), jackknife)
    high = rates + reach * np.maximum(above, jackknife)
    unbound = np.where(low > 0, np.minimum(most, free + reach * free_error), 0)
    return np.maximum(0, low), np.maximum(high, unbound)


def _bootstrap(white: Floats, rates: Floats) -> tuple[Floats, Floats, Floats]:
    """The unconstrained rates and their errors, and REPLICATES x columns of constrained ones.

    Each is refitted to the fit plus its own residuals, moved in blocks (Kuensch 1989). Blocks of 2 * rows^(1/3) keep
    what correlation the whitening has left; its order is optimal for a variance (Hall, Horowitz and Jing 1995). Q is
    taken out once, so that a replicate is a problem of columns x columns.
    """
    count, unknowns = len(white), white.shape[1] - 1
    left, right = np.linalg.qr(white[:, :-1])
    rest = (white[:, -1] - white[:, :-1] @ rates) * math.sqrt(count / (count - unknowns))
    rest -= rest.mean()
    length = min(count, math.ceil(2 * count ** (1 / 3)))
    rng = np.random.default_rng(_SEED)
    firsts = rng.integers(0, count - length + 1, size=(REPLICATES, -(-count // length)))
    rows = (firsts[:, :, None] + np.arange(length)).reshape(REPLICATES, -1)[:, :count]
    news = rest[rows] @ left
    inverse = np.linalg.pinv(right)
    replicates = np.array([non_negative(right, right @ rates + new) for new in news])
    return inverse @ (left.T @ white[:, -1]), (news @ inverse.T).std(axis=0), replicates


def _jackknife(white: Floats) -> Floats:
    """The standard error from leaving out one stretch of readings after the other (Quenouille, Tukey).

    Where all evidence against an endpoint is one stretch (a single request as a table doubled), leaving that out
    takes the rate to 0, and the error is as large as the rate; residuals cannot show it.
    """
    parts = [np.linalg.qr(part, mode="r") for part in np.array_split(white, min(_GROUPS, len(white)))]
    found = []
    for left_out in range(len(parts)):
        rest = np.asarray(np.linalg.qr(np.vstack(parts[:left_out] + parts[left_out + 1 :]), mode="r"))
        found.append(non_negative(rest[:, :-1], rest[:, -1]))
    rates = np.array(found)
    return np.asarray(np.sqrt((len(parts) - 1) * rates.var(axis=0)))
