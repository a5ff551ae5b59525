"""Who holds what grows: the containers that gain entries, and the new objects that no container explains."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import itertools
import random
import types
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pytest_memleak.diagnosis import containers, known, retention
from pytest_memleak.diagnosis.allocations import Places, as_site
from pytest_memleak.diagnosis.reach import Fresh
from pytest_memleak.diagnosis.source import is_ours, module_name
from pytest_memleak.model import Holder, Site

# Each costs a search of 30 ms. Under a load of many endpoints the registries of threads and executors, which gain
# most, must not crowd out the user's own containers.
_CONTAINERS: Final = 24
_SAMPLES: Final = 5
_LOOSE: Final = 3
# Placing one takes up to 0.3 ms (its parts are asked where it has no trace itself); calls that keep mocks make
# half a million.
_MOST_LOOSE: Final = 5_000

# Lists of functions that no Python object refers to.
_INTERPRETERS_LISTS: Final = "a list of the interpreter's own (os.register_at_fork, codecs.register)"

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


def find(
    census: containers.Census, new: list[Any], fresh: Fresh, calls: int, least: int, roots: Mapping[int, str]
) -> Held:
    """Find who holds the growth of `calls` calls. `new` are the objects made meanwhile; the heap is thawed.

    `least` is how many entries or objects are more than chance.
    """
    growing = [pair for pair in containers.growing(census, least) if pair[0] is not new]
    counts = collections.Counter(map(id, map(type, new)))
    crowds = frozenset(kind for kind, count in counts.items() if count >= least)
    search = _Search(
        roots=roots,
        ours=(growing, new, counts, *retention.own_generators()),
        passing=retention.passing_objects(crowds),
        fresh=fresh,
    )
    kept, known_kept, notes = [], [], []
    for container, gain in growing[:_CONTAINERS]:
        one = _kept(container, gain / calls, search)
        reason = known.recorder_of(container) or one.holder.bound
        if reason:
            known_kept.append(one)
            notes.append(f"known growth: {one.holder.name} ({reason})")
        else:
            kept.append(one)
    explained = frozenset[Places]().union(*(one.explained for one in known_kept))
    # A container that gains entries is the answer; what else is new hangs on it, or is next to nothing.
    loose = [] if kept else _loose(new, calls, least, explained, search)
    growing.clear()
    return Held(kept=tuple(kept), known=tuple(known_kept), loose=tuple(loose), notes=tuple(notes))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What every search for a path needs: named roots, our own objects, what is no owner, what is new."""

    roots: Mapping[int, str]
    ours: tuple[object, ...]
    passing: list[int]
    fresh: Fresh

    def path_to(self, obj: object, *ignore: object) -> retention.Path:
        return retention.path_to(obj, self.roots, (*self.ours, self.passing, *ignore), self.passing)


def _kept(container: Any, per_call: float, search: _Search) -> Kept:
    fresh = search.fresh
    length = containers.length_of(container) or 0
    path = search.path_to(container)
    newest = (entry for entry in containers.entries(container) if any(map(fresh.is_new, entry)))
    samples = list(itertools.islice(newest, _SAMPLES))
    reached = [fresh.reach(entry) for entry in samples]
    mean = sum(size for size, _ in reached) / len(samples) if samples else 0.0
    callbacks = sum(_is_callback(entry[0]) for entry in samples)
    is_callbacks = callbacks * 2 > len(samples) > 0
    is_lru_cache = type(container) is containers.LRU_CACHE
    name = path.name
    if is_lru_cache:
        name = _wrapper_name(container)
    elif is_callbacks and type(container) is list and not path.rooted:
        name = _INTERPRETERS_LISTS
    holder = Holder(
        name=name,
        kind="lru_cache" if is_lru_cache else type(container).__name__,
        entries_per_call=per_call,
        length=length,
        retained_bytes=round(containers.own_size(container) + length * mean),
        path=path.labels,
        suspect=len(path.labels) - 1,
        bound=known.bound_of(container, length),
    )
    names = collections.Counter(type_name(entry[0]) for entry in samples)
    return Kept(
        holder=holder,
        site=_commonest_site(samples, fresh),
        types=", ".join(name for name, _ in names.most_common(2)),
        bytes_per_entry=mean,
        table_bytes_per_entry=containers.own_size(container) / max(1, length),
        explained=frozenset[Places]().union(*(places for _, places in reached)),
        callables=is_callbacks,
        is_users=path.rooted and path.is_users,
    )


def _commonest_site(samples: Sequence[tuple[Any, ...]], fresh: Fresh) -> Site | None:
    """Where most of the sampled entries were allocated: the value if it is new, else the key."""
    found: collections.Counter[Places] = collections.Counter()
    for entry in samples:
        places = fresh.places_of(next(part for part in entry if fresh.is_new(part)))
        if places is not None:
            found[places] += 1
    return as_site(found.most_common(1)[0][0]) if found else None


def _wrapper_name(wrapper: Any) -> str:
    function = getattr(wrapper, "__wrapped__", wrapper)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', 'a function')}"


def _loose(new: list[Any], calls: int, least: int, explained: frozenset[Places], search: _Search) -> list[Loose]:
    groups: dict[tuple[str, Places], list[Any]] = collections.defaultdict(list)
    # Drawn, since every tenth of what each call makes ten of would be the same one.
    drawn = new if len(new) <= _MOST_LOOSE else random.Random(0).sample(new, _MOST_LOOSE)
    share = len(drawn) / max(1, len(new))
    for obj in drawn:
        places = None if issubclass(type(obj), weakref.ref) else search.fresh.places_of(obj)
        if places is not None and places not in explained:
            groups[type_name(obj), places].append(obj)
    found: list[Loose] = []
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] in _INNER_TYPES, -len(item[1])))
    for (name, places), members in ordered:
        if len(members) < least * share or len(found) == _LOOSE:
            continue
        # One from the middle: the last may still be held by a frame, the first by a warm-up.
        sample = members[len(members) // 2]
        reached = frozenset(search.fresh.reach((sample,))[1]) | {places}
        if any(reached & loose.explained for loose in found):
            continue
        own = (*search.ours, drawn, members, groups, ordered)
        path = search.path_to(sample, *own)
        found.append(
            Loose(
                type_name=name,
                count_per_call=len(members) / share / calls,
                site=as_site(places),
                path=path,
                held_by_callback=not path.rooted and _is_held_by_callback(sample, own),
                explained=reached,
            )
        )
        del sample
    for members in groups.values():
        members.clear()
    return found


def _is_held_by_callback(obj: Any, ignore: Sequence[object]) -> bool:
    ignored = {id(thing) for thing in ignore}
    owners = [owner for owner in gc.get_referrers(obj) if id(owner) not in ignored]
    kinds = (types.MethodType, types.FunctionType, types.CellType)
    return any(issubclass(type(owner), kinds) for owner in owners)


def type_name(obj: object) -> str:
    """A type as the report names it: the bare name of a built-in one, else with its module."""
    kind = type(obj)
    module = module_name(kind)
    if module in ("", "builtins"):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def _is_callback(obj: object) -> bool:
    return issubclass(type(obj), (types.FunctionType, types.MethodType, functools.partial))


def _is_own(obj: Any) -> bool:
    if type(obj) is types.FrameType:
        return is_ours(obj.f_code.co_filename)
    return type_name(obj).startswith(("pytest_memleak.", "tracemalloc."))
