"""The letter box of an inspection: a folder that the inspected process reads its order from, and answers into."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
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
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.chown(self._folder, owner.st_uid, owner.st_gid)
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
        path = self._folder / f"order{self._count}.py"
        order = {**order, "answer": str(self._seen_as / f"answer{self._count}")}
        source = Path(__file__).with_name("payload.py").read_text(encoding="utf-8")
        path.write_text(f"{source}\n\nmain({order!r})\n", encoding="utf-8")
        with contextlib.suppress(OSError):
            if os.geteuid() == 0:
                owner = Path(f"/proc/{self._pid}").stat()
                os.chown(path, owner.st_uid, owner.st_gid)
        return _STATEMENT.format(path=str(self._seen_as / path.name))

    def withdraw(self) -> None:
        """Take the last order back: the statement does nothing any more."""
        (self._folder / f"order{self._count}.py").unlink(missing_ok=True)

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
            if path.stat().st_size > _MOST_BYTES:
                raise InspectionError(f"the answer of process {self._pid} is larger than {_MOST_BYTES} bytes")
            answer = ast.literal_eval(path.read_text(encoding="ascii"))
            self.withdraw()
            path.unlink()
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            raise InspectionError(f"the answer of process {self._pid} cannot be read ({error})") from None
        if not isinstance(answer, dict) or "error" in answer:
            why = answer.get("error") if isinstance(answer, dict) else "no dict"
            raise InspectionError(f"process {self._pid} could not count its objects ({why})")
        return answer

    def _check(self) -> None:
        if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
            raise Gone(f"process {self._pid} ended")


def _process(pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        raise Gone(f"process {pid} ended") from None


def _root_of(pid: int) -> Path | None:
    """The root folder of another mount namespace, through /proc; None where it is ours."""
    mine, theirs = Path("/proc/self/ns/mnt"), Path(f"/proc/{pid}/ns/mnt")
    try:
        if not mine.exists() or os.readlink(mine) == os.readlink(theirs):
            return None
    except OSError:
        return None
    root = Path(f"/proc/{pid}/root")
    # A link would be followed in our own namespace, to wherever its owner likes.
    if (root / "tmp").is_symlink():
        raise InspectionError(f"/tmp of process {pid} is a symbolic link, which is not followed out of its container")
    return root
