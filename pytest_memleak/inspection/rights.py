"""Why the kernel refuses that one process attaches to another, in words."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Final

from pytest_memleak.slugs import see

# include/uapi/linux/capability.h
_CAP_SYS_PTRACE: Final = 19

_INSTALL: Final = {
    "alpine": "apk add gdb",
    "arch": "pacman -S gdb",
    "debian": "apt-get install gdb",
    "fedora": "dnf install gdb",
    "rhel": "dnf install gdb",
    "suse": "zypper install gdb",
    "ubuntu": "apt-get install gdb",
}
"""By the ID, or an ID_LIKE, of os-release."""

ELSE: Final = "or read it by --url (an app with our monitor), or start it behind --"
"""What is left where nobody may attach."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides about it. `scope` is kernel.yama.ptrace_scope, 0 where there is no Yama; `tracer` 0 for none."""

    pid: int
    own_uid: int
    target_uid: int
    target_user: str
    scope: int
    may_trace_all: bool
    """Whether this process has CAP_SYS_PTRACE."""

    tracer: int
    tracer_name: str
    namespaced: bool
    """Whether the target lives in a user namespace that is not ours."""


def facts_of(pid: int) -> Facts:
    """Look them up; what cannot be read counts as what refuses nothing."""
    status = _status(pid)
    uid = int(status.get("Uid", "0").split()[1]) if "Uid" in status else os.geteuid()
    tracer = int(status.get("TracerPid", "0"))
    return Facts(
        pid=pid,
        own_uid=os.geteuid(),
        target_uid=uid,
        target_user=_user(uid),
        scope=_scope(),
        may_trace_all=bool(int(_status(os.getpid()).get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1),
        tracer=tracer,
        tracer_name=_status(tracer).get("Name", "") if tracer else "",
        namespaced=_namespace(pid) not in ("", _namespace(os.getpid())),
    )


def refusal(facts: Facts) -> str:
    """Why it was refused, and what helps, as one sentence."""
    return see("not-allowed-to-attach", _reason(facts))


def _reason(facts: Facts) -> str:
    subject = f"not allowed to attach to process {facts.pid}: "
    if facts.tracer:
        name = f" ({facts.tracer_name})" if facts.tracer_name else ""
        return f"{subject}process {facts.tracer}{name} traces it already, and one may at a time; end that first"
    if facts.scope >= 3:
        return f"{subject}kernel.yama.ptrace_scope is 3, which forbids it to everybody until the next boot; {ELSE[3:]}"
    if facts.may_trace_all:
        where = "it lives in another user namespace" if facts.namespaced else "a security module or a seccomp filter"
        forbids = "; attach from the machine that runs the container" if facts.namespaced else " forbids it"
        return f"{subject}{where}{forbids}, {ELSE}"
    if facts.own_uid == 0:
        return (
            f"{subject}this container lacks the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE; in Kubernetes "
            f"securityContext.capabilities.add: [SYS_PTRACE]); add it, {ELSE}"
        )
    if facts.own_uid != facts.target_uid:
        return f"{subject}it belongs to user {facts.target_user}; run memleak as root (sudo) or as that user, {ELSE}"
    if facts.scope == 2:
        return f"{subject}kernel.yama.ptrace_scope is 2, which allows it to root alone; run memleak by sudo, {ELSE}"
    if facts.scope == 1:
        return (
            f"{subject}kernel.yama.ptrace_scope is 1, which allows it to parents and root; run memleak by sudo, "
            f"or `sudo sysctl kernel.yama.ptrace_scope=0`, {ELSE}"
        )
    return (
        f"{subject}it has given up being traced (it was started with other rights than its user's, or set "
        f"PR_SET_DUMPABLE to 0), or a seccomp filter forbids ptrace; run memleak by sudo, {ELSE}"
    )


def gdb_missing() -> str:
    """That gdb is not there, with the command that installs it on this system."""
    sentence = f"a live process is read through gdb, which is not installed: `{gdb_command()}`, {ELSE}"
    return see("no-gdb", sentence)


def gdb_command() -> str:
    """The command that installs gdb on this system."""
    words = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        words = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
        break
    known = [name for name in f"{words.get('ID', '')} {words.get('ID_LIKE', '')}".split() if name in _INSTALL]
    return _INSTALL[known[0]] if known else "apt-get install gdb"


def has_gdb() -> bool:
    """Whether gdb is on the path."""
    return shutil.which("gdb") is not None


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _user(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/user").readlink())
    except OSError:
        return ""
