"""A statement into a live CPython by its own interface, `sys.remote_exec` (PEP 768): 3.14 on, both of one version."""

from __future__ import annotations

import sys
from typing import Any, Final

from pytest_memleak.inspection import rights
from pytest_memleak.inspection.errors import InspectionError
from pytest_memleak.inspection.injected import LetterBox
from pytest_memleak.inspection.interpreter import minor_of
from pytest_memleak.slugs import see

_WAIT_S: Final = 20.0


def is_possible(pid: int) -> bool:
    """Whether this interpreter has it, and the other one is of the same minor version."""
    return hasattr(sys, "remote_exec") and minor_of(pid) == sys.version_info[1]


class RemoteExec:
    """Orders to one process through `sys.remote_exec`. Best as a context manager."""

    name = "sys.remote_exec"

    def __init__(self, pid: int) -> None:
        """Raises InspectionError, and Gone where the process has ended."""
        self.attached_s: list[float] = []
        self._pid = pid
        self._box = LetterBox(pid)

    def __enter__(self) -> RemoteExec:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._box.__exit__()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises InspectionError and Gone."""
        script = self._box.put_script(order)
        run: Any = getattr(sys, "remote_exec")  # noqa: B009  (mypy knows it from 3.14 on only)
        try:
            run(self._pid, str(script))
        except PermissionError:
            raise InspectionError(rights.refusal(rights.facts_of(self._pid))) from None
        except (OSError, RuntimeError) as error:
            raise InspectionError(f"sys.remote_exec refuses process {self._pid}: {error}") from None
        answer = self._box.answer(_WAIT_S)
        if answer is None:
            self._box.withdraw()
            sentence = f"the main thread of process {self._pid} ran no Python for {_WAIT_S:.0f} s"
            raise InspectionError(see("busy-main-thread", sentence))
        return answer
