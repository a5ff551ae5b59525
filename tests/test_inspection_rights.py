"""Why nobody may attach, in words."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from pytest_memleak.inspection import rights
from pytest_memleak.inspection.rights import Facts

MINE = Facts(
    pid=12, own_uid=1000, target_uid=1000, target_user="ada", scope=0, may_trace_all=False, tracer=0, tracer_name="",
    namespaced=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"tracer": 99, "tracer_name": "strace"}, "process 99 (strace) traces it already"),
        ({"scope": 3}, "ptrace_scope is 3"),
        ({"scope": 3, "may_trace_all": True}, "ptrace_scope is 3"),
        ({"scope": 2}, "ptrace_scope is 2"),
        ({"scope": 1}, "sudo sysctl kernel.yama.ptrace_scope=0"),
        ({"target_uid": 33, "target_user": "www-data"}, "it belongs to user www-data"),
        ({"target_uid": 33, "target_user": "www-data", "scope": 1}, "it belongs to user www-data"),
        ({"own_uid": 0, "target_uid": 0}, "--cap-add SYS_PTRACE"),
        ({"own_uid": 0, "target_uid": 0, "may_trace_all": True}, "a security module or a seccomp filter forbids it"),
        ({"own_uid": 0, "may_trace_all": True, "namespaced": True}, "another user namespace"),
        ({}, "given up being traced"),
    ],
)
def test_a_refusal_says_why_and_what_helps(facts: dict[str, Any], words: str) -> None:
    said = rights.refusal(dataclasses.replace(MINE, **facts))
    assert said.startswith("not allowed to attach to process 12: ")
    assert words in said
    assert "\n" not in said


def test_the_facts_of_this_process_are_read() -> None:
    facts = rights.facts_of(os.getpid())
    assert (facts.own_uid, facts.target_uid, facts.tracer) == (os.geteuid(), os.getuid(), 0)


def test_of_a_process_that_is_gone_the_facts_refuse_nothing() -> None:
    assert rights.facts_of(2**22 + 1).tracer == 0


def test_where_gdb_is_missing_the_command_that_installs_it_is_told() -> None:
    assert "gdb" in rights.gdb_missing()
    assert "`" in rights.gdb_missing()
