"""The noise of levels at rest, taken out of a regression: jitter, small steps that stay, and clear jumps.

Pure. Two kinds of noise: jitter of a single reading, and steps that stay (the tables of dicts that double), which add
up to a random walk. Regressing levels on cumulative counts is best against the first, regressing differences on the
counts between readings is best against the second; generalised least squares on the differences is both at its
ends (with jitter alone it is the regression of levels with a free base for each worker), and the readings
themselves say where between them it should be. Steps that stand out are cut apart instead.

It needs numpy and scipy: import it only where there are readings to attribute.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded
from scipy.optimize import nnls

Floats: TypeAlias = npt.NDArray[np.float64]

# Variance of the walk in a period over the variance of the jitter's news, up to nothing else. Tenfold steps cost less
# than 10 % of precision where the best value lies between two. Never none: steps too small to be cut remain, and with
# none the intervals of a long run would not hold the real rate (measured).
_WALKS: Final = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)

# How much of its jitter a reading shares with the one before (AR(1)): none, to what lasts for ten readings.
_MEMORIES: Final = (0.0, 0.25, 0.5, 0.75, 0.9)

# Where the search begins: a small walk, no memory. As (walk, memory) among the values above.
_START: Final = (1, 0)

# Two readings are cut apart where the level jumped by more than this many standard errors. Chance does it in 8 runs of
# 100 (180 readings), which costs one free base; a step that is missed costs the precision of the whole run.
_JUMP_ERRORS: Final = 3.5

# Steps of a doubling table are halves of each other, so a round takes those above 0.7 of the clearest and looks again;
# 6 rounds reach what is 1/64 of the largest.
_JUMP_SHARE: Final = 0.7
_JUMP_ROUNDS: Final = 6

# A cut's neighbours share its score; with fewer readings between, two cuts would be one jump seen twice.
_JUMP_DISTANCE: Final = 5

# Of rows scaled to 1: noise below this is what rounding leaves of readings without any.
_ROUNDING: Final = 1e-9

_MAD: Final = 1.4826
"""The standard deviation over the median absolute deviation, of a normal distribution."""

# Rows (readings after the first of each life) per unknown, below which a fit says nothing.
ROWS_PER_UNKNOWN: Final = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What happened between readings that follow each other, all lives below one another; N rows.

    `values` is N x (unknowns + 1): the last column, the gain of the level, is to be explained by the others.
    """

    values: Floats
    periods: Floats
    """Seconds between the readings, over their median."""

    starts: tuple[int, ...]
    """The row with which each life begins, and the number of rows."""

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First row, and row after the last, of what hangs together."""
        return list(itertools.pairwise(self.starts))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    """What the levels do by themselves: see _WALKS and _MEMORIES."""

    walk: float
    memory: float


def non_negative(columns: Floats, target: Floats) -> Floats:
    """Non-negative least squares (Lawson and Hanson 1974), with ten times the turns that scipy allows by default."""
    return np.asarray(nnls(columns, target, maxiter=30 * columns.shape[1])[0])


def without_jumps(rows: Rows) -> tuple[Floats, Floats, float]:
    """The whitened values and the rates without the rows where the level jumped, and the sum of those jumps.

    `rows` are scaled so that each column has a root mean square of 1. A table that doubles is one large step, no
    walk of many small ones; left in, it would hide the requests of the whole run. Each round cuts the clear ones,
    which shows the smaller ones.
    """
    at = _START
    jumped = 0.0
    for left in reversed(range(_JUMP_ROUNDS + 1)):
        at, white = _likeliest(rows, at)
        rates = non_negative(white[:, :-1], white[:, -1])
        rest = rows.values[:, -1] - rows.values[:, :-1] @ rates
        spread = max(_ROUNDING, _MAD * float(np.median(np.abs(white[:, -1] - white[:, :-1] @ rates))))
        jumps = _clear(_scores(rows, rest, _noise(at)), _JUMP_ERRORS * spread)
        if not left or not jumps or len(rest) - len(jumps) < ROWS_PER_UNKNOWN * len(rates):
            break
        jumped += float(rest[jumps].sum())
        rows = _cut(rows, jumps)
    return white, rates, jumped


def _likeliest(rows: Rows, at: tuple[int, int]) -> tuple[tuple[int, int], Floats]:
    """The noise of the greatest likelihood, uphill on the grid from `at`, and the rows that it makes white."""
    seen = {at: _whitened(rows, _noise(at))}
    while True:
        walk, memory = at
        for near in ((walk - 1, memory), (walk + 1, memory), (walk, memory - 1), (walk, memory + 1)):
            if near not in seen and 0 <= near[0] < len(_WALKS) and 0 <= near[1] < len(_MEMORIES):
                seen[near] = _whitened(rows, _noise(near))
        best = min(seen, key=lambda place: seen[place][0])
        if best == at:
            return at, seen[at][1]
        at = best


def _noise(at: tuple[int, int]) -> _Noise:
    return _Noise(walk=_WALKS[at[0]], memory=_MEMORIES[at[1]])


def _whitened(rows: Rows, noise: _Noise) -> tuple[float, Floats]:
    """The rows freed of the correlation that the noise gives them, and -2 log of the restricted likelihood.

    The inverse of the Cholesky factor of the covariance makes the noise white. The likelihood is REML (Patterson and
    Thompson 1971), which allows for the unknowns fitted.
    """
    white = np.empty_like(rows.values)
    criterion = 0.0
    for start, end in rows.stretches:
        factor = cholesky_banded(_covariance(rows.periods[start:end], noise), lower=True)
        criterion += 2 * float(np.log(factor[0]).sum())
        white[start:end] = solve_banded((1, 0), factor, _filtered(rows.values[start:end], noise))
    # Of columns that depend on others, rounding leaves some 1e-16.
    diagonal = np.maximum(np.abs(np.diag(np.linalg.qr(white, mode="r"))), _ROUNDING)
    freedom = len(white) - white.shape[1] + 1
    criterion += 2 * float(np.log(diagonal[:-1]).sum()) + freedom * 2 * math.log(float(diagonal[-1]))
    return criterion, white


def _filtered(values: Floats, noise: _Noise) -> Floats:
    """Each row but the first without what the jitter repeats of the row before it."""
    found: Floats = np.array(values)
    found[1:] -= noise.memory * values[:-1]
    return found


def _covariance(periods: Floats, noise: _Noise) -> Floats:
    """Of filtered differences of levels, banded: the diagonal, and what is below it.

    With e the jitter's own news (variance 1), a the jitter and w the walk's steps: the first row is
    e2 - (1 - m) a1 + w1, the others are e(k+1) - e(k) + w(k) - m w(k-1), so only neighbours correlate.
    """
    walks = noise.walk * periods
    diagonal = np.concatenate([[2 / (1 + noise.memory) + walks[0]], 2 + walks[1:] + noise.memory**2 * walks[:-1]])
    return np.vstack([diagonal, -1 - noise.memory * walks])


def _scores(rows: Rows, rest: Floats, noise: _Noise) -> Floats:
    """How many standard deviations of the white noise each row lies off, were it given an unknown of its own.

    That unknown is (P rest)_k / P_kk with the variance 1 / P_kk, P being the inverse of the covariance before the
    filter. The one after it is tridiagonal: the diagonal of its inverse follows from the pivots of its elimination
    from both ends, and the inverse's next diagonal from that one (Meurant 1992).
    """
    scores = np.zeros(len(rest))
    for start, end in rows.stretches:
        band = _covariance(rows.periods[start:end], noise)
        forward = cholesky_banded(band, lower=True)
        below = np.append(band[1][:-1], 0.0)
        turned = np.vstack([band[0][::-1], np.append(below[:-1][::-1], 0.0)])
        backward = cholesky_banded(turned, lower=True)[0][::-1]
        inverse = 1 / (forward[0] ** 2 + backward**2 - band[0])
        after = np.append(inverse[1:], 0.0)
        own = inverse + 2 * noise.memory * below / forward[0] ** 2 * after + noise.memory**2 * after
        found = cho_solve_banded((forward, True), _filtered(rest[start:end], noise))
        scores[start:end] = (found - noise.memory * np.append(found[1:], 0.0)) / np.sqrt(own)
    return np.abs(scores)


def _clear(scores: Floats, least: float) -> list[int]:
    """The rows that score above `least` and not far below the highest, one for each few rows."""
    open_scores: Floats = np.array(scores)
    least = max(least, _JUMP_SHARE * float(np.max(scores)))
    found: list[int] = []
    while np.max(open_scores) > least and len(found) < len(scores) // _JUMP_DISTANCE:
        at = int(np.argmax(open_scores))
        found.append(at)
        open_scores[max(0, at - _JUMP_DISTANCE) : at + _JUMP_DISTANCE + 1] = 0
    return found


def _cut(rows: Rows, jumps: Sequence[int]) -> Rows:
    """Without the rows of the jumps: what is before and after one does not hang together."""
    gone = np.sort(np.asarray(jumps))
    begun = [start - int(np.searchsorted(gone, start)) for start in (*rows.starts, *gone.tolist())]
    return Rows(
        values=np.delete(rows.values, gone, axis=0),
        periods=np.delete(rows.periods, gone),
        starts=tuple(sorted(set(begun))),
    )
