"""What runs inside the inspected process: it counts the tracked objects, or looks at samples of some types.

The file is read as text and executed there, in a namespace that is emptied afterwards: standard library only, Python
3.8 on, and nothing of it stays. It runs no code of the user's: no `__repr__`, `__eq__`, `__hash__`, `__len__`, no
metaclass, no property. While it holds references to all objects no other thread gets the interpreter, so that none of
them is released by us instead of by its owner.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not imported there
    from typing import Any


def main(order: "dict[Any, Any]") -> None:
    """Carry out an order (`count` or `look`) and write the answer into the file that it names."""
    missing = [name for name in ("gc", "os", "time", "_thread", "_tracemalloc") if name not in sys.modules]
    import _thread
    import gc
    import os
    import time

    began = time.perf_counter()
    blocks = sys.getallocatedblocks()  # before any of ours
    interrupted = False
    switch_s, collecting = sys.getswitchinterval(), gc.isenabled()
    # No collection while we allocate: it would run finalizers, and count as our pause.
    gc.disable()
    # Longer than most readings take, and short where another thread gets the interpreter once more before it holds.
    sys.setswitchinterval(0.5)
    answer: dict[Any, Any] = {}  # not evaluated: it is a local variable's
    try:
        try:
            answer = _count(order) if order["what"] == "count" else _look(order, time.perf_counter() + order["limit_s"])
        except Exception as error:  # noqa: BLE001  (whatever it is, the target must not see it)
            answer = {"error": type.__dict__["__qualname__"].__get__(type(error))}
        finally:
            sys.setswitchinterval(switch_s)
            if collecting:
                gc.enable()
        answer["collecting"] = collecting
        answer["blocks"] = blocks
        answer["python"] = ".".join(map(str, sys.version_info[:3]))
        answer["pid"] = os.getpid()
        answer["pause_s"] = time.perf_counter() - began
        _write(order["answer"], answer, os)
    except KeyboardInterrupt:
        # A signal's handler ran among our frames: what it raised belongs to the program, and comes again below.
        interrupted = True
    except OSError:
        pass  # whoever asked has gone, and his folder with him
    for name in missing:
        sys.modules.pop(name, None)
    if interrupted:
        # From a thread that waits for the interpreter: it comes when our frames are gone.
        _thread.start_new_thread(_thread.interrupt_main, ())


def _write(path: str, answer: "dict[Any, Any]", os: "Any") -> None:
    part = path + ".part"
    # Plain values only: their repr is Python's own, and json need not be imported.
    data = repr(answer).encode("ascii", "backslashreplace")
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        while data:
            data = data[os.write(number, data) :]
    finally:
        os.close(number)
    os.rename(part, path)


def _count(order: "dict[Any, Any]") -> "dict[Any, Any]":
    """Objects by type; above `most` of them each n-th, scaled up."""
    import gc

    objects = gc.get_objects()
    found = len(objects)
    every = -(-found // order["most"]) or 1
    if every > 1:
        objects = objects[::every]
    by_id: dict[int, int] = {}
    kinds: dict[int, type] = {}
    # In chunks, each a walk in C: a list of all their types at once would double the memory of the list itself.
    for start in range(0, len(objects), 65536):
        for kind in map(type, objects[start : start + 65536]):
            # By identity: a metaclass may have an __eq__ and a __hash__ of the user's.
            number = id(kind)
            if number in by_id:
                by_id[number] += 1
            else:
                by_id[number] = 1
                kinds[number] = kind
    marks = _marked(objects, kinds, order)
    del objects
    counts: dict[str, int] = {}
    for number, count in by_id.items():
        name = _name(kinds[number])
        counts[name] = counts.get(name, 0) + count * every
    kinds.clear()
    return {"counts": counts, "objects": found, "every": every, "marks": marks}


def _marked(objects: "list[Any]", kinds: "dict[int, type]", order: "dict[Any, Any]") -> "dict[str, list[int]]":
    """The addresses of the instances of some types, so that two readings show which are new; at most so many each.

    Of more, those whose address is divisible by something: the same ones at each reading.
    """
    wanted = {number: _name(kind) for number, kind in kinds.items() if _name(kind) in order["mark"]}
    marks: dict[str, list[int]] = {name: [] for name in wanted.values()}
    if not wanted:
        return marks
    for thing in objects:
        name = wanted.get(id(type(thing)))
        if name is not None:
            marks[name].append(id(thing))
    del thing
    for numbers in marks.values():
        divisor = 1
        while len(numbers) > order["most_marks"]:
            divisor *= 2
            numbers[:] = [number for number in numbers if not (number >> 4) % divisor]
    return marks


def _text(value: "Any") -> str:
    """An exact str of what is one, or of a subclass of it, without its own methods."""
    if not issubclass(type(value), str):
        return ""
    return str.encode(value, "ascii", "backslashreplace").decode("ascii")[:200]


def _name(kind: type) -> str:
    """The type's name, with its module unless it is a built-in one."""
    qualified = _text(type.__dict__["__qualname__"].__get__(kind)) or "?"
    try:
        module = _text(type.__dict__["__module__"].__get__(kind))
    except AttributeError:  # deleted by its owner
        module = ""
    return qualified if module in ("", "builtins") else module + "." + qualified


