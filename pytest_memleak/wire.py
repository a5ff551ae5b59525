"""What a soak and the agents inside its server say to each other: environment variables and messages.

Messages are JSON objects over `multiprocessing.connection`; each has a `kind`.

From an agent
    hello      pid, ppid, python, missing, fd_limit: it serves requests from now on
    reading    see `READING`
    diagnosis  leaks, notes, shown_again, seconds, requests, handlers: what was found; `error` instead when it failed
    trouble    why: the agent gives up, its worker goes on
To an agent
    pace       interval_s: how often to read
    rest       read once at deep rest, the load is over; answered by a reading with `deep`
    diagnose   resources, least_share, seconds_per_request, rates, native_only: find the lines and holders under the
               load that runs now
"""

from __future__ import annotations

from typing import Final

AGENT_CHANNEL: Final = "MEMLEAK_AGENT_CHANNEL"
"""Environment: the address at which the harness listens."""

AGENT_KEY: Final = "MEMLEAK_AGENT_KEY"
"""Environment: the key of the channel, hexadecimal."""

READING: Final = (
    "t",
    "live_bytes",
    "pymalloc_bytes",
    "native_bytes",
    "blocks",
    "rss_bytes",
    "fds",
    "threads",
    "tasks",
    "held",
    "in_flight",
    "pause_ms",
)
"""The numbers of a reading; `t` is `time.monotonic()`. What cannot be read is absent.

`held` are the requests that waited at the gate, `in_flight` those that were inside when it was read.
`requests` beside them maps endpoints to how many requests they have finished since the worker's start; only
those that changed since the reading before are in it.
"""
