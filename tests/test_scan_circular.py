"""Cycles of strong references made per call, and those that are none or are broken."""

from __future__ import annotations

import ast
import textwrap

import pytest

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.rules import circular_reference
from pytest_memleak.scan.suspect import Suspect


def _found(source: str) -> list[Suspect]:
    return list(circular_reference.find(Module(ast.parse(textwrap.dedent(source)), "app")))


ITSELF = """
class Node:
    def __init__(self):
        self.ref = self
"""
PAIR = """
def link(child, parent):
    parent.child = child
    child.parent = parent
"""
OWNER = """
class Part:
    def __init__(self, whole):
        self.whole = whole
class Whole:
    def __init__(self):
        self.part = Part(self)
def handle():
    return Whole().part
"""


def test_an_object_that_refers_to_itself() -> None:
    (suspect,) = _found(ITSELF)
    assert (suspect.confidence, suspect.driver, suspect.holder) == (Confidence.MEDIUM, Driver.INSTANCE, "Node.ref")
    assert suspect.message == (
        "self.ref refers to self itself: a cycle of strong references that nothing here breaks, "
        "so only the garbage collector frees them, late and all at once"
    )


@pytest.mark.parametrize("use", ["Node().run()", "node = Node()\n    node.run()", "with Node(): pass"])
def test_one_that_is_made_per_call_is_surer(use: str) -> None:
    (suspect,) = _found(ITSELF + f"def handle():\n    {use}\n")
    assert suspect.confidence is Confidence.HIGH


@pytest.mark.parametrize("use", ["return Whole()", "whole = Whole()\n    return whole", "app.kept = Whole()"])
def test_a_part_of_what_is_given_back_or_kept_is_less_sure(use: str) -> None:
    (suspect,) = _found(OWNER.replace("return Whole().part", use))
    assert suspect.confidence is Confidence.LOW


def test_in_a_test_it_is_less_sure() -> None:
    (suspect,) = circular_reference.find(Module(ast.parse(PAIR), "app.tests.tree"))
    assert suspect.confidence is Confidence.LOW


def test_two_that_refer_to_each_other() -> None:
    (suspect,) = _found(PAIR)
    assert (suspect.confidence, suspect.driver) == (Confidence.HIGH, Driver.CALL)


def test_a_part_that_holds_what_holds_it() -> None:
    (suspect,) = _found(OWNER)
    assert (suspect.confidence, suspect.driver) == (Confidence.MEDIUM, Driver.INSTANCE)
    assert "stops:Whole.part" in suspect.unless


def test_a_part_given_by_keyword() -> None:
    assert len(_found(OWNER.replace("Part(self)", "Part(whole=self)"))) == 1


def test_a_part_made_on_first_use_is_less_sure() -> None:
    source = """
        class Part:
            def __init__(self, whole):
                self.whole = whole
        class Whole:
            def get(self):
                if not self.part:
                    self.part = Part(self)
    """
    (suspect,) = _found(source)
    assert suspect.confidence is Confidence.LOW


@pytest.mark.parametrize("source", [ITSELF, PAIR.replace("child.parent", "child.ref"), OWNER.replace("part", "ref")])
@pytest.mark.parametrize("breaks", ["x.ref = None", "del x.ref"])
def test_a_cycle_that_the_file_breaks_is_none(source: str, breaks: str) -> None:
    assert _found(source + f"\ndef close(x):\n    {breaks}\n") == []


@pytest.mark.parametrize(
    "source",
    [
        PAIR.replace("= parent\n", "= weakref.ref(parent)\n"),
        PAIR.replace("    parent.child = child\n", ""),
        PAIR.replace("child.parent", "child.prev").replace("parent.child", "parent.next"),
        PAIR.replace("link", "setup_tree"),
        OWNER.replace("= whole", "= weakref.proxy(whole)"),
        OWNER.replace("= whole", "= whole.name"),
        OWNER.replace("def handle():\n    return Whole().part", "WHOLE = Whole()"),
        OWNER.replace("def handle():\n    return Whole().part", ""),
        ITSELF.replace("= self\n", "= self.close\n"),
        ITSELF + "\nROOT = Node()\n",
        "class Rule:\n    def __init__(self):\n        self.finalizer = weakref.finalize(self, print)",
    ],
)
def test_what_is_no_cycle_or_made_once(source: str) -> None:
    assert _found(source) == []


def test_none_in_the_init_breaks_nothing() -> None:
    source = """
        class Node:
            def __init__(self):
                self.ref = None
            def bind(self):
                self.ref = self
    """
    assert len(_found(source)) == 1


LATER = """
class Part:
    def __init__(self, whole):
        self.whole = whole
class Whole:
    def open(self):
        self.part = Part(self)
"""


def test_what_a_framework_makes_and_links_later_is_likely_only() -> None:
    assert [each.confidence for each in _found(LATER)] == [Confidence.LOW]
    assert _found(LATER + "    def close(self):\n        self.part = None\n") == []


def test_an_exception_holds_what_it_is_made_of() -> None:
    source = "class Answer:\n    def __init__(self, code):\n        self.error = HttpError(code, self)\n"
    assert [each.confidence for each in _found(source)] == [Confidence.MEDIUM]
    assert _found(source.replace(", self)", ")")) == []
    assert _found(source + "    def close(self):\n        self.error = None\n") == []


FINALIZED = """
import functools, weakref
class Tracer:
    def __init__(self, pool):
        self.pool = pool
        def done(): self.pool.shutdown()
        def other(): pool.shutdown()
        weakref.finalize(self, {given})
    def close(self): ...
    @staticmethod
    def _close(pool): ...
"""


@pytest.mark.parametrize(
    "given,what",
    [
        ("lambda: self.pool.shutdown()", "the lambda"),
        ("self.close", "the bound method `self.close`"),
        ("done", "the closure `done`"),
        ("print, self", "`self` itself"),
        ("functools.partial(print, self)", "`self` itself"),
        ("self._close, self.pool", ""),
        ("self.pool.shutdown", ""),
        ("other", ""),
        ("lambda: pool.shutdown()", ""),
    ],
)
def test_a_finalizer_that_refers_to_what_it_waits_for_never_runs(given: str, what: str) -> None:
    suspects = _found(FINALIZED.format(given=given))
    assert [each.message.partition(" is given ")[2].partition(", which refers to self")[0] for each in suspects] == (
        [what] if what else []
    )
    assert all(each.confidence is Confidence.HIGH for each in suspects)
