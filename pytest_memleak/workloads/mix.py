"""A mix of tasks that varies on purpose, so that figures of endpoints under load can be told apart."""

from __future__ import annotations

import hashlib
from typing import Final

LOW_SHARE: Final = 0.15
"""How often a task that is low is accepted when it is drawn.

Which endpoint keeps memory is found by regressing growth on requests per endpoint, and the precision of that goes
with the spread of each endpoint's rate. A task is high in half of the periods, where the spread of two values is
greatest; high is 1 and low is `a`, so the spread is (1 - a) / (1 + a) of the mean: 0.33 for 0.5, 0.74 for 0.15, 1
for 0. At 0.15 three quarters of the spread is had, and a low task still has a quarter of its mean rate, so that
connections, sessions and caches which expire see no pause that the user's load would not have.
"""

DRAWS: Final = 20
"""How many tasks are drawn before one is taken whatever it is: if half of the weight is low, 20 refusals in a row
have the chance 0.425**20, and if all of it is low, 0.85**20 = 0.04, and then the last draw is as good as any."""


class Mix:
    """Says of each task whether a draw of it is accepted now.

    All processes and machines agree without a word: what is high is a hash of the task's name, the seed and the
    number of the period, counted on the wall clock. Over many periods each task is high half of the time, so the
    weights that the user gave hold on average.
    """

    def __init__(self, *, period_s: float, seed: int = 0) -> None:
        self._period_s = period_s
        self._seed = seed
        self._period = -1
        self._high: dict[str, bool] = {}

    def is_high(self, task: str, now_s: float) -> bool:
        """Whether a task is high at a time of the wall clock."""
        period = int(now_s // self._period_s)
        if period != self._period:
            self._period = period
            self._high.clear()
        high = self._high.get(task)
        if high is None:
            text = f"{self._seed}/{period}/{task}"
            high = self._high[task] = hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 2 == 1
        return high

    def accepts(self, task: str, now_s: float, chance: float) -> bool:
        """Whether a draw of a task is accepted; `chance` is uniform between 0 and 1."""
        return chance < LOW_SHARE or self.is_high(task, now_s)
