"""What the memory of a process tree is made of, as the kernel accounts for it (smaps_rollup, Linux)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

KINDS: Final = ("heap and stacks", "mapped files", "shared memory", "swap")

# Proportional sizes: a page that two workers share counts half for each, so that the sum is what the machine holds.
_LINES: Final = {
    b"Pss_Anon:": "heap and stacks",
    b"Pss_File:": "mapped files",
    b"Pss_Shmem:": "shared memory",
    b"SwapPss:": "swap",
}


def composition(pids: Iterable[int], root: Path = Path("/proc")) -> dict[str, int] | None:
    """Bytes by kind of all processes together; None where the kernel gives none of them (or it is not Linux).

    It walks the page tables of each process: about 10 ms per GiB, in which that process's own page faults wait.
    """
    total = dict.fromkeys(KINDS, 0)
    seen = False
    for pid in pids:
        try:
            lines = (root / str(pid) / "smaps_rollup").read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            kind = _LINES.get(words[0]) if len(words) == 3 else None
            if kind is not None:
                total[kind] += int(words[1]) * 1024
                seen = True
    return total if seen else None


def changes(before: dict[str, int] | None, after: dict[str, int] | None) -> tuple[tuple[str, float], ...]:
    """What each kind gained, in bytes; empty where one of the two is missing."""
    if before is None or after is None:
        return ()
    return tuple((kind, float(after[kind] - before[kind])) for kind in KINDS)
