"""What else a short series may be: a line, against a step, a bend, a wave, a warm-up and a few stairs.

Pure. `drift` wants every quarter to speak for itself, which takes about a hundred readings. Where a watch has only
thirty, whole shapes are fitted to all readings by least squares and compared: the growth is that of the shape that
fits best, and its interval is widened by the autocorrelation that the shape leaves.

It needs numpy and scipy: import it only where there is a series to judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy.special import stdtrit

from pytest_memleak.model_soak import Estimate
from pytest_memleak.verdict.settled import Floats

Kind: TypeAlias = Literal["line", "step", "bend", "wave", "warm-up"]

MOST_POINTS: Final = 120
"""Medians of batches stand for more readings than that: shapes show in fewer, and the search stays short."""

# A richer shape is preferred when it explains so much more, for each figure that it takes: BIC's ln(120) = 4.8 for the
# figure and as much again for having been searched among some fifty places. The place counts as a figure; of a wave's
# five, its phase and overtone are seldom both needed.
_PRICE: Final = 9.6
_FIGURES: Final = 2
_WAVE_FIGURES: Final = 3

# What rounding leaves of a line that fits, as a share of the range: no shape is better than that.
_ROUNDING: Final = 1e-9

# Stairs are compared up to so many steps; from ten on, several to each third, growth by steps is growth.
_MOST_STAIRS: Final = 6

# Closer to an end, a bend is a step's or an outlier's.
_BEND_ENDS: Final = 0.08

# A reading this many spreads off the median of the five around it is an outlier.
_OUTLIER: Final = 5.0
_MAD: Final = 1.4826

# Where more than every fifth were one, they are what the level does.
_LEAST_KEPT: Final = 0.8

_MOST_CORRELATED: Final = 0.95
"""As in `settled`: beyond, no interval covers what a random walk does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A shape fitted to points whose time runs from 0 to 1; `slope` is what it does at the end.

    `at` is where it steps or bends, or a wave's period; `change` the height of the step, the change of slope at the
    bend, the height of the wave or what the warm-up adds. `freely` is the number of points, less their
    autocorrelation.
    """

    kind: Kind
    slope: Estimate
    squares: float
    at: float = 0.0
    change: float = 0.0
    change_error: float = 0.0
    freely: float = 0.0
    correlated: float = 0.0


def points(times: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At most MOST_POINTS points, from time 0 to 1, outliers left out."""
    x, y = (times - times[0]) / (times[-1] - times[0]), values
    if x.size > MOST_POINTS:
        parts = np.array_split(np.arange(x.size), MOST_POINTS)
        x, y = np.array([x[part].mean() for part in parts]), np.array([np.median(y[part]) for part in parts])
    around = np.lib.stride_tricks.sliding_window_view(np.pad(y, 2, mode="reflect"), 5)
    off = np.abs(y - np.median(around, axis=1))
    # Both neighbours have to be far from it: the first reading after a step is none.
    alone = np.minimum(np.abs(np.diff(y, prepend=y[1])), np.abs(np.diff(y, append=y[-2])))
    spread = _MAD * float(np.median(np.abs(np.diff(y) - np.median(np.diff(y))))) / math.sqrt(2)
    limit = max(_OUTLIER * spread, _ROUNDING * float(np.ptp(y)))
    kept = (off <= limit) | (alone <= limit)
    return (x[kept], y[kept]) if kept.mean() >= _LEAST_KEPT else (x, y)


def best(x: Floats, y: Floats) -> Fit:
    """The shape that explains most for its price."""
    line = fit("line", x, y, [])
    found, gain = line, 0.0
    least = x.size * (_ROUNDING * float(np.ptp(y))) ** 2 + 1e-300
    for rival in _rivals(x, y):
        price = _PRICE * (_WAVE_FIGURES if rival.kind == "wave" else _FIGURES)
        more = rival.freely * math.log((line.squares + least) / (rival.squares + least)) - price
        if more > gain:
            found, gain = rival, more
    return found


def _rivals(x: Floats, y: Floats) -> Iterator[Fit]:
    """The best of each kind but the line."""
    inner = x[3:-3][:: max(1, x.size // 60)]
    yield _best_place(x, y, "step", inner)
    bends = inner[(inner > _BEND_ENDS) & (inner < 1 - _BEND_ENDS)]
    if bends.size:
        yield _best_place(x, y, "bend", bends)
    yield _best_place(x, y, "warm-up", np.asarray(np.geomspace(0.01, 0.2, 12), dtype=np.float64))
    if x.size >= 24:
        # Five points to a wave, and more than three waves: fewer are no rhythm.
        yield _best_place(x, y, "wave", 1 / np.arange(3.5, max(4.0, min(30.0, x.size / 5)), 0.25))


def _columns(kind: Kind, x: Floats, at: Floats) -> Floats:
    """What stands beside the line, for each place in `at`: places x columns x points."""
    away = x[None, :] - at[:, None]
    if kind == "step":
        return np.asarray(np.where(away > 0, 1.0, 0.0)[:, None, :])
    if kind == "bend":
        return np.asarray(np.maximum(0, away)[:, None, :])
    if kind == "warm-up":
        return np.asarray(np.exp(-x[None, :] / at[:, None])[:, None, :])
    # A wave with its first overtone: teeth are no sine.
    turn = 2 * math.pi * x[None, :] / at[:, None]
    return np.stack([np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)], axis=1)


def _best_place(x: Floats, y: Floats, kind: Kind, places: Floats) -> Fit:
    """Where a shape takes most off the squares, all places at once (Frisch, Waugh and Lovell)."""
    basis = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    columns = _columns(kind, x, places)
    columns = columns - (columns @ basis) @ basis.T
    rest = y - basis @ (basis.T @ y)
    inner = columns @ columns.transpose(0, 2, 1)
    inner = inner + 1e-9 * np.eye(inner.shape[1]) * np.trace(inner, axis1=1, axis2=2)[:, None, None]
    seen = columns @ rest
    taken = np.einsum("pc,pc->p", seen, np.linalg.solve(inner, seen[:, :, None])[:, :, 0])
    return placed(kind, x, y, float(places[int(np.argmax(taken))]))


def placed(kind: Kind, x: Floats, y: Floats, at: float) -> Fit:
    """A shape at that place."""
    return fit(kind, x, y, list(_columns(kind, x, np.array([at]))[0]), at)


def _solve(x: Floats, y: Floats, columns: list[Floats]) -> tuple[Floats, float, Floats, Floats]:
    """The figures, the sum of squares, the rest, and the design."""
    design = np.column_stack([np.ones_like(x), x, *columns])
    figures = np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], dtype=np.float64)
    rest = y - design @ figures
    return figures, float(rest @ rest), rest, design