def _look(order: "dict[Any, Any]", deadline: float) -> "dict[Any, Any]":
    """For each type that is asked for, what leads to its newest old instances, and where one was allocated."""
    return {"held": _held(_samples(order, deadline), order, deadline)}


def _held(samples: "dict[Any, Any]", order: "dict[Any, Any]", deadline: float) -> "dict[Any, Any]":
    """What leads to the samples of each type; the samples are let go."""
    import time

    found = {}
    for number, name in enumerate(order["types"]):
        mine = samples.pop(name, [])
        site = _site(mine[0]) if mine else ""
        # What one type leaves of its share of the time is the others'.
        now = time.perf_counter()
        until = now + (deadline - now) / (len(order["types"]) - number)
        path, nodes, is_whole = _climb(mine, list(samples.values()), until, order["nodes"])
        mine.clear()
        found[name] = {"site": site, "path": path, "garbage": is_whole and _is_garbage(nodes)}
    return found


def _samples(order: "dict[Any, Any]", deadline: float) -> "dict[Any, Any]":
    """Some instances of each type by its name."""
    import gc
    import time

    objects = gc.get_objects()
    names: dict[int, str] = {}
    samples: dict[str, list[Any]] = {}
    open_types = set(order["types"])
    fresh = {number for found in order["fresh"].values() for number in found}
    if fresh:
        for thing in objects:
            if id(thing) in fresh and len(samples.get(_name(type(thing)), ())) < order["samples"]:
                name = _name(type(thing))
                if id(thing) in order["fresh"].get(name, ()):
                    samples.setdefault(name, []).append(thing)
        thing = None
        open_types.difference_update(samples)
    # Where none is known to be new, from the end: the oldest generation has outlived its requests.
    for index in range(len(objects) - 1, -1, -1):
        if not open_types or (not index % 65536 and time.perf_counter() > deadline):
            break
        kind = type(objects[index])
        number = id(kind)
        if number not in names:
            names[number] = _name(kind)
        name = names[number]
        if name in open_types:
            samples.setdefault(name, []).append(objects[index])
            if len(samples[name]) == order["samples"]:
                open_types.discard(name)
    return samples


def _site(sample: "Any") -> str:
    """Where a sample was allocated, the nearest line outside installed packages; empty where it is not traced."""
    import _tracemalloc

    if not _tracemalloc.is_tracing():
        return ""
    frames = _tracemalloc._get_object_traceback(sample) or ()
    places = [_text(frame[0]) + f":{frame[1]}" for frame in frames]
    own = [place for place in places if "site-packages" not in place and "lib/python3" not in place]
    return (own or places or [""])[0]


