"""The join: what other files know turns suspects into findings, or drops them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver, Finding, ScanWarning, Severity
from pytest_memleak.patterns.catalogue import BY_NAME
from pytest_memleak.scan import suppressions
from pytest_memleak.scan.one import Scanned
from pytest_memleak.scan.reach import reached

_ORDER: Final = ("HIGH", "MEDIUM", "LOW")


class Cleared:
    """What each file empties, closes and stops.

    A name matches its own end: where folders have no `__init__.py`, one file knows `cache.SEEN` and another
    `app.cache.SEEN`; and `app.store.Store.entries` is `Store.entries` to the class's own file.
    """

    def __init__(self, files: Iterable[Scanned]) -> None:
        self._by_end: dict[str, list[tuple[str, str]]] = {}
        for file in files:
            for fact in file.facts.clears:
                self._by_end.setdefault(_end(fact), []).append((fact, file.shown))

    def __call__(self, fact: str, own: str) -> bool:
        """Whether a file other than `own`, which its rule has read, states a fact."""
        kind, _, name = fact.partition(":")
        for known, path in self._by_end.get(_end(fact), ()):
            if path == own:
                continue
            other = known.partition(":")[2]
            if known == fact or ("*" not in fact and _alike(name, other)):
                return kind == known.partition(":")[0]
        return False


def _end(fact: str) -> str:
    kind, _, name = fact.partition(":")
    return f"{kind}:{'.'.join(name.split('.')[-2:])}"


def _alike(one: str, other: str) -> bool:
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def severity_of(pattern: str, driver: Driver) -> Severity:
    """What drives the growth weighs as much as the pattern."""
    own = Severity(BY_NAME[pattern].severity)
    if driver is Driver.REQUEST:
        return Severity(_ORDER[max(0, _ORDER.index(own) - 1)])
    if driver is Driver.INSTANCE:
        return Severity.MEDIUM if own is Severity.HIGH else own
    return Severity.LOW if driver is Driver.IMPORT else own


def joined(files: Sequence[Scanned], active: Collection[str]) -> tuple[list[Finding], list[ScanWarning]]:
    """The findings of all files, and a warning for each comment that takes back nothing; `active` are the codes."""
    cleared = Cleared(files)
    endpoints = reached(file.facts for file in files)
    found: list[Finding] = []
    warnings: list[ScanWarning] = []
    for file in files:
        open_ = []
        for lead in file.leads:
            finding = lead.finding
            if finding.code in active and not any(cleared(fact, file.shown) for fact in lead.unless):
                open_.append((_weighed(finding, file.facts.name, endpoints), lead.lines))
        kept, unused = suppressions.apply(open_, file.comments, active)
        found += kept
        warnings += [
            ScanWarning(path=file.shown, reason=f"unused {comment} at {comment.at}: remove it", is_unread=False)
            for comment in unused
        ]
    return found, warnings


def _weighed(finding: Finding, module: str, endpoints: dict[str, tuple[str, ...]]) -> Finding:
    driver, symbol = finding.driver, finding.symbol
    ways: tuple[str, ...] = ()
    if endpoints and symbol and driver in (Driver.CALL, Driver.INSTANCE, Driver.REQUEST):
        ways = endpoints.get(f"{module}.{symbol}" if module else symbol, ())
        driver = Driver.REQUEST if ways else driver
    return dataclasses.replace(finding, driver=driver, severity=severity_of(finding.pattern, driver), endpoints=ways)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Confirmed, then by severity, confidence and place."""
    return tuple(sorted(findings, key=_rank))


def _rank(finding: Finding) -> tuple[bool, int, int, str, int, int, int, str]:
    return (
        not finding.confirmed,
        _ORDER.index(finding.severity.value),
        [confidence.value for confidence in Confidence].index(finding.confidence.value),
        finding.path,
        finding.cell or 0,
        finding.line,
        finding.column,
        finding.code,
    )
