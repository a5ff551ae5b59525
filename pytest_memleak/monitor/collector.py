"""The thread that takes a reading every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final

# The thread is woken and done within a reading; on a busy machine what it prepares takes some seconds.
_LONGEST_S: Final = 10.0


class Collector:
    """Calls `read` every `interval_s` seconds, from its start to its stop; before the first time, `prepare`."""

    def __init__(
        self, read: Callable[[], object], interval_s: float, prepare: Callable[[], object] | None = None
    ) -> None:
        self._prepare = prepare
        self._read = read
        self._interval_s = interval_s
        self._over = threading.Event()
        # A daemon: a program that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, name="memleak-monitor", daemon=True)

    def start(self) -> None:
        """Begin, with a reading as soon as it is prepared."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the reading that is being taken."""
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=_LONGEST_S)

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        due = time.monotonic()
        told = False
        while not self._over.wait(max(0.0, due - time.monotonic())):
            try:
                self._read()
            except Exception as error:  # noqa: BLE001  (one reading that fails is no reason to take none)
                if not told:
                    sys.stderr.write(f"memleak: the monitor could not read this process ({error!r})\n")
                told = True
            # From now: readings that were missed while the machine slept are not caught up with.
            due = max(due + self._interval_s, time.monotonic())
