"""Listeners that are registered again and again, and those that are taken off or registered once."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.facts import facts
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import event_listener
from pytest_memleak.scan.suspect import Suspect

HEAD = """
import atexit, functools, logging, weakref
from app.bus import bus
from sqlalchemy import event
def on_done(event): ...
"""


def _found(source: str) -> list[Suspect]:
    return list(event_listener.find(Module(ast.parse(HEAD + textwrap.dedent(source)), "app.main")))


def _in_function(lines: str) -> list[Suspect]:
    return _found("def handle(request, callback):\n" + textwrap.indent(textwrap.dedent(lines), "    "))


def _in_class(line: str, start: str = "self.bus = bus") -> list[Suspect]:
    return _found(f"""
        class View:
            def __init__(self, bus, env):
                {start}
                {line}
            def on_event(self, event): ...
    """)


@pytest.mark.parametrize(
    "lines",
    [
        "bus.subscribe('done', on_done)",
        "bus.subscribe('done', lambda event: request)",
        "bus.add_listener(on_done)",
        "bus.subscribe('done', request.queue.put_nowait)",
        "bus.on('done', lambda event: request)",
        "def inner(event): return request\nbus.addListener('done', inner)",
        "bus.add_observer(callback=functools.partial(on_done, request))",
        "bus.register_listeners({int: [Listener(request)]})",
        "found = get_bus()\nfound.subscribe('done', on_done)",
        "logger = logging.getLogger('x')\nlogger.addHandler(logging.StreamHandler())",
        "logger = logging.getLogger('x')\nhandler = logging.StreamHandler()\nlogger.addHandler(handler)",
        "atexit.register(lambda: request)",
        "atexit.register(functools.partial(print, request))",
        "def inner(): return request\natexit.register(inner)",
        "bus.signal.connect(lambda sender: request, weak=False)",
    ],
)
def test_a_listener_registered_per_call_is_found(lines: str) -> None:
    (suspect,) = _in_function(lines)
    assert suspect.driver is Driver.CALL


@pytest.mark.parametrize(
    "line",
    [
        "bus.subscribe('done', self.on_event)",
        "self.bus.subscribe('done', self.on_event)",
        "env.events.request.add_listener(self.on_event)",
        "atexit.register(self.on_event)",
        "event.listen(env, 'connect', self.on_event)",
        "self.bus.add_observer(self)",
    ],
)
def test_a_listener_registered_per_object_is_found(line: str) -> None:
    (suspect,) = _in_class(line)
    assert suspect.driver is Driver.INSTANCE
    assert suspect.confidence is Confidence.MEDIUM


@pytest.mark.parametrize(
    "lines",
    [
        "handle = bus.subscribe('done', on_done)",
        "return bus.subscribe('done', on_done)",
        "bus.subscribe('done')",
        "bus.subscribe('done', callback)",
        "bus.subscribe('done', on_done)\nbus.unsubscribe('done', on_done)",
        "bus.add_listener(on_done)\ntry: ...\nfinally:\n    bus.remove_listener(on_done)",
        "own = Bus()\nown.subscribe('done', on_done)",
        "with connect() as own:\n    own.add_listener(on_done)",
        "logger = logging.getLogger('x')\nif not logger.handlers:\n    logger.addHandler(logging.StreamHandler())",
        "logger = logging.getLogger('x')\nif not has_level_handler(logger):\n    logger.addHandler(print())",
        "logger = logging.getLogger('x')\nif logger.handlers:\n    return\nlogger.addHandler(logging.StreamHandler())",
        "global LOG\nif LOG is None:\n    LOG = logging.getLogger('x')\n    LOG.addHandler(logging.StreamHandler())",
        "atexit.register(on_done)",
        "atexit.register(lambda: request)\natexit.unregister(print)",
        "bus.signal.connect(on_done)",
        "sock.connect(request)",
        "router.on('done', lambda event: request)",
    ],
)
def test_what_is_taken_off_or_nobodys_else(lines: str) -> None:
    assert _in_function(lines) == []


@pytest.mark.parametrize(
    "line, start",
    [
        ("self.subscribe('done', self.on_event)", "..."),
        ("self.bus.subscribe('done', self.on_event)", "self.bus = Bus()"),
        ("self.inherited.subscribe('done', self.on_event)", "..."),
        ("event.listen(self, 'connect', self.on_event)", "..."),
        ("bus.add_listener(Listener(self)); weakref.finalize(self, _unregister_listener)", "..."),
    ],
)
def test_what_ends_with_its_object(line: str, start: str) -> None:
    assert _in_class(line, start) == []


@pytest.mark.parametrize("name", ["setup_events", "_configure", "install", "create_app", "main", "lifespan", "run"])
def test_functions_that_run_once(name: str) -> None:
    assert _found(f"def {name}():\n    bus.subscribe('done', lambda event: 1)") == []


def test_once_per_process_at_module_level() -> None:
    assert _found("bus.subscribe('done', on_done)\natexit.register(on_done)") == []


def test_a_class_made_once() -> None:
    source = """
        class Worker:
            def __init__(self):
                atexit.register(self.stop)
            def stop(self): ...
    """
    assert len(_found(source)) == 1
    assert _found(textwrap.dedent(source) + "\nWORKER = Worker()\n") == []


def test_a_weak_signal_needs_weak_false() -> None:
    source = "from django.dispatch import Signal\nfrom shop.signals import sold_signal\ndef handle(x):\n    {}"
    assert _found(source.format("sold_signal.connect(lambda sender: x)")) == []
    (suspect,) = _found(source.format("sold_signal.connect(lambda sender: x, weak=False)"))
    assert suspect.confidence is Confidence.HIGH


def test_one_per_function_and_bus_and_its_words() -> None:
    (suspect,) = _in_function("bus.subscribe('a', on_done)\nbus.subscribe('b', on_done)")
    assert suspect.message == (
        "a function is registered with app.bus.bus once per call, and nothing here takes it off: "
        "app.bus.bus keeps it and all that it refers to"
    )
    assert suspect.unless == ("stops:weak.subscribe", "stops:app.bus.bus")


@pytest.mark.parametrize("line", ["await bus.subscribe(lambda event: x)", "await bus.add_listener(on_done)"])
def test_an_awaited_registration_is_one_and_an_awaited_connect_is_a_network(line: str) -> None:
    assert len(_found(f"async def handle(x):\n    {line}")) == 1
    assert _found("async def handle(x, signal):\n    await bus.signal.connect(lambda: x, weak=False)") == []


@pytest.mark.parametrize(
    "source,weakly",
    [
        ("class Bus:\n    def connect(self, f):\n        self.all.append(weakref.WeakMethod(f))", True),
        (
            "class Bus:\n    def __init__(self):\n        self.all = weakref.WeakSet()\n    def connect(self, f): ...",
            True,
        ),
        ("class Bus:\n    def connect(self, f):\n        weakref.finalize(self, f)", False),
        ("class Bus:\n    def connect(self, f):\n        self.all.append(f)", False),
    ],
)
def test_a_bus_of_the_program_that_holds_weakly_clears_its_verb(source: str, weakly: bool) -> None:
    known = facts(Module(ast.parse(HEAD + source), "app.bus")).clears
    assert ("stops:weak.connect" in known) is weakly
    (suspect,) = _in_class("bus.some_signal.connect(self.on_event)")
    assert "stops:weak.connect" in suspect.unless


def test_a_callback_that_a_table_keeps_is_a_listener() -> None:
    source = "WAITING = {}\ndef on_end(run_id, callback):\n    WAITING[run_id] = callback\n"
    assert [suspect.holder for suspect in _found(source)] == ["app.main.WAITING"]
    assert _found(source + "def end(run_id):\n    WAITING.pop(run_id)()\n") == []


@pytest.mark.parametrize(
    "lines,confidence",
    [
        ("atexit.register(on_done, request)", Confidence.MEDIUM),
        ("atexit.register(shutil.rmtree, str(request.path))", Confidence.MEDIUM),
        ("atexit.register(on_done, event=callback)", Confidence.MEDIUM),
        ("made = start()\natexit.register(on_done, made)", Confidence.LOW),
        ("atexit.register(on_done, 1)", None),
        ("atexit.register(on_done, bus)", None),
        ("if not bus.told:\n    atexit.register(on_done, request)", None),
        ("try: made = bus.made\nexcept AttributeError: atexit.register(on_done, request)", None),
        ("atexit.register(on_done, request)\natexit.unregister(on_done)", None),
    ],
)
def test_atexit_keeps_the_arguments_of_each_call(lines: str, confidence: Confidence | None) -> None:
    assert [each.confidence for each in _in_function(lines)] == ([confidence] if confidence else [])


def test_what_a_process_starts_once_is_stopped_so_too() -> None:
    assert _found("def setup_tracing(data):\n    atexit.register(on_done, data)") == []


ADDED = "handler = logging.StreamHandler()\nlogging.getLogger().addHandler(handler)\n"
REMOVED = "logging.getLogger().removeHandler(handler)"


@pytest.mark.parametrize(
    "lines,confidence",
    [
        (f"try: work()\nexcept E: return 1\n{REMOVED}", Confidence.MEDIUM),
        (f"if request: return 1\n{REMOVED}", Confidence.MEDIUM),
        (f"yield handler\n{REMOVED}", Confidence.LOW),
        (f"try: yield handler\nexcept E: pass\n{REMOVED}", None),
        (f"try: yield handler\nfinally: {REMOVED}", None),
        (f"if request: return {REMOVED}\n{REMOVED}", None),
        (f"def off(): {REMOVED}\nreturn off", None),
        (REMOVED, None),
    ],
)
def test_a_handler_that_is_taken_off_on_one_way_out_only(lines: str, confidence: Confidence | None) -> None:
    assert [each.confidence for each in _in_function(ADDED + lines)] == ([confidence] if confidence else [])


def test_the_way_out_is_named_and_the_name_of_the_function_says_nothing() -> None:
    (suspect,) = _found(
        "def test_logging(request):\n" + textwrap.indent(ADDED + f"if request: return\n{REMOVED}", "    ")
    )
    assert "is registered with logging.getLogger() once per call, and taken off on one way out only" in suspect.message
    assert suspect.message.endswith("the `return` in line 9 leaves it there")
    assert suspect.fix == "take it off in a finally"
