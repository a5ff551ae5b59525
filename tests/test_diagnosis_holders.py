"""What the diagnosis says of a leak: its line, its holder, its pattern; and what it knows to be no leak."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hunt_support import CALL_S, Clock, hunted, hunted_at_once

from pytest_memleak.hunt import hunt
from pytest_memleak.model import Leak, Outcome, Resource, Result
from pytest_memleak.probes.catalogue import find_probes
from pytest_memleak.settings import Settings
from pytest_memleak.workloads.steps import drive_async

Write = Callable[[str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module `workload` and import it; what it kept is freed when the test is over."""
    written: list[ModuleType] = []

    def write_module(text: str) -> ModuleType:
        name = f"workload_{abs(hash(tmp_path.name)) % 10**8}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        written.append(importlib.import_module(name))
        return written[-1]

    yield write_module
    for module in written:
        if hasattr(module, "clean"):
            module.clean()
        del sys.modules[module.__name__]
        vars(module).clear()
    written.clear()


def hunted_async(module: ModuleType) -> Result:
    clock = Clock()

    async def timed(number: int) -> None:
        clock.now += CALL_S
        await module.call(number)

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        steps = hunt("workload", Settings(max_time=10), probes=find_probes([loop]), loops=[loop], clock=clock)
        return await drive_async(steps, timed)

    return asyncio.run(main())


def marked_line(module: ModuleType) -> int:
    lines = Path(str(module.__file__)).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith("# here"))


def only_leak(result: Result) -> Leak:
    assert result.outcome is Outcome.LEAK, (result.why, result.notes)
    assert len(result.leaks) == 1, result.leaks
    return result.leaks[0]


def line_of(leak: Leak) -> tuple[str, int]:
    return Path(leak.sites[0].place[0]).name, leak.sites[0].frame.line


def named(result: Result, module: ModuleType) -> str:
    """The holder of the only leak without its module's name; the leak's line is the marked one."""
    leak = only_leak(result)
    assert line_of(leak) == (Path(str(module.__file__)).name, marked_line(module))
    assert leak.holder is not None
    assert leak.holder.name.startswith(f"{module.__name__}.")
    return leak.holder.name.removeprefix(f"{module.__name__}.")


@pytest.mark.parametrize(
    "text, holder, kind, pattern",
    [
        pytest.param(
            """
            SEEN = {}
            def call(number):
                SEEN[f"key {number}"] = f"value {number}" * 3  # here
            """,
            "SEEN", "dict", "unbounded_cache", id="dict of text",
        ),
        pytest.param(
            """
            SEEN = {}
            def call(number):
                SEEN[number] = {"number": number, "body": [number]}  # here
            """,
            "SEEN", "dict", "unbounded_cache", id="dict of dicts",
        ),
        pytest.param(
            """
            class Service:
                requests = []
            def call(number):
                Service.requests.append({"number": number})  # here
            """,
            "Service.requests", "list", "global_accumulation", id="class attribute",
        ),
        pytest.param(
            """
            class Service:
                def __init__(self):
                    self.requests = []
            service = Service()
            def call(number):
                service.requests.append({"number": number})  # here
            """,
            "service.requests", "list", "global_accumulation", id="instance attribute",
        ),
        pytest.param(
            """
            state = {"a": [], "b": []}
            def call(number):
                state["a"].append({"number": number})  # here
            """,
            "state['a']", "list", "global_accumulation", id="nested",
        ),
        pytest.param(
            """
            import functools
            @functools.lru_cache(maxsize=None)
            def answer(number):
                return {"number": number}  # here
            def call(number):
                answer(number)
            """,
            "answer", "lru_cache", "unbounded_cache", id="lru_cache without a bound",
        ),
        pytest.param(
            """
            import collections
            BY_USER = collections.defaultdict(list)
            def call(number):
                BY_USER[f"user {number}"].append(number)  # here
            """,
            "BY_USER", "defaultdict", "unbounded_cache", id="defaultdict",
        ),
        pytest.param(
            """
            import collections
            LATEST = collections.deque()
            def call(number):
                LATEST.append({"number": number})  # here
            """,
            "LATEST", "deque", "global_accumulation", id="deque",
        ),
        pytest.param(
            """
            SEEN = set()
            def call(number):
                SEEN.add(f"key {number}")  # here
            """,
            "SEEN", "set", "global_accumulation", id="set",
        ),
        pytest.param(
            """
            import functools
            LISTENERS = []
            def listen(number):
                return number
            def call(number):
                LISTENERS.append(functools.partial(listen, number))  # here
            """,
            "LISTENERS", "list", "event_listener", id="listeners",
        ),
        pytest.param(
            """
            class Signal:
                def __init__(self):
                    self.receivers = []
            signal = Signal()
            class Handler:
                def receive(self):
                    return self
            def call(number):
                signal.receivers.append(Handler().receive)  # here
            """,
            "signal.receivers", "list", "event_listener", id="bound methods",
        ),
    ],
)  # fmt: skip
def test_the_line_and_the_holder_of_a_leak_are_named(
    write: Write, text: str, holder: str, kind: str, pattern: str
) -> None:
    module = write(text)
    result = hunted_at_once(module.call)
    assert named(result, module) == holder
    (leak,) = result.leaks
    assert leak.holder is not None
    assert leak.holder.kind == kind
    assert leak.holder.entries_per_call == pytest.approx(1, abs=0.05)
    assert leak.pattern == pattern
    assert leak.fix


