"""Tasks that are started and lost, and those that somebody has."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import async_task
from pytest_memleak.scan.suspect import Suspect


def _found(source: str) -> list[Suspect]:
    text = "import asyncio\nfrom asyncio import create_task, ensure_future as start\n" + textwrap.dedent(source)
    return list(async_task.find(Module(ast.parse(text), "app")))


def _in_function(lines: str) -> list[Suspect]:
    return _found("async def work(self, loop, x):\n" + textwrap.indent(textwrap.dedent(lines), "    "))


@pytest.mark.parametrize(
    "lines",
    [
        "asyncio.create_task(x())",
        "create_task(x())",
        "start(x())",
        "loop.create_task(x())",
        "self._loop.create_task(x())",
        "asyncio.get_running_loop().create_task(x())",
        "running = asyncio.get_event_loop()\nrunning.create_task(x())",
        "asyncio.create_task(x()).add_done_callback(print)",
        "x and asyncio.create_task(x())",
        "loop.call_soon_threadsafe(asyncio.create_task, x())",
        "loop.call_later(1, loop.create_task, x())",
        "[asyncio.create_task(y) for y in x]",
        "_ = asyncio.create_task(x())",
        "task = asyncio.create_task(x())",
        "task: asyncio.Task = asyncio.create_task(x())",
        "task = asyncio.create_task(x())\ntask.set_name('x')\ntask.add_done_callback(print)",
        "loop.call_later(1, lambda: asyncio.create_task(x()))",
        "Button(on_click=lambda: asyncio.create_task(x()))",
    ],
)
def test_a_lost_task_is_found(lines: str) -> None:
    (suspect,) = _in_function(lines)
    assert suspect.confidence is Confidence.HIGH
    assert suspect.driver is Driver.CALL


@pytest.mark.parametrize(
    "lines",
    [
        "await asyncio.create_task(x())",
        "return asyncio.create_task(x())",
        "yield asyncio.create_task(x())",
        "self.task = asyncio.create_task(x())",
        "self.tasks['a'] = asyncio.create_task(x())",
        "tasks.append(asyncio.create_task(x()))",
        "await asyncio.gather(*(asyncio.create_task(y) for y in x))",
        "tasks = [asyncio.create_task(y) for y in x]",
        "task = asyncio.create_task(x())\ntasks.add(task)\ntask.add_done_callback(tasks.discard)",
        "task = asyncio.create_task(x())\ntry:\n    await y()\nfinally:\n    task.cancel()",
        "task = asyncio.create_task(x())\nreturn lambda: task",
        "global task\ntask = asyncio.create_task(x())",
        "task = asyncio.create_task(x())\nyield",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(x())",
        "tg.create_task(x())",
        "nursery.create_task(x())",
        "self.create_task(x())",
        "await asyncio.gather(*map(lambda y: asyncio.create_task(y), x))",
        "asyncio.ensure_future(task).add_done_callback(print)",
    ],
)
def test_a_task_that_somebody_has_is_none(lines: str) -> None:
    assert _in_function(lines) == []


def test_a_local_that_the_frame_holds_for_a_while_is_less_sure() -> None:
    for waits in ("await x.ready()", "loop.run_forever()"):
        (suspect,) = _in_function(f"task = asyncio.create_task(x())\n{waits}")
        assert suspect.confidence is Confidence.LOW


def test_a_task_that_sleeps_until_it_is_cancelled_is_held_by_its_timer() -> None:
    source = """
        async def at_exit(workers):
            try:
                await asyncio.sleep({})
            finally:
                workers.clear()
        def start(workers):
            asyncio.create_task(at_exit(workers))
    """
    assert _found("import math\n" + textwrap.dedent(source.format("math.inf"))) == []
    assert len(_found(source.format("10"))) == 1


def test_a_name_that_is_not_the_import_starts_nothing() -> None:
    assert _found("def work(create_task):\n    create_task(1)") == []


def test_a_task_that_registers_itself_is_kept() -> None:
    source = """
        async def poll():
            TASKS.add(asyncio.current_task())
        def work():
            asyncio.create_task(poll())
    """
    assert _found(source) == []


def test_a_task_that_only_looks_at_itself_is_lost() -> None:
    source = """
        async def close(self):
            current = asyncio.current_task()
            if self.reading is not current:
                self.reading.cancel()
        def fail(self):
            asyncio.create_task(self.close())
    """
    assert len(_found(source)) == 1


def test_one_per_object_where_init_starts_it() -> None:
    (suspect,) = _found("class Poller:\n    def __init__(self):\n        asyncio.create_task(self.poll())")
    assert suspect.driver is Driver.INSTANCE
    assert suspect.message == (
        "the task of asyncio.create_task(self.poll()) is dropped: "
        "nothing can await or cancel it, and the event loop holds it only weakly"
    )


def test_a_script_starts_its_only_loop() -> None:
    assert _found("loop = asyncio.new_event_loop()\nloop.create_task(work())\nloop.run_forever()") == []


def test_deep_nesting_is_no_trouble() -> None:
    tree = ast.parse("import asyncio\ndef work():\n    asyncio.create_task(x" + ".y" * 90 + ")")
    assert len(list(async_task.find(Module(tree)))) == 1
