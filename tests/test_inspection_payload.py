"""What runs in the target: it counts without a line of the user's, and nothing of it stays."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pytest_memleak.inspection import payload

PAYLOAD = Path(payload.__file__)

COUNT = {"what": "count", "most": 2_000_000, "mark": [], "most_marks": 1000}
LOOK = {"what": "look", "samples": 3, "nodes": 500, "limit_s": 5.0, "fresh": {}}


def carried_out(folder: Path, program: str, *orders: dict[str, Any], options: tuple[str, ...] = ()) -> list[Any]:
    """Run a program that calls `ask(number)` for each order; gives the answers, and what it printed as JSON lines."""
    for number, order in enumerate(orders):
        text = PAYLOAD.read_text(encoding="utf-8")
        whole = {**order, "answer": str(folder / f"answer{number}")}
        (folder / f"order{number}.py").write_text(f"{text}\nmain({whole!r})\n", encoding="utf-8")
    head = f"""
        def ask(number):
            n = {{"__name__": "memleak"}}
            with open({str(folder)!r} + "/order%d.py" % number) as file:
                exec(compile(file.read(), "<memleak>", "exec"), n)
            n.clear()
    """
    done = subprocess.run(
        [sys.executable, *options, "-c", dedent(head) + dedent(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [ast.literal_eval((folder / f"answer{number}").read_text()) for number in range(len(orders))]
    return [*answers, *(json.loads(line) for line in done.stdout.splitlines())]


def test_types_are_counted_by_their_names(tmp_path: Path) -> None:
    (answer,) = carried_out(tmp_path, "class Item: ...\nITEMS = [Item() for _ in range(321)]\nask(0)", COUNT)
    assert answer["counts"]["__main__.Item"] == 321
    assert answer["counts"]["dict"] > 10
    assert answer["objects"] >= sum(answer["counts"].values()) - 5
    assert answer["every"] == 1
    assert answer["collecting"] is True
    assert 0 < answer["pause_s"] < 60


def test_above_the_most_objects_each_nth_is_counted_and_scaled_up(tmp_path: Path) -> None:
    program = "class Item: ...\nITEMS = [Item() for _ in range(30_000)]\nask(0)"
    (answer,) = carried_out(tmp_path, program, {**COUNT, "most": 4_000})
    assert answer["every"] == -(-answer["objects"] // 4_000)
    assert 28_000 < answer["counts"]["__main__.Item"] < 32_000


def test_no_code_of_the_users_runs(tmp_path: Path) -> None:
    program = """
        import atexit, json, os
        ran = []
        class Meta(type):
            def __eq__(cls, other): ran.append("eq"); return True
            def __hash__(cls): ran.append("hash"); return 1
            def __getattribute__(cls, name): ran.append(name); return super().__getattribute__(name)
            def __instancecheck__(cls, other): ran.append("instance"); return True
            @property
            def __module__(cls): ran.append("module"); return "x"
        class Hostile(metaclass=Meta):
            __slots__ = ("one",)
            __module__ = property(lambda self: ran.append("own module"))
            def __eq__(self, other): ran.append("eq"); return True
            def __hash__(self): ran.append("hash"); return 1
            def __repr__(self): ran.append("repr"); return ""
            def __len__(self): ran.append("len"); return 0
            def __bool__(self): ran.append("bool"); return False
            def __iter__(self): ran.append("iter"); return iter(())
            def __getattribute__(self, name): ran.append(name); return object.__getattribute__(self, name)
            @property
            def __class__(self): ran.append("class"); return int
        class Text(str):
            def encode(self, *_): ran.append("encode"); return b""
        type.__dict__["__qualname__"].__set__(Hostile, Text("Hostile"))
        class HostileDict(dict):
            def __getitem__(self, key): ran.append("getitem")
            def items(self): ran.append("items")
            def __iter__(self): ran.append("iter")
        ITEMS = [Hostile() for _ in range(100)]
        TABLE = HostileDict()
        dict.__setitem__(TABLE, 1, [ITEMS[0]])
        ran.clear()
        ask(0)
        ask(1)
        print(json.dumps(ran))
    """
    counted, looked, ran = carried_out(tmp_path, program, COUNT, {**LOOK, "types": ["Hostile", "list"]})
    assert counted["counts"]["Hostile"] == 100  # its module is no text
    assert looked["held"]["Hostile"]["path"][0].startswith("__main__.ITEMS")
    assert ran == []


def test_nothing_stays_behind(tmp_path: Path) -> None:
    program = """
        import gc, json, sys, threading
        class Item: ...
        ITEMS = [Item() for _ in range(500)]
        def state():
            names = sorted(set(globals()) - {"first", "_", "enabled"})
            return names, sorted(sys.modules), gc.isenabled(), sys.getswitchinterval(), threading.active_count()
        first = None
        ask(0), ask(1)  # a built-in module that was never imported stays known to the interpreter, once
        for enabled in (True, False):
            gc.enable() if enabled else gc.disable()
            gc.collect()
            first = (state(), len(gc.get_objects()))
            for _ in range(5):
                ask(0)
                ask(1)
            gc.collect()
            print(json.dumps([first[0] == state(), len(gc.get_objects()) - first[1]]))
    """
    look = {**LOOK, "types": ["__main__.Item", "dict"]}
    *_, first, second = carried_out(tmp_path, program, {**COUNT, "mark": ["dict"]}, look)
    # The tuple that remembers, and what it holds, are the test's own.
    assert first[0]
    assert second[0]
    assert max(first[1], second[1]) <= 4


def test_a_sample_leads_to_the_modules_variable_that_holds_it(tmp_path: Path) -> None:
    program = """
        import collections
        class Item: ...
        class Cart:
            def __init__(self): self.items = [Item()]
        CARTS = collections.OrderedDict((number, Cart()) for number in range(50))
        ask(0)
    """
    (answer,) = carried_out(tmp_path, program, {**LOOK, "types": ["__main__.Item"]})
    path = answer["held"]["__main__.Item"]["path"]
    assert path[0] == "__main__.CARTS (collections.OrderedDict)"
    assert path[1] == "__main__.Cart"
    assert path[-2:] == ["list", "__main__.Item"]
    assert not answer["held"]["__main__.Item"]["garbage"]


def test_garbage_and_what_a_running_function_holds_are_told_apart(tmp_path: Path) -> None:
    program = """
        import gc
        gc.disable()
        class Cycle: ...
        class Local: ...
        class InRequest: ...
        for _ in range(30):
            one = Cycle(); one.me = one
        del one
        async def request():
            mine = [InRequest()]
            import types
            @types.coroutine
            def wait(): yield
            await wait()
        REQUEST = request()
        REQUEST.send(None)
        hidden = REQUEST.__await__
        def main():
            mine = [Local() for _ in range(5)]
            ask(0)
            return mine
        main()
        REQUEST.close()
    """
    types = ["__main__.Cycle", "__main__.Local", "__main__.InRequest", "__main__.Nobody"]
    (answer,) = carried_out(tmp_path, program, {**LOOK, "types": types})
    held = answer["held"]
    assert [held[name]["garbage"] for name in types] == [True, False, False, False]
    assert held["__main__.InRequest"]["path"][0].startswith(("__main__.REQUEST", "coroutine request"))
    assert answer["collecting"] is False


def test_new_instances_are_looked_at_first(tmp_path: Path) -> None:
    program = """
        import json
        OLD = [[] for _ in range(1000)]
        ask(0)
        NEW = {number: [] for number in range(40)}
        ask(1)
        order = open(FOLDER + "/order2.py").read()
        import ast
        marks = [ast.literal_eval(open(FOLDER + "/answer%d" % number).read())["marks"]["list"] for number in (0, 1)]
        fresh = set(marks[1]) - set(marks[0])
        # A list of a moment has a number that another list may have by now.
        fresh = [number for number in map(id, NEW.values()) if number in fresh]
        assert len(fresh) > 30, len(fresh)
        with open(FOLDER + "/order2.py", "w") as file:
            file.write(order.replace("'FRESH'", repr(fresh[::5])))
        ask(2)
    """.replace("FOLDER", repr(str(tmp_path)))
    count = {**COUNT, "mark": ["list"], "most_marks": 100_000}
    look = {**LOOK, "types": ["list"], "fresh": {"list": "FRESH"}}
    answer = carried_out(tmp_path, program, count, count, look)[2]
    assert answer["held"]["list"]["path"] == ["__main__.NEW (dict)", "list"]


def test_the_allocating_line_is_told_where_allocations_are_traced(tmp_path: Path) -> None:
    program = "import shop\nask(0)"
    # CPython 3.11 looks for the trace of an instance that has a dictionary at the wrong address, and finds none.
    (tmp_path / "shop.py").write_text("class Item: __slots__ = ('x',)\n\nITEMS = [Item() for _ in range(9)]\n")
    program = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{program}"
    look = {**LOOK, "types": ["shop.Item"]}
    (answer,) = carried_out(tmp_path, program, look, options=("-X", "tracemalloc=5"))
    assert answer["held"]["shop.Item"]["site"] == f"{tmp_path}/shop.py:3"


@pytest.mark.parametrize("delay_s", [0.002, 0.01, 0.03])
def test_ctrl_c_reaches_the_program_after_the_count(tmp_path: Path, delay_s: float) -> None:
    program = """
        import json, os, signal, time
        raised = 0
        ITEMS = [[] for _ in range(300_000)]
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        try:
            signal.setitimer(signal.ITIMER_REAL, DELAY)
            ask(0)
            time.sleep(2)
        except KeyboardInterrupt:
            raised = 1
        for name in ("answer0", "answer0.part"):
            os.path.exists(FOLDER + name) and os.unlink(FOLDER + name)
        ask(0)
        print(json.dumps(raised))
    """.replace("FOLDER", repr(f"{tmp_path}/")).replace("DELAY", str(delay_s))
    answer, raised = carried_out(tmp_path, program, COUNT)
    assert raised == 1
    assert answer["counts"]["list"] > 300_000


def test_the_collector_comes_to_an_end_after_a_look_at_what_asyncio_holds() -> None:
    """Until 3.12.5 to ask the module for what it refers to hung the next garbage collection, and so the program."""
    program = f"""
        import sys
        sys.path[:] = {sys.path!r}
        import asyncio, gc, time
        from pytest_memleak.inspection import payload
        async def main():
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, 1)
            await future
        asyncio.run(main())
        held = [asyncio.Future, asyncio.Task]
        payload._climb(held, held, time.perf_counter() + 30, 100_000)
        payload._is_garbage([sys.modules["_asyncio"]])
        gc.collect()
        print("collected")
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("collected\n", "")