def _climb(samples: "list[Any]", others: "list[Any]", deadline: float, most: int) -> "tuple[Any, ...]":
    """Breadth first from the samples up to a module's variable; all of them at once, one walk of the heap a level.

    Gives the path, all that was met, and whether the walk came to its end without a module or a running function.
    """
    import time

    modules, runner = _modules(), None
    objects, leads_to = {id(sample): sample for sample in samples}, {}
    level, is_whole = list(samples), bool(samples)
    marker = object()
    owners = None
    while level:
        if time.perf_counter() > deadline or len(objects) > most:
            is_whole = False
            break
        owners = None  # those of the level before
        owners = _owners(marker, level, deadline)
        # Where the time is over, some of them were not asked for.
        is_whole = is_whole and time.perf_counter() <= deadline
        here = set(map(id, level))
        ours = {id(one) for one in (samples, others, objects, level, owners, modules)} | set(map(id, others))
        above = []
        for owner in owners:
            number = id(owner)
            if number in objects or number in ours or _is_own_frame(owner):
                continue
            if type(owner) is tuple and owner and owner[0] is marker:
                continue
            child = next((part for part in map(id, _parts(owner)) if part in here), None)
            if child is None:
                continue
            objects[number], leads_to[number] = owner, child
            above.append(owner)
            if number in modules:
                return _path(owner, objects, leads_to, modules[number]), [], False
            if runner is None and _function_of(owner):
                runner, is_whole = owner, False
        level = above
    if runner is not None:
        return _path(runner, objects, leads_to, ""), [], False
    return [], list(objects.values()), is_whole


def _parts(node: "Any") -> "list[Any]":
    """What an object refers to.

    The module `_asyncio` is not asked: before 3.12.6 that ties its free iterators to a ring, and the next garbage
    collection goes round it for ever (python/cpython#122695).
    """
    import gc
    import sys

    return [] if node is sys.modules.get("_asyncio") else gc.get_referents(node)


def _owners(marker: object, level: "list[Any]", deadline: float) -> "list[Any]":
    """What refers to one of a level's objects; of a wide level, to as many as the time reaches."""
    import gc
    import time

    owners: list[Any] = []
    # The call holds the interpreter, and compares each reference of each object with each of its arguments: with
    # so many it takes about twice as long as with one.
    for start in range(0, len(level), 32):
        if start and time.perf_counter() > deadline:
            break
        # The call's own arguments refer to them too, as a tuple that begins with the marker.
        owners += gc.get_referrers(marker, *level[start : start + 32])
    return owners


def _is_own_frame(owner: "Any") -> bool:
    return _name(type(owner)) == "frame" and owner.f_code.co_filename == "<memleak>"


def _function_of(owner: "Any") -> str:
    """The function whose frame an object is or has: what a request in flight holds is no garbage."""
    attribute = {
        "frame": "f_code",
        "coroutine": "cr_code",
        "generator": "gi_code",
        "async_generator": "ag_code",
    }.get(_name(type(owner)))
    if attribute is None:
        return ""
    code = getattr(owner, attribute, None)
    return _text(getattr(code, "co_qualname", "") or getattr(code, "co_name", "")) or "?"


def _is_garbage(nodes: "list[Any]") -> bool:
    """Whether nothing but themselves refers to any of these objects: what the collector asks, in its own way.

    A running function's variables, and what C code keeps, are seen by no walk, but they count as references.
    """
    inner = dict.fromkeys(map(id, nodes), 0)
    for node in nodes:
        for part in map(id, _parts(node)):
            if part in inner:
                inner[part] += 1
    node = None
    # A list that only we hold, as we hold the others, says how many references are ours.
    nodes.append([])
    inner[id(nodes[-1])] = 0
    left = [sys.getrefcount(node) - inner[id(node)] for node in nodes]
    return all(count <= left[-1] for count in left)


def _modules() -> "dict[Any, Any]":
    """The names of the modules by the id of their dict."""
    module = type(sys)
    get: Any = module.__dict__["__dict__"].__get__  # type: ignore[index]
    return {id(get(one)): _text(name) for name, one in list(sys.modules.items()) if issubclass(type(one), module)}


def _path(owner: "Any", objects: "dict[Any, Any]", leads_to: "dict[Any, Any]", module: str) -> "list[Any]":
    """`shop.cart.CARTS (dict)`, or a running function, then the type of each step, down to the sample's."""
    number = leads_to[id(owner)]
    child = objects[number]
    if module:
        # By identity, so that no __eq__ runs.
        name = next((_text(key) for key, value in dict.items(owner) if value is child), "?")
        words = [f"{module}.{name} ({_name(type(child))})"]
    else:
        words = [f"{_name(type(owner))} {_function_of(owner)}", _name(type(child))]
    while number in leads_to:
        number = leads_to[number]
        words.append(_name(type(objects[number])))
    return words
