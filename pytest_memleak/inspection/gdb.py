"""A statement into a live CPython by gdb: laid before the interpreter's own queue, to be run when it is safe.

The debugger does not run Python where it happens to stop the process, in the middle of a malloc or of a collection.
It calls `Py_AddPendingCall`, made for being called at any moment from anywhere, and lets go: the main thread runs the
statement between two of its own bytecodes. Only where the main thread waits in the kernel, without the interpreter's
lock, and so runs no bytecode, is it made to run what is in the queue (`PyGILState_Ensure`, `Py_MakePendingCalls`).

gdb needs no symbols for it: the addresses are looked up in the exported tables. It runs in a session of its own, and is
never killed while it is attached: whatever becomes of us, Ctrl-C included, it finishes and detaches.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from pytest_memleak.inspection import interpreter as symbols
from pytest_memleak.inspection import rights
from pytest_memleak.inspection.errors import Gone, InspectionError
from pytest_memleak.inspection.injected import LetterBox
from pytest_memleak.inspection.interpreter import Interpreter, interpreter_of
from pytest_memleak.slugs import see

# A busy main thread reaches its next bytecode within microseconds, and an event loop within its next timer: uvicorn's
# ticks each 0.1 s. What takes longer waits in the kernel, or is deep in C.
_RUNS_WITHIN_S: Final = 1.0

# The longest call into C that is waited for (a query in a driver that keeps the lock, a matrix product).
_WAIT_S: Final = 20.0

# Attaching takes some 10 ms and stopping threads of a loaded machine some hundreds; a process in the kernel's
# uninterruptible sleep cannot be stopped at all.
_ATTACH_S: Final = 20.0
_DETACH_S: Final = 30.0

_PAGE_BYTES: Final = 4096

# x86-64 calls in which a thread waits, and no lock of the C library's is held: read, poll, select, nanosleep,
# accept, recvfrom, recvmsg, wait4, epoll_wait, clock_nanosleep, futex, waitid, pselect6, ppoll, epoll_pwait, accept4,
# pause, rt_sigtimedwait, rt_sigsuspend, epoll_pwait2.
_WAITING: Final = (0, 7, 23, 35, 43, 45, 47, 61, 232, 230, 202, 247, 270, 271, 281, 288, 34, 128, 130, 441)

_HEAD: Final = """\
set confirm off
set pagination off
set width 0
set language c
set unwindonsignal on
handle all nostop noprint pass
handle SIGINT nostop noprint pass
handle SIGSEGV SIGBUS SIGILL SIGFPE SIGABRT stop print nopass
echo memleak: before\\n
attach {pid}
echo memleak: attached\\n
"""

_PAGE: Final = """\
set $page = (unsigned long)((void*(*)(void*,unsigned long,int,int,int,long)){mmap})((void*)0, {size}, 3, 34, -1, 0)
printf "memleak: page %lu\\n", $page
"""

_PLANT: Final = """\
restore statement binary $page
set $added = ((int(*)(void*,void*)){add})((void*){run}, (void*)$page)
printf "memleak: added %d\\n", $added
"""

_KICK: Final = """\
set $call = $orig_rax
if {waiting}
  if ((int(*)(void)){check})() == 0
    set $state = ((int(*)(void)){ensure})()
    set $made = ((int(*)(void)){make})()
    call ((void(*)(int)){release})($state)
    echo memleak: kicked\\n
  end
