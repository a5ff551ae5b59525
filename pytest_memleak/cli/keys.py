"""Single keys from a terminal, where there is one; else a plain wait."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator
from typing import Any


class Keys:
    """`wait` gives the key that is pressed within a time; empty for none."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def wait(self, seconds: float) -> str:
        """One key, or "" when the time is over."""
        if self._file is None:
            time.sleep(max(0.0, seconds))
            return ""
        ready, _, _ = select.select([self._file], [], [], max(0.0, seconds))
        if not ready:
            return ""
        key: str = self._file.read(1)
        if not key:
            self._file = None  # the terminal is gone: no key will come
        return key


@contextlib.contextmanager
def reading_keys() -> Iterator[Keys]:
    """Keys as they are pressed, without Enter and without an echo; the terminal is given back as it was."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield Keys(None)
        return
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield Keys(sys.stdin)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
