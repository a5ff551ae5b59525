"""The monitor of a FastAPI app: where its memory goes, while it serves.

from pytest_memleak.monitor import setup_memory_monitoring, memory_tracked

setup_memory_monitoring(app)
"""

from __future__ import annotations

from pytest_memleak.monitor.setup import setup_memory_monitoring, teardown
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.monitor.tracked import memory_tracked

__all__ = ["Monitor", "memory_tracked", "setup_memory_monitoring", "teardown"]
