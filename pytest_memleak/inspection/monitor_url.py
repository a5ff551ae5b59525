"""The counts of an app that carries our monitor, over HTTP: also of one on another machine."""

from __future__ import annotations

from typing import Any, Final

from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.watch.monitor_client import MonitorClient

# It walks all objects before it answers, in a service under load.
_TIMEOUT_S: Final = 30.0

# One answer comes from one of the workers, whichever accepts: asked on fresh connections, the first one is met again.
# Of eight workers it is missed 40 times in a row with a chance of 0.5 %.
_ASKED: Final = 40

# All that there are, or a type that was there before would seem new when it comes into a list of the first few. A
# program of five hundred modules has some two thousand.
_TYPES: Final = 10_000


class MonitorCounts:
    """Asks a monitor, and stays with the worker that answered first. Best as a context manager."""

    name = "the monitor"

    def __init__(self, url: str, token: str = "") -> None:
        """Nothing is asked yet. Raises InspectionError where it is no URL."""
        self.attached_s: list[float] = []
        self._client = MonitorClient(
            url, token, "/growth", timeout_s=_TIMEOUT_S, refused=InspectionError, gone=Gone
        )  # fmt: skip
        self._pid = 0

    def __enter__(self) -> MonitorCounts:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._client.close()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The counts of the worker. Raises Gone and InspectionError; holders are not told over HTTP."""
        if order["what"] != "count":
            raise InspectionError("the monitor tells no holders; from its own machine, --pid does")
        for _ in range(_ASKED):
            answer = self._client.get(_counts, "counts of types", samples=0, types=_TYPES)
            if self._pid in (0, answer["pid"]):
                if answer["declined"]:
                    raise InspectionError(f"the monitor declines: {answer['declined']}")
                self._pid = answer["pid"]
                return answer
        raise Gone(f"worker {self._pid} did not answer any more, {_ASKED} answers came from others")


def _counts(found: Any) -> dict[str, Any]:
    counts = {str(one["type"]): int(one["count"]) for one in found["types"]}
    every = int(found.get("every", 1))
    return {
        "counts": counts, "pid": int(found["pid"]), "every": every,
        "objects": int(found.get("objects", sum(counts.values()))), "declined": found.get("declined"),
    }  # fmt: skip
