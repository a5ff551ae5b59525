"""The leaking example shop with the monitor: what the stack watches until it watches yours.

`uvicorn watched_shop:app`, with `examples/leaky_shop` on the path.
"""

from pytest_memleak.monitor import setup_memory_monitoring
from shop.main import app

setup_memory_monitoring(app, port=8001)
