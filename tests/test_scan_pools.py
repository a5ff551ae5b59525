"""Pools of threads and processes, and what becomes of a value in an attribute."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import thread_pool
from pytest_memleak.scan.suspect import Suspect

RULES = (thread_pool,)


def found(source: str) -> list[Suspect]:
    module = Module(ast.parse(textwrap.dedent(source)), "app.things")
    return [suspect for rule in RULES for suspect in rule.find(module)]


POOL = """
    from concurrent import futures
    class Store{bases}:
        def __init__(self, pool=None):
            self.pool = pool or futures.ThreadPoolExecutor(4)
        def work(self, loop, job):
            return loop.run_in_executor(self.pool, job)
"""


def pooled(more: str = "", bases: str = "") -> list[Suspect]:
    return found(textwrap.dedent(POOL.format(bases=bases)) + textwrap.indent(textwrap.dedent(more), "    "))


def test_a_pool_on_self_that_nothing_shuts_down_is_found_per_object() -> None:
    (suspect,) = pooled()
    assert suspect.driver is Driver.INSTANCE
    assert suspect.holder == "Store.pool"
    assert suspect.unless == ("closes:Store.pool", "closes:*.pool")
    assert suspect.message == (
        "a thread pool from `concurrent.futures.ThreadPoolExecutor(…)` is kept in `self.pool` "
        "and nothing shuts it down: every `Store` leaves one open"
    )


def test_a_close_that_closes_half_is_named() -> None:
    (suspect,) = pooled("def close(self):\n    self.other.close()\n")
    assert suspect.message.endswith("; `Store.close()` closes `self.other` but not this")


@pytest.mark.parametrize(
    "more",
    [
        "def close(self):\n    self.pool.shutdown()\n",
        "def close(self):\n    pool, self.pool = self.pool, None\n    pool.shutdown()\n",
        "def close(self):\n    pool = self.pool\n    pool.shutdown()\n",
        "def use(self):\n    with self.pool: pass\n",
        "def shared(self):\n    return self.pool\n",
        "def share(self, other):\n    x = other(self.pool)\n",
    ],
)
def test_a_pool_on_self_that_is_shut_down_or_shown_is_not(more: str) -> None:
    assert pooled(more) == []


def test_a_base_of_another_file_clears_by_its_facts_and_a_known_one_closes() -> None:
    (suspect,) = pooled(bases="(Base)")
    assert suspect.unless == ("closes:Store.pool", "closes:Base.pool", "closes:*.pool")
    assert len(pooled(bases="(ABC)")) == 1
    assert pooled(bases="(logging.Handler)") == []


def test_attributes_that_are_closed_by_name() -> None:
    assert pooled("def close(self):\n    for name in self.names:\n        getattr(self, name).shutdown()\n") == []
    assert len(pooled("def show(self, name):\n    print(getattr(self, name))\n")) == 1


def test_an_object_made_at_import_lives_as_long_as_the_process() -> None:
    private = textwrap.dedent(POOL.format(bases="")).replace("Store", "_Store")
    assert found(private + "\nSTORE = _Store()\n") == []


def test_others_make_further_objects_of_a_public_class_that_takes_arguments() -> None:
    (suspect,) = found(textwrap.dedent(POOL.format(bases="")) + "\nSTORE = Store()\n")
    assert suspect.confidence is Confidence.LOW


@pytest.mark.parametrize(
    "source,count",
    [
        ("from multiprocessing import Pool\ndef f():\n    Pool().map(g, [1])\n", 1),
        ("import multiprocessing as mp\ndef f():\n    p = mp.pool.ThreadPool(2)\n    p.map(g, [1])\n", 1),
        ("from multiprocessing import Pool\ndef f():\n    p = Pool()\n    p.map(g, [1])\n    p.terminate()\n", 0),
        ("from game import Pool\ndef f():\n    Pool().swim()\n", 0),
        ("from concurrent.futures import ProcessPoolExecutor\ndef f():\n    return ProcessPoolExecutor()\n", 0),
    ],
)
def test_pools_by_any_spelling(source: str, count: int) -> None:
    assert len(found(source)) == count


SHARED = """
from concurrent.futures import ThreadPoolExecutor
class App:
    def __init__(self, pool=None):
        if pool is None:
            pool = ThreadPoolExecutor(5)
        self.runner = Runner(workers=pool)
"""


def test_a_default_pool_that_is_shared_out_is_shut_down_by_who_has_it() -> None:
    (suspect,) = found(SHARED)
    assert suspect.confidence is Confidence.LOW
    assert suspect.unless == (
        "closes:*._workers",
        "closes:*.workers",
        "closes:Runner._workers",
        "closes:Runner.workers",
    )
    assert found(SHARED + "    def close(self):\n        self.runner.workers.shutdown()\n") == []


def test_a_property_shows_what_it_returns_to_who_closes_it() -> None:
    shown = "@property\ndef workers(self):\n    return self.pool\n"
    (suspect,) = pooled(shown)
    assert "closes:*.workers" in suspect.unless
    assert pooled(shown + "def close(self):\n    self.workers.shutdown()\n") == []


@pytest.mark.parametrize("given,count", [("lambda: self.pool.shutdown()", 1), ("self.pool.shutdown", 0)])
def test_what_a_finalizer_shuts_down_that_never_runs_stays(given: str, count: int) -> None:
    source = textwrap.dedent(POOL.format(bases="")) + f"    def watch(self):\n        weakref.finalize(self, {given})\n"
    assert len(found("import weakref\n" + source)) == count