end
"""

_FREE: Final = """\
set $freed = ((int(*)(void*,unsigned long)){munmap})((void*){page}, {size})
"""

_TAIL: Final = """\
detach
echo memleak: after\\n
"""


class Gdb:
    """Orders to one process, carried out through gdb. Best as a context manager."""

    name = "gdb"

    def __init__(self, pid: int) -> None:
        """Find its interpreter. Raises InspectionError, and Gone where it has ended."""
        if not rights.has_gdb():
            raise InspectionError(rights.gdb_missing())
        self.attached_s: list[float] = []
        self._pid = pid
        self._python: Interpreter = interpreter_of(pid)
        self._page = 0
        self._is_pending = False
        self._box = LetterBox(pid)
        # Not the target's: what gdb reads and says is nobody's business there.
        self._folder = Path(tempfile.mkdtemp(prefix="memleak-gdb-"))

    def __enter__(self) -> Gdb:
        return self

    def __exit__(self, *_raised: object) -> None:
        try:
            # A page that a queued call still refers to stays: 4 kB, and nothing that could crash.
            if self._page and not self._is_pending:
                self._attach(_FREE.format(page=self._page, size=_PAGE_BYTES, **self._names()))
        except (InspectionError, Gone):
            pass
        finally:
            self._box.__exit__()
            shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises InspectionError and Gone."""
        self._plant(self._box.put(order))
        answer = self._box.answer(_RUNS_WITHIN_S)
        if answer is None and platform.machine() == "x86_64":
            self._attach(_KICK.format(waiting=" || ".join(f"$call == {one}" for one in _WAITING), **self._names()))
        if answer is None:
            answer = self._box.answer(_WAIT_S)
        if answer is None:
            self._box.withdraw()
            raise InspectionError(
                see(
                    "busy-main-thread",
                    f"the main thread of process {self._pid} ran no Python for {_WAIT_S:.0f} s: it waits, or works in "
                    "C; try again when it has work to do",
                )
            )
        self._is_pending = False
        return answer

    def _plant(self, statement: str) -> None:
        data = statement.encode() + b"\0"
        if len(data) > _PAGE_BYTES:
            raise InspectionError(f"the path of the temporary folder is too long: {self._folder}")
        (self._folder / "statement").write_bytes(data)
        lines = f"set $page = {self._page}\n" if self._page else _PAGE.format(size=_PAGE_BYTES, **self._names())
        self._is_pending = True
        said = self._attach(lines + _PLANT.format(**self._names()))
        page = re.search(r"^memleak: page (\d+)$", said, re.MULTILINE)
        if page:
            self._page = int(page.group(1))
        added = re.search(r"^memleak: added (-?\d+)$", said, re.MULTILINE)
        if added is None or int(added.group(1)) != 0:
            self._is_pending = False
            why = "its queue of pending calls is full" if added else _last_words(said)
            raise InspectionError(f"gdb could not call into process {self._pid}: {why}")

    def _names(self) -> dict[str, str]:
        at = self._python.addresses
        names = {"add": symbols.ADD, "make": symbols.MAKE, "run": symbols.RUN, "check": symbols.CHECK}
        names |= {"ensure": symbols.ENSURE, "release": symbols.RELEASE, "mmap": symbols.MMAP, "munmap": symbols.MUNMAP}
        return {word: hex(at[name]) for word, name in names.items()}

    def _attach(self, lines: str) -> str:
        """Run a script on the attached process; gives what gdb said."""
        script = self._folder / "script"
        script.write_text(_HEAD.format(pid=self._pid) + lines + _TAIL, encoding="ascii")
        said = _run(self._folder, self.attached_s)
        if "memleak: attached" in said:
            return said
        if not Path(f"/proc/{self._pid}").exists() or "No such process" in said:
            raise Gone(f"process {self._pid} ended")
        if "not permitted" in said or "already traced" in said or "ptrace" in said:
            raise InspectionError(rights.refusal(rights.facts_of(self._pid)))
        raise InspectionError(f"gdb could not attach to process {self._pid}: {_last_words(said)}")


def _run(folder: Path, attached_s: list[float]) -> str:
    """One run of gdb; how long it was attached is appended. Ctrl-C is kept until gdb has let go."""
    output = folder / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [
                "gdb", "-nx", "-batch", "--readnever", "-iex", "set auto-load off", "-iex", "set auto-solib-add off",
                "-x", "script",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            # A file and no pipe: should we be killed, gdb still says what it says, and finishes.
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )  # fmt: skip
    interrupted: KeyboardInterrupt | None = None
    began = time.monotonic()
    before = after = 0.0
    while True:
        try:
            done = process.poll() is not None
            now = time.monotonic()
            said = output.read_text(encoding="utf-8", errors="replace")
            before = before or (now if "memleak: before" in said else 0.0)
            after = after or (now if "memleak: after" in said else 0.0)
            if done or now - began > _ATTACH_S + _DETACH_S:
                break
            if "memleak: attached" not in said and now - began > _ATTACH_S:
                process.terminate()  # it waits for the kernel to stop the process, and has called nothing
            time.sleep(0.002)
        except KeyboardInterrupt as error:
            interrupted = error
    if "memleak: attached" in said:
        attached_s.append((after or now) - before)
    if not done:
        raise InspectionError("gdb waits for the interpreter's lock, which a thread keeps; it detaches when it has it")
    if interrupted is not None:
        raise interrupted
    return said


def _environment() -> dict[str, str]:
    """Ours, without what would make gdb ask the network for symbols, or speak another language."""
    names = {"DEBUGINFOD_URLS", "PYTHONHOME", "PYTHONPATH"}
    return {**{name: value for name, value in os.environ.items() if name not in names}, "LC_ALL": "C"}


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("memleak:")]
    return lines[-1][:200] if lines else "it said nothing"
