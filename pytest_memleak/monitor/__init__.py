"""The monitor of a FastAPI app: where its memory goes, while it serves.

from pytest_memleak.monitor import setup_memory_monitoring, memory_tracked

setup_memory_monitoring(app)
"""

from __future__ import annotations

import importlib.util

from pytest_memleak.slugs import see

if importlib.util.find_spec("fastapi") is None:
    raise ModuleNotFoundError(
        see("missing-extra", "the monitor needs fastapi: python -m pip install 'pytest-memleak[monitor]'"),
        name="fastapi",
    )

from pytest_memleak.monitor.setup import setup_memory_monitoring, teardown
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.monitor.tracked import memory_tracked

__all__ = ["Monitor", "memory_tracked", "setup_memory_monitoring", "teardown"]
