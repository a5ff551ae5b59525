"""Who holds what grows: the containers that gain entries, and the new objects that no container explains."""

from __future__ import annotations

import collections
import dataclasses
import gc
import itertools
import types
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pytest_memleak.diagnosis import containers, known, retention
from pytest_memleak.diagnosis.allocations import Places, as_site
from pytest_memleak.diagnosis.reach import is_traced, places_of, reach
from pytest_memleak.diagnosis.source import is_ours, module_name
from pytest_memleak.model import Holder, Site

_CONTAINERS: Final = 8
_SAMPLES: Final = 5
_LOOSE: Final = 3

# Types that stand inside the instances which explain more, and references that hold nothing.
_INNER_TYPES: Final = (
    "dict",
    "list",
    "tuple",
    "set",
    "cell",
    "function",
    "method",
    "builtin_function_or_method",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A growing container with what its new entries keep: text and numbers only."""

    holder: Holder
    site: Site | None
    types: str
    bytes_per_entry: float
    table_bytes_per_entry: float
    explained: frozenset[Places]
    callables: bool
    is_users: bool
    """Whether the path begins in the user's own module or fixture, not in a library's registry."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """New objects of one type and place that no growing container explains."""

    type_name: str
    count_per_call: float
    site: Site
    path: retention.Path
    held_by_callback: bool
    explained: frozenset[Places]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What holds the growth; `known` are containers whose growth is no leak, told by `notes`."""

    kept: tuple[Kept, ...]
    known: tuple[Kept, ...]
    loose: tuple[Loose, ...]
    notes: tuple[str, ...]


def new_objects() -> list[Any]:
    """The tracked objects that are new since the freeze, without this package's own."""
    return [obj for obj in gc.get_objects() if not _is_own(obj)]


def find(census: containers.Census, new: list[Any], calls: int, least: int, roots: Mapping[int, str]) -> Held:
    """Find who holds the growth of `calls` calls. `new` are the objects made meanwhile; the heap is thawed.

    `least` is how many entries or objects are more than chance.
    """
    growing = [pair for pair in containers.growing(census, least) if pair[0] is not new]
    ours = (growing, new, *retention.own_generators())
    kept, known_kept, notes = [], [], []
    for container, gain in growing[:_CONTAINERS]:
        one = _kept(container, gain / calls, roots, ours)
        reason = known.recorder_of(container) or one.holder.bound
        if reason:
            known_kept.append(one)
            notes.append(f"known growth: {one.holder.name} ({reason})")
        else:
            kept.append(one)
    explained = frozenset[Places]().union(*(one.explained for one in (*kept, *known_kept)))
    loose = _loose(new, calls, least, explained, roots, ours)
    growing.clear()
    return Held(kept=tuple(kept), known=tuple(known_kept), loose=tuple(loose), notes=tuple(notes))


def _kept(container: Any, per_call: float, roots: Mapping[int, str], ours: Sequence[object]) -> Kept:
    wrapper = known.lru_cache_around(container)
    length = containers.length_of(container) or 0
    path = retention.path_to(container if wrapper is None else wrapper, roots, ours)
    fresh = (entry for entry in containers.entries(container) if any(map(is_traced, entry)))
    samples = list(itertools.islice(fresh, _SAMPLES))
    reached = [reach(entry) for entry in samples]
    mean = sum(size for size, _ in reached) / len(samples) if samples else 0.0
    callbacks = sum(_is_callback(entry[0]) for entry in samples)
    holder = Holder(
        name=path.name if wrapper is None else _wrapper_name(wrapper),
        kind=type(container).__name__ if wrapper is None else "lru_cache",
        entries_per_call=per_call,
        length=length,
        retained_bytes=round(containers.own_size(container) + length * mean),
        path=path.labels,
        suspect=len(path.labels) - 1,
        bound=known.bound_of(container, length),
    )
    return Kept(
        holder=holder,
        site=_commonest_site(samples),
        types=", ".join(
            name for name, _ in collections.Counter(type_name(entry[0]) for entry in samples).most_common(2)
        ),
        bytes_per_entry=mean,
        table_bytes_per_entry=containers.own_size(container) / max(1, length),
        explained=frozenset[Places]().union(*(places for _, places in reached)),
        callables=callbacks * 2 > len(samples) > 0,
        is_users=path.rooted and path.is_users,
    )


def _commonest_site(samples: Sequence[tuple[Any, ...]]) -> Site | None:
    """Where most of the sampled entries were allocated: the value if it is new, else the key."""
    found: collections.Counter[Places] = collections.Counter()
    for entry in samples:
        places = places_of(next(part for part in entry if is_traced(part)))
        if places is not None:
            found[places] += 1
    return as_site(found.most_common(1)[0][0]) if found else None


def _wrapper_name(wrapper: Any) -> str:
    function = getattr(wrapper, "__wrapped__", wrapper)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', 'a function')}"


def _loose(
    new: list[Any],
    calls: int,
    least: int,
    explained: frozenset[Places],
    roots: Mapping[int, str],
    ours: Sequence[object],
) -> list[Loose]:
    groups: dict[tuple[str, Places], list[Any]] = collections.defaultdict(list)
    for obj in new:
        places = None if isinstance(obj, weakref.ref) else places_of(obj)
        if places is not None and places not in explained:
            groups[type_name(obj), places].append(obj)
    found: list[Loose] = []
    for (name, places), members in sorted(groups.items(), key=lambda item: (item[0][0] in _INNER_TYPES, -len(item[1]))):
        if len(members) < least or len(found) == _LOOSE or any(places in loose.explained for loose in found):
            continue
        # One from the middle: the last may still be held by a frame, the first by a warm-up.
        sample = members[len(members) // 2]
        ignore = (*ours, members, groups)
        path = retention.path_to(sample, roots, ignore)
        found.append(
            Loose(
                type_name=name,
                count_per_call=len(members) / calls,
                site=as_site(places),
                path=path,
                held_by_callback=not path.rooted and _is_held_by_callback(sample, ignore),
                explained=frozenset(reach((sample,))[1]),
            )
        )
        del sample
    for members in groups.values():
        members.clear()
    return found


def _is_held_by_callback(obj: Any, ignore: Sequence[object]) -> bool:
    ignored = {id(thing) for thing in ignore}
    owners = [owner for owner in gc.get_referrers(obj) if id(owner) not in ignored]
    return any(isinstance(owner, (types.MethodType, types.FunctionType, types.CellType)) for owner in owners)


def type_name(obj: object) -> str:
    """A type as the report names it: the bare name of a built-in one, else with its module."""
    kind = type(obj)
    module = module_name(kind)
    if module in ("", "builtins"):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def _is_callback(obj: object) -> bool:
    return isinstance(obj, (types.FunctionType, types.MethodType)) or type(obj).__name__ == "partial"


def _is_own(obj: Any) -> bool:
    if type(obj) is types.FrameType:
        return is_ours(obj.f_code.co_filename)
    return type_name(obj).startswith(("pytest_memleak.", "tracemalloc."))
