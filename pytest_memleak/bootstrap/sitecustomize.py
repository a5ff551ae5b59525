"""Python imports this file when it starts with this folder in PYTHONPATH.

A soak's agent begins in the workers of a server; in every process of a command whose objects are tracked a thread waits
at a pipe of its own for a statement. The user's own `sitecustomize`, if there is one, is imported after them. Standard
library only, of any Python from 3.8 on; whatever goes wrong here never stops the user's program.
"""

import importlib
import os
import sys


def _start_agent() -> None:
    try:
        from pytest_memleak.agent.arrival import wait_for_app
    except ImportError:
        python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        sys.stderr.write(f"memleak: {python} at {sys.executable} has no pytest-memleak; install it there\n")
        return
    wait_for_app()


def _serve(path: str) -> None:
    """Wait at the pipe: opening it blocks, without the interpreter's lock, until somebody writes."""
    while True:
        try:
            number = os.open(path, os.O_RDONLY)
        except OSError:
            return  # its folder is gone, and whoever started us with it
        try:
            text = b""
            while True:
                part = os.read(number, 65536)
                if not part:
                    break
                text += part
        finally:
            os.close(number)
        try:  # noqa: SIM105  (contextlib is not loaded yet)
            exec(text.decode(), {})
        except Exception:  # noqa: BLE001  (the statement answers for itself; the thread goes on)
            pass


def _start_serving() -> None:
    import _thread

    path = f"{os.environ['MEMLEAK_INSPECTION']}/pipe{os.getpid()}"
    try:
        os.mkfifo(path, 0o600)
        _thread.start_new_thread(_serve, (path,))
    except (OSError, RuntimeError, AttributeError):
        pass


def _import_users_own() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  (pathlib is not loaded yet)
    ours = sys.modules.pop(__name__, None)
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if os.path.abspath(entry) != here]  # noqa: PTH100
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules[__name__] = ours
    finally:
        sys.path[:] = path


if "MEMLEAK_AGENT_CHANNEL" in os.environ:
    _start_agent()
if "MEMLEAK_INSPECTION" in os.environ:
    _start_serving()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_start_serving)
_import_users_own()
