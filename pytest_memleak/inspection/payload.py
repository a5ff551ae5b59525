"""What runs inside the inspected process: it counts the tracked objects, or looks at samples of some types.

The file is read as text and executed there, in a namespace that is emptied afterwards: standard library only, Python
3.8 on, and nothing of it stays. It runs no code of the user's: no `__repr__`, `__eq__`, `__hash__`, `__len__`, no
metaclass, no property. While it holds references to all objects no other thread gets the interpreter, so that none of
them is released by us instead of by its owner.
"""

import sys


def main(order):
    # type: (dict) -> None
    """Carry out an order and write the answer. `count`, or `look` with `types`; `most` objects, `limit_s`, `answer`."""
    missing = [name for name in ("gc", "os", "time", "_thread", "_tracemalloc") if name not in sys.modules]
    import gc
    import os
    import time

    import _thread

    began = time.perf_counter()
    interrupted = False
    switch_s, collecting = sys.getswitchinterval(), gc.isenabled()
    # No collection while we allocate: it would run finalizers, and count as our pause.
    gc.disable()
    sys.setswitchinterval(60.0)
    try:
        answer = _count(order) if order["what"] == "count" else _look(order, began + order["limit_s"])
    except (KeyboardInterrupt, GeneratorExit):
        # A signal's handler ran among our frames: what it raised belongs to the program, and comes again below.
        interrupted = True
        answer = {"error": "a signal interrupted it"}
    except Exception as error:
        answer = {"error": type.__dict__["__qualname__"].__get__(type(error))}
    finally:
        sys.setswitchinterval(switch_s)
        if collecting:
            gc.enable()
    answer["collecting"] = collecting
    answer["blocks"] = sys.getallocatedblocks() if hasattr(sys, "getallocatedblocks") else None
    answer["python"] = "%d.%d.%d" % sys.version_info[:3]
    answer["pid"] = os.getpid()
    answer["pause_s"] = time.perf_counter() - began
    try:
        _write(order["answer"], answer, os)
    except OSError:
        pass  # whoever asked has gone, and his folder with him
    for name in missing:
        sys.modules.pop(name, None)
    if interrupted:
        # From a thread that waits for the interpreter: it comes when our frames are gone.
        _thread.start_new_thread(_thread.interrupt_main, ())


def _write(path, answer, os):
    # type: (str, dict, object) -> None
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


