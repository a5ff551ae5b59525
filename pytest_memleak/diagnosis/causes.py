"""From findings to causes: handles, containers and loose objects that show one leak are told as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from pytest_memleak.diagnosis.allocations import Places
from pytest_memleak.diagnosis.handles import Opened
from pytest_memleak.diagnosis.holders import Held, Kept, Loose
from pytest_memleak.diagnosis.source import Place, is_users
from pytest_memleak.model import Holder, Leak, Resource, Site
from pytest_memleak.patterns import catalogue
from pytest_memleak.patterns.match import pattern_of
from pytest_memleak.units import format_bytes

_SITES = 3
# What an entry costs beside what it keeps, wherever its container asks for it: the link and the key of an
# lru_cache and its place in the table, 219 B in all (3.12), and half of that again.
_ENTRY_BYTES = 330


NATIVE: Final = "native memory, allocated outside Python by a C library or an extension"
"""What a leak of the C heap is called."""


def causes(opened: Sequence[Opened], held: Held, sites: list[Site], memory_bytes: float) -> list[Leak]:
    """The leaks, the likeliest cause first.

    `memory_bytes` is the weighed growth per call. What leaks with a descriptor, thread or task is part of
    that leak: its container becomes the holder, and no second leak is made of it.
    """
    kept = _merged(held.kept)
    leaks = []
    for one in opened:
        own = [other for other in kept if _belongs(one, other)]
        leaks.append(_with_holder(one.leak, own))
        kept = [other for other in kept if other not in own]
    if leaks:
        # The registries of threads, executors and loops grow with what is registered in them.
        kept = [other for other in kept if _is_of_user(other)]
    elif any(other.is_users for other in kept):
        kept = [other for other in kept if _is_of_user(other)]
    leaks += [_container_leak(other, sites) for other in kept]
    if not leaks:
        leaks += [_loose_leak(loose, sites) for loose in held.loose]
    unheld = unexplained(held, sites)
    if not leaks and unheld:
        leaks.append(_unheld_leak(unheld, memory_bytes))
    return ranked(leaks)


def unexplained(held: Held, sites: Sequence[Site]) -> list[Site]:
    """The sites that no known growth explains; none where known growth is the larger part.

    Beside a bounded cache that fills there are always some bytes of others that come and go.
    """
    places = frozenset[Places]().union(*(known.explained for known in held.known))
    rest = [site for site in sites if (site.place, site.inner_place) not in places]
    known_bytes = sum(
        (known.bytes_per_entry + known.table_bytes_per_entry + _ENTRY_BYTES) * known.holder.entries_per_call
        for known in held.known
    )
    return rest if sum(site.bytes_per_call for site in rest) > known_bytes else []


def native_leak(bytes_per_call: float, details: Sequence[str], sites: Sequence[Site] = ()) -> Leak:
    """Growth of the C heap that Python's allocators do not show."""
    return Leak(
        what=NATIVE,
        resource=Resource.MEMORY,
        bytes_per_call=bytes_per_call,
        sites=tuple(sites),
        fix="free what the C code returned, or update the extension",
        details=tuple(details),
    )


def ranked(leaks: Iterable[Leak]) -> list[Leak]:
    """Descriptors, threads and tasks first, then the user's own line, then the most bytes; one per place."""

    def weight(leak: Leak) -> tuple[bool, bool, float]:
        own = bool(leak.sites) and not leak.sites[0].frame.is_library
        return leak.resource in (Resource.MEMORY, Resource.OBJECTS), not own, -leak.bytes_per_call

    kept: dict[str, Leak] = {}
    for leak in sorted(leaks, key=weight):
        kept.setdefault(str(leak.sites[0].frame) if leak.sites else leak.what, leak)
    return list(kept.values())


def _belongs(one: Opened, kept: Kept) -> bool:
    """Whether a container's entries are what keeps (or is kept by) a handle."""
    own = one.leak.sites[0].place if one.leak.sites else None
    return _are_one(own, one.explained, kept)


