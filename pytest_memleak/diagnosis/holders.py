"""Joins what grows with who holds it: growing containers, their new entries, and what nothing visible holds."""

from __future__ import annotations

import collections
import dataclasses
import gc
import itertools
import tracemalloc
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pytest_memleak.diagnosis import containers, known, retention, source
from pytest_memleak.diagnosis.allocations import Places
from pytest_memleak.model import Holder, Leak, Resource, Site
from pytest_memleak.patterns.match import pattern_of

_CONTAINERS: Final = 8
_SAMPLES: Final = 5
_REACH: Final = 2_000
"""Objects looked at below one entry: an entry that keeps more is described by these."""

# The tables in which threads, tasks and loops are registered grow with them; the leak is the thread's.
_REGISTRIES: Final = ("threading.", "asyncio.", "concurrent.futures.", "_weakrefset", "weakref", "selectors", "anyio.")


@dataclasses.dataclass(slots=True, kw_only=True)
class Kept:
    """A growing container with what its new entries keep: text and numbers only."""

    holder: Holder
    site: Site | None
    types: str
    bytes_per_entry: float
    table_bytes_per_entry: float
    explained: set[Places]
    callables: bool
    registry: bool


@dataclasses.dataclass(slots=True, kw_only=True)
class Held:
    """What holds the growth. `loose` are types without a growing container, with a path of a sample."""

    kept: list[Kept]
    known_kept: list[Kept]
    loose: list[Loose]
    notes: list[str]


@dataclasses.dataclass(slots=True, kw_only=True)
class Loose:
    """New objects of one type and site that no growing container explains."""

    type_name: str
    count_per_call: float
    places: Places
    site: Site | None
    path: retention.Path
    top_is_callback: bool


def new_objects() -> list[Any]:
    """The tracked objects that are new since the freeze, without this package's own."""
    return [obj for obj in gc.get_objects() if not _is_own(obj)]


def find(census: containers.Census, new: list[Any], calls: int, least: int, roots: Mapping[int, str]) -> Held:
    """Find who holds the growth of `calls` calls. `new` are the objects made meanwhile; the heap is thawed.

    `least` is how many entries or objects are more than chance.
    """
    held = Held(kept=[], known_kept=[], loose=[], notes=[])
    growing = [pair for pair in containers.growing(census, least) if pair[0] is not new]
    ours = (growing, new, *retention.own_generators())
    for container, gain in growing[:_CONTAINERS]:
        kept = _kept(container, gain / calls, roots, ignore=ours)
        reason = known.recorder_of(container) or kept.holder.bound
        if reason:
            held.known_kept.append(kept)
            held.notes.append(f"known growth: {kept.holder.name} ({reason})")
        else:
            held.kept.append(kept)
    explained = set().union(*(kept.explained for kept in (*held.kept, *held.known_kept)))
    held.loose = _loose(new, calls, least, explained, roots, ignore=ours)
    del growing[:]
    return held




def memory_leaks(held: Held, sites: list[Site], bytes_per_call: float, native_only: bool) -> list[Leak]:
    """The leaks of memory and objects: one per container, then one per site that nothing visible holds."""
    if native_only:
        return [
            Leak(
                what="native memory, allocated outside Python's allocators by a C library or an extension",
                resource=Resource.MEMORY,
                bytes_per_call=bytes_per_call,
                fix="free what the C code returned, or update the extension; with memray installed the line is named",
            )
        ]
    leaks = [_container_leak(kept, sites) for kept in _merged(held.kept)]
    taken = set().union(*(kept.explained for kept in (*held.kept, *held.known_kept)))
    taken_lines = {source.shown_path(own[0]) + f":{own[1]}" for own, _ in taken}
    for loose in held.loose:
        leaks.append(_loose_leak(loose, sites))
        if loose.site:
            taken_lines.add(str(loose.site.frame))
    if not leaks and not held.known_kept:
        rest = [site for site in sites if str(site.frame) not in taken_lines]
        if rest:
            leaks.append(
                Leak(
                    what="memory that no Python container is seen to hold",
                    resource=Resource.MEMORY,
                    sites=tuple(rest[:3]),
                    bytes_per_call=bytes_per_call,
                    fix="look for what this line stores: an attribute, a closure, or a C extension that keeps a reference",
                )
            )
    return leaks


