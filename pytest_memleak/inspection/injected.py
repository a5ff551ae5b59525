"""The letter box of an inspection: a folder that the inspected process reads its order from, and answers into."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from pytest_memleak.inspection.errors import Gone, InspectionError

# A statement for the target's __main__ that leaves no name there, and no cycle: the namespace is emptied at the end.
_STATEMENT: Final = (
    "try:\n"
    " (lambda n:(exec(compile((lambda f:(f.read(),f.close())[0])(open({path!r},'rb')),'<memleak>','exec'),n),"
    "n.clear()))({{'__name__':'memleak'}})\n"
    "except Exception:pass\n"
    # Ctrl-C came among our frames: again, from a thread that waits until they are gone.
    "except KeyboardInterrupt:__import__('_thread').start_new_thread(__import__('_thread').interrupt_main,())\n"
)

_POLL_S: Final = 0.01
_MOST_BYTES: Final = 64_000_000
"""Of an answer: 100,000 types of 200 characters make 25 MB."""


class LetterBox:
    """A folder that only the target's user (and root) may enter, under a path that the target sees.

    Where the target lives in a mount namespace of its own (a container), the folder is made in there.
    """

    def __init__(self, pid: int) -> None:
        """Make it. Raises InspectionError, and Gone where the process has ended."""
        self._pid = pid
        self._count = 0
        self._process = _process(pid)
        try:
            root = _root_of(pid)
            self._folder = Path(tempfile.mkdtemp(prefix="memleak-", dir=root / "tmp" if root else None))
            self._seen_as = Path("/") / self._folder.relative_to(root) if root else self._folder
            owner = Path(f"/proc/{pid}").stat()
            self._owner = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid else None
            self._give(self._folder)
        except OSError as error:
            self._check()
            raise InspectionError(f"no folder could be made that process {pid} can read: {error}") from None

    def __enter__(self) -> LetterBox:
        return self

    def __exit__(self, *_raised: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Where it is, for us."""
        return self._folder

    def put(self, order: dict[str, Any]) -> str:
        """Lay an order there; gives the statement that makes the target carry it out."""
        self._count += 1
        path = self._order()
        order = {**order, "answer": str(self._seen_as / f"answer{self._count}")}
        source = Path(__file__).with_name("payload.py").read_text(encoding="utf-8")
        path.write_text(f"{source}\n\nmain({order!r})\n", encoding="utf-8")
        self._give(path)
        return _STATEMENT.format(path=str(self._seen_as / path.name))

    def put_script(self, order: dict[str, Any]) -> Path:
        """The same, as a file that holds the statement; gives its path as the target sees it."""
        path = self._folder / "script.py"
        path.write_text(self.put(order), encoding="utf-8")
        self._give(path)
        return self._seen_as / path.name

    def withdraw(self) -> None:
        """Take the last order back: the statement does nothing any more."""
        self._order().unlink(missing_ok=True)

    def _order(self) -> Path:
        return self._folder / f"order{self._count}.py"

    def _give(self, path: Path) -> None:
        """Let the target's user read it, where that is not ours."""
        owner = self._owner
        if owner is not None:
            os.chown(path, *owner)

    def answer(self, wait_s: float, clock: Callable[[], float] = time.monotonic) -> dict[str, Any] | None:
        """The answer to the last order; None when there is none within the time. Raises Gone and InspectionError."""
        path = self._folder / f"answer{self._count}"
        deadline = clock() + wait_s
        while not path.exists():
            self._check()
            if clock() >= deadline:
                return None
            time.sleep(_POLL_S)
        try:
            answer = ast.literal_eval(_text_of(path).decode("ascii"))
            self.withdraw()
            path.unlink()
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            raise InspectionError(f"the answer of process {self._pid} cannot be read ({error})") from None
        if not isinstance(answer, dict) or "error" in answer:
            why = answer.get("error") if isinstance(answer, dict) else "no dict"
            raise InspectionError(f"process {self._pid} could not count its objects ({why})")
        return answer

    def _check(self) -> None:
        try:
            is_there = self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            is_there = False
        if not is_there:
            raise Gone(f"process {self._pid} ended")


def _text_of(path: Path) -> bytes:
    """An answer, without following a link: whoever is inspected may have laid one for us."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode) or os.fstat(number).st_size > _MOST_BYTES:
            raise ValueError("not a file, or too large")
        return file.read(_MOST_BYTES)


def _process(pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        raise Gone(f"process {pid} ended") from None


def _root_of(pid: int) -> Path | None:
    """The root folder of another mount namespace, through /proc; None where it is ours."""
    mine, theirs = Path("/proc/self/ns/mnt"), Path(f"/proc/{pid}/ns/mnt")
    try:
        if not mine.exists() or mine.readlink() == theirs.readlink():
            return None
    except OSError:
        return None
    root = Path(f"/proc/{pid}/root")
    # A link would be followed in our own namespace, to wherever its owner likes.
    if (root / "tmp").is_symlink():
        raise InspectionError(f"/tmp of process {pid} is a symbolic link, which is not followed out of its container")
    return root