def test_a_finalizer_that_holds_its_object_is_a_circular_reference(write: Write) -> None:
    module = write("""
        import weakref
        class Session:
            def __init__(self):
                self.finalizer = weakref.finalize(self, self.close)  # here
            def close(self):
                pass
        def call(number):
            Session()
        def clean():
            for finalizer in list(weakref.finalize._registry):
                if finalizer._registry[finalizer].func.__module__ == __name__:
                    finalizer.detach()
    """)
    leak = only_leak(hunted_at_once(module.call))
    assert leak.pattern == "circular_reference"
    assert "must not hold its object" in leak.fix or "weak" in leak.fix


@pytest.mark.parametrize(
    "text, bound",
    [
        pytest.param(
            """
            import functools
            @functools.lru_cache(maxsize=10_000)
            def answer(number):
                return {"number": number}
            def call(number):
                answer(number)
            """,
            "lru_cache(maxsize=10000)", id="lru_cache",
        ),
        pytest.param(
            """
            import functools
            class Price:
                def __init__(self, number):
                    self.parts = [number]
            @functools.lru_cache(maxsize=10_000)
            def price(*numbers):
                return [Price(numbers)]
            def call(number):
                price(number, number)
            """,
            "lru_cache(maxsize=10000)", id="lru_cache of containers",
        ),
        pytest.param(
            """
            import collections
            LATEST = collections.deque(maxlen=100_000)
            def call(number):
                LATEST.append({"number": number})
            """,
            "deque(maxlen=100000)", id="deque",
        ),
        pytest.param(
            """
            class Cache:
                def __init__(self):
                    self.maxsize = 100_000
                    self.entries = {}
            cache = Cache()
            def call(number):
                cache.entries[number] = {"number": number}
            """,
            "Cache.maxsize=100000", id="maxsize",
        ),
    ],
)  # fmt: skip
def test_what_is_bounded_is_named_and_not_convicted(write: Write, text: str, bound: str) -> None:
    result = hunted_at_once(write(text).call)
    assert result.outcome is Outcome.CLEAN, (result.why, result.leaks)
    assert not result.leaks
    assert any(note.startswith("known growth: ") and f"({bound})" in note for note in result.notes), result.notes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descriptors have paths on Linux")
def test_files_that_stay_open_are_named_with_their_path_and_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "orders.log").touch()
    module = write(f"""
        FILES = []
        def call(number):
            FILES.append(open({str(tmp_path / "orders.log")!r}))  # here
        def clean():
            for file in FILES:
                file.close()
    """)
    result = hunted_at_once(module.call)
    leak = only_leak(result)
    assert leak.resource is Resource.FDS
    assert "orders.log" in leak.what
    assert line_of(leak) == (Path(str(module.__file__)).name, marked_line(module))
    assert leak.pattern == "file_handle"
    assert leak.holder is not None
    assert leak.holder.name == f"{module.__name__}.FILES"


def test_threads_that_stay_are_named_with_their_target_and_line(write: Write) -> None:
    module = write("""
        import threading
        END = threading.Event()
        def poll():
            END.wait()
        def call(number):
            threading.Thread(target=poll, daemon=True).start()  # here
        def clean():
            END.set()
            for thread in threading.enumerate():
                if thread is not threading.current_thread():
                    thread.join(5)
    """)
    leak = only_leak(hunted(module.call, Settings(max_time=10)))
    assert leak.resource is Resource.THREADS
    assert leak.what == f"thread running {module.__name__}.poll"
    assert line_of(leak) == (Path(str(module.__file__)).name, marked_line(module))


def test_tasks_that_wait_for_ever_are_named_with_their_coroutine_and_line(write: Write) -> None:
    module = write("""
        import asyncio
        async def forever():
            await asyncio.sleep(3600)
        async def call(number):
            asyncio.get_running_loop().create_task(forever())  # here
    """)
    result = hunted_async(module)
    assert result.outcome is Outcome.LEAK
    leak = next(leak for leak in result.leaks if leak.resource is Resource.TASKS)
    assert leak.what == "asyncio task running forever()"
    assert line_of(leak) == (Path(str(module.__file__)).name, marked_line(module))
    assert leak.pattern == "async_task"


KEEPS = """
    class Order:
        def __init__(self, number):
            self.number = number
    SEEN = []
    def call(number):
        SEEN.append(Order(number))  # here
"""


@pytest.mark.parametrize("entry", ["{module}.SEEN", "{module}", "{file}:{line}", "{module}.Order"])
def test_a_leak_that_the_user_ignores_is_named_and_not_convicted(write: Write, entry: str) -> None:
    module = write(KEEPS)
    file = Path(str(module.__file__)).name
    spelt = entry.format(module=module.__name__, file=file, line=marked_line(module))
    result = hunted_at_once(module.call, Settings(max_time=10, ignore=(spelt,)))
    assert result.outcome is Outcome.CLEAN, result.why
    assert not result.leaks
    assert any(note.startswith(f"ignored as {spelt!r}: ") for note in result.notes), result.notes


@pytest.mark.parametrize("entry", ["{module}.SEE", "rder"])
def test_an_entry_that_names_something_else_ignores_nothing(write: Write, entry: str) -> None:
    module = write(KEEPS)
    result = hunted_at_once(module.call, Settings(max_time=10, ignore=(entry.format(module=module.__name__),)))
    assert named(result, module) == "SEEN"