def ranked(leaks: Iterable[Leak]) -> list[Leak]:
    """The likeliest cause first: whole resources, then the user's own line, then the most bytes.

    Leaks that share their site are one leak seen twice; a descriptor, thread or task takes its holder from
    the memory that leaks with it.
    """

    def weight(leak: Leak) -> tuple[bool, bool, float]:
        return leak.resource in (Resource.MEMORY, Resource.OBJECTS), not _is_own_site(leak.sites), -leak.bytes_per_call

    kept: dict[str, Leak] = {}
    for leak in sorted(leaks, key=weight):
        place = str(leak.sites[0].frame) if leak.sites else leak.what
        first = kept.get(place)
        if first is None:
            kept[place] = leak
        elif first.holder is None:
            kept[place] = dataclasses.replace(first, holder=leak.holder, bytes_per_call=leak.bytes_per_call)
    return list(kept.values())


def _is_own_site(sites: Sequence[Site]) -> bool:
    return bool(sites) and not sites[0].frame.is_library


def _kept(container: Any, per_call: float, roots: Mapping[int, str], ignore: tuple[object, ...]) -> Kept:
    wrapper = known.lru_cache_around(container)
    length = containers.length_of(container) or 0
    path = retention.path_to(container if wrapper is None else wrapper, roots, ignore)
    sizes: list[int] = []
    explained: set[Places] = set()
    sites: collections.Counter[Places] = collections.Counter()
    names: collections.Counter[str] = collections.Counter()
    callables = 0
    fresh = (entry for entry in containers.entries(container) if any(_is_traced(part) for part in entry))
    for entry in itertools.islice(fresh, _SAMPLES):
        size, reached = _reach(entry)
        sizes.append(size)
        explained |= reached
        part = next(part for part in entry if _is_traced(part))
        places = _places(part)
        if places is not None:
            sites[places] += 1
        names[_type_name(entry[0])] += 1
        callables += _is_callback(entry[0])
    top = sites.most_common(1)
    name = _wrapper_name(wrapper) if wrapper is not None else path.name
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    kind = "lru_cache" if wrapper is not None else type(container).__name__
    return Kept(
        holder=Holder(
            name=name,
            kind=kind,
            entries_per_call=per_call,
            length=length,
            retained_bytes=round(containers.own_size(container) + length * mean),
            path=path.labels,
            suspect=len(path.labels) - 1,
            bound=known.bound_of(container, length),
        ),
        site=_as_site(top[0][0]) if top else None,
        types=", ".join(kind for kind, _ in names.most_common(2)),
        bytes_per_entry=mean,
        table_bytes_per_entry=containers.own_size(container) / max(1, length),
        explained=explained,
        callables=callables * 2 > len(sizes) > 0,
        registry=name.startswith(_REGISTRIES),
    )


def _wrapper_name(wrapper: Any) -> str:
    function = getattr(wrapper, "__wrapped__", wrapper)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', 'a function')}"


def _merged(kept: list[Kept]) -> list[Kept]:
    """Containers whose entries come from one place are one leak: the first stands for all."""
    merged: list[Kept] = []
    for one in sorted(kept, key=lambda one: (one.registry, -one.bytes_per_entry * one.holder.entries_per_call)):
        if one.registry and any(not other.registry for other in kept):
            continue
        if not any(one.explained and one.explained & other.explained for other in merged):
            merged.append(one)
    return merged


def _container_leak(kept: Kept, sites: list[Site]) -> Leak:
    lines = {(source.shown_path(own[0]), own[1]) for own, _ in kept.explained}
    first = [kept.site] if kept.site else []
    related = [site for site in sites if (site.frame.path, site.frame.line) in lines]
    if first:
        # The entry's own line leads, with its share of the growth from the snapshots.
        same = [site for site in related if str(site.frame) == str(first[0].frame)]
        first = same[:1] or first
    rest = [site for site in related if str(site.frame) not in {str(site.frame) for site in first}]
    ordered = sorted((*first, *rest), key=lambda site: site.frame.is_library)
    name, fix = pattern_of(kept.holder, kept.callables)
    return Leak(
        what=kept.types or "entries",
        count_per_call=kept.holder.entries_per_call,
        resource=Resource.MEMORY,
        sites=tuple(ordered[:3]),
        holder=kept.holder,
        pattern=name,
        fix=fix,
        bytes_per_call=kept.bytes_per_entry * kept.holder.entries_per_call,
    )


