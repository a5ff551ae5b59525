"""The live heap as it would have been under a steady load: what the mix moved is taken out.

A load that varies its mix on purpose makes a leak grow by fits and starts, and requests at the gate hold some
kilobytes each. Both are known exactly, request by request: with the attributed bytes per request, the difference
between the requests made and the same requests spread evenly is subtracted, and what the requests at the gate hold.
The first is zero at both ends of a stretch, so that the growth as a whole stays what it was, whatever the
attribution says; only its scatter falls.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pytest_memleak.soak.blame import Blame
from pytest_memleak.soak.lives import Life
from pytest_memleak.soak.stretches import Floats, Stretch


def steadied(part: Stretch, blame: Blame, column: str = "live_bytes") -> Stretch:
    """A stretch with one of its columns freed of the mix's ups and downs; `blame` is of that column."""
    if len(part.times_s) < 2:
        return part
    moved = sum((_moved(life, part.times_s, blame) for life in part.lives), np.zeros(len(part.times_s)))
    levels = {**part.levels, column: part.levels[column] - moved}
    return dataclasses.replace(part, levels=levels)


def _moved(life: Life, times_s: Floats, blame: Blame) -> Floats:
    """What the mix and the gate added to one worker at each time."""
    own = np.asarray(life.times_s)
    moved: Floats = blame.held_bytes * np.interp(times_s, own, np.asarray(life.columns["held"]))
    for growth in blame.endpoints:
        bytes_each = growth.bytes_per_request.value
        if bytes_each > 0:
            made = sum((np.asarray(life.count_column(name)) for name in growth.endpoints), np.zeros(len(own)))
            requests = np.interp(times_s, own, made)
            evenly = np.interp(times_s, times_s[[0, -1]], requests[[0, -1]])
            moved = moved + bytes_each * (requests - evenly)
    return moved
