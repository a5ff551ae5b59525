"""Which names of figures are levels of memory: `rss_kb` and `memory.usage` are, `memory_limit` and `member` are not."""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple


class Key(NamedTuple):
    """What a name says of its figure."""

    metric: str
    """The name without its unit, in small letters: `rss`, `memory usage`."""

    rank: int
    """0 for resident memory, 1 for "memory", 2 for a peak, which never falls. The lowest of a process is judged."""

    factor: float | None
    """Bytes in one of its unit, where the name has it."""


RSS: Final = 0
MEMORY: Final = 1
PEAK: Final = 2

_TOKEN: Final = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[A-Z]")

_UNITS: Final = {
    "b": 1.0, "byte": 1.0, "bytes": 1.0,
    "kb": 1e3, "kib": 1024.0, "kbytes": 1e3, "kilobytes": 1e3,
    "mb": 1e6, "mib": 1024.0**2, "mbytes": 1e6, "megabytes": 1e6,
    "gb": 1e9, "gib": 1024.0**3, "gbytes": 1e9, "gigabytes": 1e9,
}  # fmt: skip

_RESIDENT: Final = {"rss", "vmrss", "memrss", "resident", "anonrss"}
_MEMORY: Final = {"mem", "memory", "memoryusage", "memusage", "memoryused", "memused", "usedmemory", "usedmem"}
_PEAKS: Final = {"maxrss", "rumaxrss", "peakrss", "rssmax", "rsspeak"}

_NEVER: Final = {
    # what may be had, not what is
    "limit", "lim", "quota", "request", "requests", "requested", "threshold", "budget", "free", "avail", "available",
    "reserved", "soft", "hard", "min", "minimum", "capacity", "reservation",
    # other kinds of memory, or parts of it
    "swap", "virtual", "virt", "vms", "vsz", "vm", "vmsize", "cache", "cached", "shared", "shmem", "stack", "lib",
    "text", "data", "dirty", "buffers", "buffer", "mapped", "file", "filerss", "shmemrss", "gpu", "cuda", "kernel",
    "slab", "unevictable", "inactive", "active", "mlocked", "locked", "pgtables", "tcp", "sock", "vram",
    # no size at all, or a change of one
    "percent", "percentage", "pct", "perc", "ratio", "fraction", "util", "utilization", "growth", "grew", "grown",
    "delta", "diff", "change", "increase", "increased", "decrease", "freed", "saved", "leaked", "leak", "rate",
    "id", "count", "num", "number", "objects", "blocks", "faults", "pgfault", "pgmajfault", "failcnt", "failures",
    "score", "adj", "time", "ms", "seconds", "address", "addr", "version", "type", "error", "errors", "events",
    "psi", "pressure", "bandwidth", "speed", "pages", "page",
    # Prometheus: spec of cadvisor
    "spec", "machine",
}  # fmt: skip
_PEAK_WORDS: Final = {"max", "maximum", "peak", "high", "hwm", "highest", "watermark"}


@functools.lru_cache(maxsize=4096)
def classify(name: str) -> Key | None:
    """What a name such as `memory.rss`, `rss_kb`, `memoryUsage` says; None when it is no level of memory."""
    tokens = [token.lower() for token in _TOKEN.findall(name)]
    if tokens and tokens[-1] not in _UNITS:
        # rsskb, memmb: the unit grown together with the name
        for unit in ("kb", "mb", "gb", "kib", "mib", "bytes"):
            stem = tokens[-1].removesuffix(unit)
            if stem != tokens[-1] and stem in _RESIDENT | _MEMORY | _PEAKS:
                tokens[-1:] = [stem, unit]
                break
    units = [token for token in tokens if token in _UNITS]
    words = [token for token in tokens if token not in _UNITS]
    said = set(words)
    if said & _NEVER and not ({"vm", "rss"} <= said and not (said - {"vm"}) & _NEVER):
        return None
    if said & _PEAKS or (said & _PEAK_WORDS and said & _RESIDENT):
        rank = PEAK
    elif said & _PEAK_WORDS or not said & (_RESIDENT | _MEMORY):
        return None
    elif said & _RESIDENT:
        rank = RSS
    elif "total" in said and not said & {"usage", "used", "use"}:
        return None
    else:
        rank = MEMORY
    return Key(" ".join(words), rank, _UNITS[units[-1]] if units else None)


@functools.lru_cache(maxsize=1024)
def is_denied(before: bytes) -> bool:
    """Whether a word before a name makes it another figure: `peak`, `free`, `total` memory."""
    word = before.decode("ascii", "replace").lower()
    return word in _NEVER or word in _PEAK_WORDS or word == "total"