def _count(order):
    # type: (dict) -> dict
    """Objects by type; above `most` of them each n-th, scaled up."""
    import gc

    objects = gc.get_objects()
    found = len(objects)
    every = -(-found // order["most"]) or 1
    if every > 1:
        objects = objects[::every]
    by_id, kinds = {}, {}
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
    del objects
    counts = {}
    for number, count in by_id.items():
        name = _name(kinds[number])
        counts[name] = counts.get(name, 0) + count * every
    kinds.clear()
    return {"counts": counts, "objects": found, "every": every}


def _text(value):
    # type: (object) -> str
    """An exact str of what is one, or of a subclass of it, without its own methods."""
    if not issubclass(type(value), str):
        return ""
    return str.encode(value, "ascii", "backslashreplace").decode("ascii")[:200]


def _name(kind):
    # type: (type) -> str
    """The type's name, with its module unless it is a built-in one."""
    qualified = _text(type.__dict__["__qualname__"].__get__(kind)) or "?"
    try:
        module = _text(type.__dict__["__module__"].__get__(kind))
    except AttributeError:  # deleted by its owner
        module = ""
    return qualified if module in ("", "builtins") else module + "." + qualified


def _look(order, deadline):
    # type: (dict, float) -> dict
    """For each type that is asked for, what leads to its newest old instances, and where one was allocated."""
    import gc

    objects = gc.get_objects()
    wanted = dict.fromkeys(order["types"])
    names = {}
    samples = {}
    # From the end: the youngest of the oldest generation has outlived its request, unlike the young generations' own.
    for index in range(len(objects) - 1, -1, -1):
        kind = type(objects[index])
        number = id(kind)
        if number not in names:
            name = _name(kind)
            names[number] = name if name in wanted else None
        name = names[number]
        if name is not None:
            kept = samples.setdefault(name, [])
            if len(kept) < order["samples"]:
                kept.append(objects[index])
                if len(samples) == len(wanted) and all(len(one) == order["samples"] for one in samples.values()):
                    break
    del objects
    kept = None
    found = {}
    for name in order["types"]:
        mine = samples.pop(name, [])
        found[name] = {"site": _site(mine[0]) if mine else ""}
        found[name].update(_search(mine, samples, deadline, order["nodes"]))
        mine.clear()
    return {"held": found}


def _site(sample):
    # type: (object) -> str
    """Where a sample was allocated, the nearest line outside installed packages; empty where it is not traced."""
    import _tracemalloc

    if not _tracemalloc.is_tracing():
        return ""
    frames = _tracemalloc._get_object_traceback(sample) or ()
    places = ["%s:%d" % (_text(frame[0]), frame[1]) for frame in frames]
    own = [place for place in places if "site-packages" not in place and "lib/python3" not in place]
    return (own or places or [""])[0]


def _search(samples, others, deadline, most):
    # type: (list, dict, float, int) -> dict
    """Breadth first from the samples up to a module's variable; all of them at once, one walk of the heap a level.

    `garbage`: the walk came to an end, and met neither a module nor a frame.
    """
    import gc
    import time

    modules = _modules()
    # id: (object, the one that it leads to or None, the level)
    known = {id(sample): (sample, None) for sample in samples}
    level = list(samples)
    whole = bool(samples)
    ours = [samples, known, level, modules, others, sys._getframe(), sys._getframe().f_back]
    ours += [sys._getframe().f_back.f_back] + list(others.values())
    ended = ""
    path = None
    while level and path is None and not ended:
        if time.perf_counter() > deadline:
            ended = "time"
            break
        here = {id(child) for child in level}
        owners = gc.get_referrers(*level)
        ignored = {id(thing) for thing in ours}
        ignored.update((id(ours), id(owners), id(here), id(ignored), id(level)))
        above = []
        for owner in owners:
            number = id(owner)
            if number in known or number in ignored or type(owner) is type(sys._getframe()) and _is_ours(owner):
                continue
            if type(owner) is tuple and any(owner is value for value in known.values()):
                continue
            child = next((part for part in gc.get_referents(owner) if id(part) in here), None)
            if child is None:
                continue
            known[number] = (owner, child)
            above.append(owner)
            if number in modules:
                path = _path(owner, known, modules)
                break
            if _is_running(owner):
                whole = False
            if len(known) > most:
                ended = "nodes"
                break
        ours[2] = level = above
        del owners
    known.clear()
    return {"path": path or [], "garbage": bool(whole and path is None and not ended)}


def _is_ours(frame):
    # type: (object) -> bool
    return frame.f_code.co_filename == "<memleak>"


def _is_running(owner):
    # type: (object) -> bool
    """Whether an object is, or has, a frame: what a request in flight holds is no garbage."""
    return _name(type(owner)) in ("frame", "coroutine", "generator", "async_generator")


def _modules():
    # type: () -> dict
    """The dicts of the modules by their id, with the module's name."""
    module = type(sys)
    get = module.__dict__["__dict__"].__get__
    found = {}
    for name, one in list(sys.modules.items()):
        if issubclass(type(one), module):
            found[id(get(one))] = _text(name)
    return found


def _path(owner, known, modules):
    # type: (dict, dict, dict) -> list
    """`shop.cart.CARTS (dict)`, then the type of each step, down to the sample's."""
    child = known[id(owner)][1]
    # By identity, so that no __eq__ runs; a module's other names are strings.
    name = next((_text(key) for key, value in dict.items(owner) if value is child), "?")
    words = ["%s.%s (%s)" % (modules[id(owner)], name, _name(type(child)))]
    while True:
        child = known[id(child)][1]
        if child is None:
            return words
        words.append(_name(type(child)))