def _loose_leak(loose: Loose, sites: list[Site]) -> Leak:
    site = loose.site
    related = [other for other in sites if site and str(other.frame) == str(site.frame)]
    if loose.path.rooted:
        holder = Holder(name=loose.path.name, kind="reference", path=loose.path.labels, suspect=max(0, len(loose.path.labels) - 2))
        fix, pattern = "drop this reference when the request is done", None
        details: tuple[str, ...] = ()
    else:
        holder = None
        pattern = "circular_reference" if loose.top_is_callback else None
        fix = (
            "a callback that is registered in C code holds its owner: pass it weakly (weakref.ref, weakref.WeakMethod)"
            if loose.top_is_callback
            else "a C extension keeps a reference that Python cannot see: update it, or close what it handed out"
        )
        details = ("nothing that Python can see refers to it: the collector cannot free it",)
    return Leak(
        what=loose.type_name,
        count_per_call=loose.count_per_call,
        resource=Resource.MEMORY,
        sites=tuple(related[:1] or ([site] if site else [])),
        holder=holder,
        pattern=pattern,
        fix=fix,
        bytes_per_call=sum(other.bytes_per_call for other in related),
        details=details,
    )


def _loose(
    new: list[Any], calls: int, least: int, explained: set[Places], roots: Mapping[int, str], ignore: tuple[object, ...]
) -> list[Loose]:
    groups: dict[tuple[str, Places], list[Any]] = collections.defaultdict(list)
    for obj in new:
        if _is_traced(obj):
            places = _places(obj)
            if places is not None and places not in explained:
                groups[_type_name(obj), places].append(obj)
    found = []
    for (type_name, places), members in sorted(groups.items(), key=lambda item: _looseness(item[0][0], len(item[1]))):
        if len(members) < least or len(found) == 3:
            continue
        # One from the middle: the last may still be held by a frame, the first by a warm-up.
        sample = members[len(members) // 2]
        path = retention.path_to(sample, roots, (*ignore, members, groups))
        found.append(
            Loose(
                type_name=type_name,
                count_per_call=len(members) / calls,
                places=places,
                site=_as_site(places),
                path=path,
                top_is_callback=not path.rooted and _held_by_callback(sample, (*ignore, members, groups)),
            )
        )
        del sample, members[:]
    groups.clear()
    return found


def _looseness(type_name: str, count: int) -> tuple[bool, int]:
    """Instances of the program's classes explain more than the dicts and tuples inside them."""
    return type_name in ("dict", "list", "tuple", "set", "cell", "function", "method", "builtin_function_or_method"), -count


def _held_by_callback(obj: Any, ignore: tuple[object, ...]) -> bool:
    ignored = {id(thing) for thing in ignore}
    owners = [owner for owner in gc.get_referrers(obj) if id(owner) not in ignored]
    return any(isinstance(owner, (types.MethodType, types.FunctionType, types.CellType)) for owner in owners)


def _reach(entry: tuple[Any, ...]) -> tuple[int, set[Places]]:
    """Bytes kept by an entry among the objects that are new, and the places that allocated them.

    Only objects that tracemalloc has seen are entered, so the walk stays among what the calls made and
    never comes near the modules whose traversal hangs some interpreters.
    """
    size = 0
    places: set[Places] = set()
    seen: set[int] = set()
    queue = collections.deque(entry)
    while queue and len(seen) < _REACH:
        obj = queue.popleft()
        if id(obj) in seen or not _is_traced(obj) or isinstance(obj, (types.ModuleType, types.FrameType)):
            continue
        seen.add(id(obj))
        size += containers.own_size(obj)
        found = _places(obj)
        if found is not None:
            places.add(found)
        queue.extend(gc.get_referents(obj))
        namespace = retention.instance_dict(obj)
        if namespace is not None:
            queue.append(namespace)
    return size, places


def _is_traced(obj: object) -> bool:
    return tracemalloc.get_object_traceback(obj) is not None


def _places(obj: object) -> Places | None:
    stack = tracemalloc.get_object_traceback(obj)
    return None if stack is None else source.nearest((frame.filename, frame.lineno) for frame in reversed(stack))


def _as_site(places: Places) -> Site:
    own, inner = places
    return Site(frame=source.frame(own), inner=None if inner is None else source.frame(inner))


def _type_name(obj: object) -> str:
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_callback(obj: object) -> bool:
    return isinstance(obj, (types.FunctionType, types.MethodType)) or type(obj).__name__ == "partial"


def _is_own(obj: object) -> bool:
    kind = type(obj)
    if kind is types.FrameType:
        return source.is_ours(obj.f_code.co_filename)  # type: ignore[attr-defined]
    return kind.__module__.startswith(("pytest_memleak", "tracemalloc"))