def fit(kind: Kind, x: Floats, y: Floats, columns: list[Floats], at: float = 0.0) -> Fit:
    """A line with more columns beside it."""
    y0 = float(y.mean())
    figures, squares, rest, design = _solve(x, y - y0, columns)
    count, taken = design.shape
    correlated = _correlated(rest, taken)
    freely = max(4.0, count * (1 - correlated) / (1 + correlated))
    spread = squares / max(1, count - taken) * (1 + correlated) / (1 - correlated)
    covariance = spread * np.linalg.pinv(design.T @ design)
    which = np.zeros(taken)
    which[1] = 1
    if kind == "bend":
        which[2] = 1  # the slope after it
    value = float(which @ figures)
    error = math.sqrt(max(0.0, float(which @ covariance @ which)))
    wide = float(stdtrit(max(3.0, freely - taken), 0.995)) * error
    change = float(np.hypot(*figures[2:4])) if kind == "wave" else float(figures[2]) if taken > 2 else 0.0
    return Fit(
        kind=kind,
        slope=Estimate(value=value, low=value - wide, high=value + wide),
        squares=squares,
        at=at,
        change=change,
        change_error=math.sqrt(max(0.0, float(covariance[2, 2]))) if taken > 2 else 0.0,
        freely=freely,
        correlated=correlated,
    )


def _correlated(rest: Floats, taken: int) -> float:
    """The autocorrelation of what is left, without the part that the fit takes (about (taken + 2 r) / count)."""
    squares = float(rest @ rest)
    if squares == 0 or rest.size < taken + 6:
        return 0.0
    seen = float(rest[1:] @ rest[:-1]) / squares
    real = (rest.size * seen + taken / 2 + 1) / (rest.size - 4)
    return min(_MOST_CORRELATED, max(0.0, real))


def bow(x: Floats, y: Floats) -> tuple[float, float]:
    """How far a parabola bends up, as the second half's slope less the first's, and the error of that."""
    middle = float(x.mean())
    found = fit("step", x, y, [(x - middle) ** 2])
    span = float(x[-1] - x[0])
    return found.change * span, found.change_error * span


def stairs(x: Floats, y: Floats) -> float:
    """How much better a few flat stairs explain the points than a line does, above their price; negative: worse."""
    line = fit("line", x, y, [])
    count = x.size
    sums, squares = (
        np.concatenate([[0.0], np.cumsum(y - y.mean())]),
        np.concatenate([[0.0], np.cumsum((y - y.mean()) ** 2)]),
    )
    sizes = np.maximum(1, np.arange(count + 1)[None, :] - np.arange(count + 1)[:, None])
    cost = squares[None, :] - squares[:, None] - (sums[None, :] - sums[:, None]) ** 2 / sizes
    # A stair of fewer than two points is an outlier.
    cost[np.subtract.outer(np.arange(count + 1), np.arange(count + 1)) > -2] = np.inf
    total, found = cost[0], -math.inf
    for number in range(1, _MOST_STAIRS + 1):
        left = max(float(total[-1]), 1e-300)
        gain = count * math.log(max(line.squares, 1e-300) / left)
        found = max(found, gain - (2 * number - 2) * math.log(count))
        total = np.min(total[:, None] + cost, axis=0)
    return found


def lowest(y: Floats) -> Floats:
    """The lowest of each eighth: what stays when a sawtooth has fallen."""
    return np.array([np.min(part) for part in np.array_split(y, 8)])


def bend_back(x: Floats, y: Floats) -> tuple[float, float]:
    """The cubic figure beside a parabola, and its error: negative where growth begins and ends slowly."""
    middle = x - float(x.mean())
    found = fit("step", x, y, [middle**3, middle**2])
    return found.change, found.change_error


def component(found: Fit, x: Floats, y: Floats) -> Floats:
    """What a shape adds to its line at each point."""
    columns = list(_columns(found.kind, x, np.array([found.at]))[0])
    figures = _solve(x, y, columns)[0]
    return np.asarray(np.column_stack(columns) @ figures[2:])