def _are_one(own: Place | None, explained: frozenset[Places], kept: Kept) -> bool:
    """Whether what was allocated at `own`, and keeps `explained`, and a container's entries are one leak.

    The line of one is among the lines of the other. That both keep something that the same library allocated says
    nothing where several endpoints are observed at once.
    """
    lines, kept_lines = ({places[0] for places in every} for every in (explained, kept.explained))
    if own is None or kept.site is None or not (is_users(own[0]) and is_users(kept.site.place[0])):
        return bool(explained & kept.explained)
    return own in kept_lines or kept.site.place in lines


def _with_holder(leak: Leak, own: Sequence[Kept]) -> Leak:
    # That a thread stands in threading's table of threads explains nothing.
    holders = sorted((kept for kept in own if kept.is_users), key=lambda kept: -kept.bytes_per_entry)
    if not holders:
        return leak
    first = holders[0]
    return dataclasses.replace(
        leak,
        holder=first.holder,
        also_held_by=tuple(kept.holder.name for kept in holders[1:_SITES]),
        bytes_per_call=first.bytes_per_entry * first.holder.entries_per_call,
    )


def _is_of_user(kept: Kept) -> bool:
    """Whether a container is the user's, or the one registry of the interpreter's that itself keeps objects alive."""
    return kept.is_users or kept.holder.name.startswith("weakref.finalize")


def _merged(kept: Sequence[Kept]) -> list[Kept]:
    """Containers whose entries come from one place are one leak: the user's own stands for all."""
    merged: list[Kept] = []
    for one in sorted(kept, key=lambda one: (not one.is_users, -one.bytes_per_entry * one.holder.entries_per_call)):
        own = one.site.place if one.site else None
        if not any(_are_one(own, one.explained, other) for other in merged):
            merged.append(one)
    return merged


def _container_leak(kept: Kept, sites: list[Site]) -> Leak:
    name, fix = pattern_of(kept.holder, kept.callables)
    return Leak(
        what=kept.types or "entries",
        count_per_call=kept.holder.entries_per_call,
        resource=Resource.MEMORY,
        sites=_sites_of(kept, sites),
        holder=kept.holder,
        pattern=name,
        fix=fix,
        bytes_per_call=kept.bytes_per_entry * kept.holder.entries_per_call,
    )


def _sites_of(kept: Kept, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The entry's own line first, with its share of the growth, then the others that fill the entry."""
    lines = {places[0] for places in kept.explained}
    related = [site for site in sites if site.place in lines]
    own_line = str(kept.site.frame) if kept.site else ""
    first = next((site for site in related if str(site.frame) == own_line), kept.site)
    rest = [site for site in related if first is None or str(site.frame) != str(first.frame)]
    ordered = [site for site in (first, *rest) if site is not None]
    return tuple(sorted(ordered, key=lambda site: site.frame.is_library)[:_SITES])


def _loose_leak(loose: Loose, sites: Sequence[Site]) -> Leak:
    line = str(loose.site.frame)
    site = next((site for site in sites if str(site.frame) == line), loose.site)
    leak = Leak(
        what=loose.type_name,
        count_per_call=loose.count_per_call,
        resource=Resource.MEMORY,
        sites=(site,),
        bytes_per_call=sum(site.bytes_per_call for site in sites if str(site.frame) == line),
    )
    if loose.path.rooted:
        labels = loose.path.labels
        holder = Holder(name=loose.path.name, kind="reference", path=labels, suspect=max(0, len(labels) - 2))
        return dataclasses.replace(leak, holder=holder, fix="drop this reference when the request is done")
    if loose.held_by_callback:
        return dataclasses.replace(
            leak,
            pattern="circular_reference",
            fix=catalogue.BY_NAME["circular_reference"].fix,
            details=("a callback holds its owner, and C code holds the callback: the collector cannot see the circle",),
        )
    return dataclasses.replace(
        leak,
        fix="a C extension keeps a reference: update it, or close what it handed out",
        details=("nothing that Python can see refers to it, so the collector cannot free it",),
    )


def _unheld_leak(sites: Sequence[Site], memory_bytes: float) -> Leak:
    return Leak(
        what=f"memory that no Python container is seen to hold ({format_bytes(memory_bytes)} in all)",
        resource=Resource.MEMORY,
        sites=tuple(sites[:_SITES]),
        bytes_per_call=memory_bytes,
        fix="look for what this line stores: an attribute, a closure, or a C extension that keeps a reference",
    )
