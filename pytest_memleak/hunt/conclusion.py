"""From judgements and findings to the result: what is known is taken out, what moved RSS is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import psutil

from pytest_memleak.diagnosis import known
from pytest_memleak.diagnosis.inquiry import Findings
from pytest_memleak.model import Budget, Judgement, Leak, Outcome, Resource, Round, RssAccount
from pytest_memleak.probes.catalogue import Probes, read_uss
from pytest_memleak.probes.ledger import Ledger
from pytest_memleak.units import MB, format_bytes
from pytest_memleak.verdict import exact

# RSS that moved by less than this is what the allocator's arenas round to.
_RSS_WORTH_A_WORD: Final = 8 * MB

# A table of rounds that a reader takes in at a glance.
_TABLE_ROWS: Final = 12


def final_judgements(
    judgements: Sequence[Judgement], findings: Findings, budget: Budget, ignored: Sequence[str]
) -> tuple[Judgement, ...]:
    """The judgements with weighed bytes, with known growth taken out, and with doubt where it did not repeat."""
    leaks, covered = without_ignored(findings, ignored)
    explained = {_group(leak.resource) for leak in leaks}
    known_groups = {_group(resource) for resource in findings.known} | {_group(leak.resource) for leak in covered}
    return tuple(
        _final(judgement, findings, budget, is_known=_group(judgement.resource) in known_groups - explained)
        if judgement.outcome is Outcome.LEAK
        else _with_weight(judgement, findings)
        for judgement in judgements
    )


def _final(judgement: Judgement, findings: Findings, budget: Budget, *, is_known: bool) -> Judgement:
    if judgement.resource is Resource.MEMORY and findings.memory is not None:
        judgement = exact.weighed(judgement, findings.memory, budget)
    if judgement.outcome is not Outcome.LEAK:
        return judgement
    if judgement.resource not in findings.shown_again:
        why = "growth was confirmed, but did not show again under diagnosis"
        return dataclasses.replace(judgement, outcome=Outcome.INCONCLUSIVE, why=why)
    if is_known:
        return dataclasses.replace(judgement, outcome=Outcome.CLEAN, why="all of its growth is known")
    return judgement


def _with_weight(judgement: Judgement, findings: Findings) -> Judgement:
    """Memory that is not convicted itself, in weighed bytes when another resource's leak was diagnosed."""
    if judgement.resource is not Resource.MEMORY or findings.memory is None:
        return judgement
    return dataclasses.replace(judgement, growth=findings.memory)


def _group(resource: Resource) -> Resource:
    """Memory and objects are two views of one growth."""
    return Resource.MEMORY if resource is Resource.OBJECTS else resource


def without_ignored(findings: Findings, ignored: Sequence[str]) -> tuple[list[Leak], list[Leak]]:
    """The leaks that count, and those that the user's list covers."""
    kept: list[Leak] = []
    covered: list[Leak] = []
    for leak in findings.leaks:
        (covered if known.is_ignored(leak, ignored) else kept).append(leak)
    return kept, covered


class RssWatch:
    """What RSS, USS and the C heap gained since they were first read."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._rss = probes.now("rss")
        self._uss = read_uss()
        self._native = probes.now("native")

    def gained(self) -> int:
        """Bytes of RSS."""
        return self._probes.now("rss") - self._rss

    def account(self, outcome: Outcome) -> RssAccount | None:
        """The whole account; where live memory is flat and RSS is not, the allocator is asked to trim."""
        if "rss" not in self._probes.read:
            return None
        rss = self.gained()
        uss = read_uss()
        native = self._probes.now("native") - self._native if "native" in self._probes.read else None
        trimmed = None
        if outcome is Outcome.CLEAN and rss > _RSS_WORTH_A_WORD and hasattr(psutil, "heap_trim"):
            before = self._probes.now("rss")
            psutil.heap_trim()
            trimmed = before - self._probes.now("rss")
        return RssAccount(
            rss_bytes=rss,
            uss_bytes=None if uss is None or self._uss is None else uss - self._uss,
            native_bytes=native,
            trimmed_bytes=trimmed,
        )


def rss_notes(account: RssAccount | None, outcome: Outcome) -> list[str]:
    """The sentence that people who watch RSS are waiting for."""
    if account is None or outcome is not Outcome.CLEAN or account.rss_bytes <= _RSS_WORTH_A_WORD:
        return []
    returned = (
        f"; heap_trim gave back {format_bytes(account.trimmed_bytes)}" if account.trimmed_bytes is not None else ""
    )
    return [
        f"RSS grew {format_bytes(account.rss_bytes)} while live memory is flat: fragmentation, not a leak{returned}"
    ]


def table(ledger: Ledger, probes: Probes) -> tuple[Round, ...]:
    """The rounds as changes since the baseline, at most a dozen lines of them."""
    rows: Sequence[int] = range(ledger.length)
    if ledger.length > _TABLE_ROWS:
        step = -(-(ledger.length - 1) // (_TABLE_ROWS - 2))
        rows = [*range(0, ledger.length - 1, step), ledger.length - 1]

    def change(signal: str, row: int) -> int | None:
        column = ledger.columns[signal]
        return column[row] - column[0] if signal in probes.read else None

    return tuple(
        Round(
            calls=ledger.calls[row] - ledger.calls[0],
            blocks=change("blocks", row),
            objects=change("objects", row),
            native_bytes=change("native", row),
            rss_bytes=change("rss", row),
        )
        for row in rows
    )
