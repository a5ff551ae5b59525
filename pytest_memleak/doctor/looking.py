"""The check-up itself: each trial in a process of its own, then the extras, then what would bring what is missing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from pytest_memleak import __version__
from pytest_memleak.doctor import extras as own_extras
from pytest_memleak.inspection import rights
from pytest_memleak.model_doctor import Checkup, Extra, State, Tried
from pytest_memleak.units import counted

# gdb waits up to 50 s for a process that cannot be stopped; everything else takes a second, or ten where it is busy.
_WAIT_S: Final = 90.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """What is tried, by the name of its trial, and what does not work without it."""

    trial: str
    name: str
    serves: str
    is_core: bool = False


_MEASURED: Final = "pytest --memleak"

PROBES: Final = (
    _Probe(trial="allocated_blocks", name="allocated blocks", serves=_MEASURED, is_core=True),
    _Probe(trial="tracked_objects", name="tracked objects", serves=_MEASURED, is_core=True),
    _Probe(trial="allocating_line", name="tracemalloc", serves="the line of a leak", is_core=True),
    _Probe(trial="rss", name="RSS", serves="detect, dashboard, soak, the monitor", is_core=True),
    _Probe(trial="live_heap", name="live heap", serves="exact bytes in soak and the monitor (else estimated)"),
    _Probe(trial="c_heap", name="C heap", serves="leaks of C code"),
    _Probe(trial="heap_trim", name="heap trim", serves="telling free memory of the C heap from kept"),
    _Probe(trial="descriptors", name="descriptors", serves="leaks of files and sockets"),
    _Probe(trial="threads", name="threads", serves="leaks of threads"),
    _Probe(trial="tasks", name="tasks", serves="leaks of asyncio tasks"),
    _Probe(trial="children", name="child processes", serves="leaks of processes, workers in detect"),
    _Probe(trial="smaps_rollup", name="smaps_rollup", serves="what growth is made of, in detect"),
    _Probe(trial="cgroup_limit", name="cgroup limit", serves="when the limit is met, in detect"),
    _Probe(trial="remote_exec", name="sys.remote_exec", serves="track-objects of a running process"),
    _Probe(trial="gdb", name="gdb", serves="track-objects of a running process"),
    _Probe(trial="memray", name="memray", serves="the line behind growth of the C heap"),
)


def check_up(progress: Callable[[str], None]) -> Checkup:
    """Try everything; `progress` is told what is being tried."""
    probes = []
    for probe in PROBES:
        progress(probe.name)
        probes.append(_tried(probe))
    probes = _without_rivals(probes)
    extras = own_extras.find_extras()
    return Checkup(where=_where(), probes=tuple(probes), extras=tuple(extras), install=tuple(_commands(probes, extras)))


def _tried(probe: _Probe) -> Tried:
    state, said = _outcome(probe.trial)
    needs_gdb = probe.trial == "gdb" and state is State.MISSING and not rights.has_gdb()
    return Tried(
        name=probe.name,
        state=state,
        said=said,
        serves=probe.serves,
        is_core=probe.is_core,
        install=rights.gdb_command() if needs_gdb else "",
    )


def _outcome(trial: str) -> tuple[State, str]:
    """What came of a trial, or how its process ended."""
    # The same modules as here, whatever the folder is that this is run in.
    code = f"import sys; sys.path[:] = {sys.path!r}\nfrom pytest_memleak.doctor.trials import main\nmain({trial!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=_WAIT_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return State.MISSING, f"it did not answer for {_WAIT_S:.0f} s"
    except OSError as error:
        return State.MISSING, f"no process could be started to try it ({error})"
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
        return State(answer["state"]), str(answer["said"])
    except (ValueError, KeyError, TypeError):
        return State.MISSING, _end_of(done)


def _end_of(done: subprocess.CompletedProcess[str]) -> str:
    """How a trial ended that had nothing to say."""
    if done.returncode < 0:
        try:
            return f"the process that tried it died of {signal.Signals(-done.returncode).name}"
        except ValueError:
            return f"the process that tried it died of signal {-done.returncode}"
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    return f"the process that tried it failed: {last[0][:200] if last else f'exit code {done.returncode}'}"


def _without_rivals(probes: Sequence[Tried]) -> list[Tried]:
    """gdb and `sys.remote_exec` do the same: where one works, the other is no want."""
    by_name = {probe.name: probe for probe in probes}
    if by_name["sys.remote_exec"].state is not State.WORKS or by_name["gdb"].state is State.WORKS:
        return list(probes)
    said = f"{by_name['gdb'].said}; sys.remote_exec stands in for it"
    spared = dataclasses.replace(by_name["gdb"], state=State.NOT_HERE, said=said, install="")
    return [spared if probe.name == "gdb" else probe for probe in probes]


def _commands(probes: Sequence[Tried], extras: Sequence[Extra]) -> list[str]:
    missing = [extra.name for extra in extras if extra.state is State.MISSING]
    commands = [own_extras.pip_command(missing, len(extras))] if missing else []
    if not extras:
        commands = [f"python -m pip install {own_extras.DISTRIBUTION}"]
    return commands + [probe.install for probe in probes if probe.install]


def _where() -> tuple[str, ...]:
    """The versions of all that matters here."""
    libc = " ".join(platform.libc_ver()).strip()
    system = f"{platform.system()} {platform.release()}"
    cores = os.cpu_count() or 1
    python = f"{platform.python_implementation()} {platform.python_version()}"
    words = [f"pytest-memleak {__version__}", python, system, libc, counted(cores, "core")]
    return tuple(word for word in words if word)
