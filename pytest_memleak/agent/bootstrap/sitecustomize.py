"""Python imports this file when it starts with this folder in PYTHONPATH: the way into a server's workers.

The user's own `sitecustomize`, if there is one, is imported after it. Whatever goes wrong here is told in one
line and never stops the user's program.
"""

import importlib
import os
import sys


def _start() -> None:
    try:
        from pytest_memleak.agent.arrival import wait_for_app
    except ImportError:
        python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        sys.stderr.write(f"memleak: {python} at {sys.executable} has no pytest-memleak; install it there\n")
        return
    wait_for_app()


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
    _start()
_import_users_own()
