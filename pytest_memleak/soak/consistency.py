"""What endpoints are said to keep, held against what the service as a whole has kept.

Worker threads that come and go with an endpoint's calls move the level up and down by their own buffers. Over a
few seconds that looks as if its requests kept them, over half an hour it does not: then the sum of all accusations is
more than the whole growth, which is known. The smallest ones are dropped until it is not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_memleak.model_soak import Estimate
from pytest_memleak.soak.lives import Life
from pytest_memleak.verdict import attribution, drift


def consistent(
    shares: Sequence[attribution.Share], lives: Sequence[tuple[Life, npt.NDArray[Any]]], column: str
) -> tuple[attribution.Share, ...]:
    """The shares, of which those are no longer told from zero that the growth of the column has no room for."""
    room = sum(
        _most_gained(np.asarray(life.times_s)[rows], np.asarray(life.columns[column])[rows]) for life, rows in lives
    )
    least = sum(max(0.0, share.bytes_per_request.low) * share.requests for share in shares)
    kept: list[attribution.Share] = []
    for share in sorted(shares, key=lambda share: share.bytes_per_request.low * share.requests):
        low = share.bytes_per_request.low * share.requests
        if low > 0 and least > room:
            least -= low
            kept.append(dataclasses.replace(share, bytes_per_request=_doubted(share, room)))
        else:
            kept.append(share)
    return tuple(kept)


def _most_gained(times_s: npt.NDArray[Any], levels: npt.NDArray[Any]) -> float:
    """What a level can have gained over a time at the most (99 %); without bound where that is not known."""
    rate = drift.judge(times_s.tolist(), levels.tolist(), 0.0).rate
    return rate.high * float(np.ptp(times_s)) if math.isfinite(rate.high) else math.inf


def _doubted(share: attribution.Share, room: float) -> Estimate:
    most = max(0.0, room) / max(1, share.requests)
    estimate = share.bytes_per_request
    return Estimate(value=min(estimate.value, most), low=0.0, high=estimate.high)
