"""MLK006: a pool of threads or processes that nobody shuts down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.suspect import Suspect
from pytest_memleak.scan.unclosed import Made, suspects

CODE: Final = "MLK006"
PATTERN: Final = "thread_pool"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a pool shut down, terminated or closed anywhere in the function, or used by `with`",
    "a pool returned, or given to something that may shut it down",
    "a pool in an attribute that anything in the program shuts down, or of a class with a base that closes such",
    "a pool in a module's global or of an object made at import, which lives as long as the process",
)

_EXECUTORS: Final = frozenset({"ThreadPoolExecutor", "ProcessPoolExecutor", "InterpreterPoolExecutor"})
_POOLS: Final = frozenset(
    {
        "multiprocessing.Pool",
        "multiprocessing.ThreadPool",
        "multiprocessing.pool.Pool",
        "multiprocessing.pool.ThreadPool",
        "multiprocess.Pool",
        "torch.multiprocessing.Pool",
    }
)


def find(module: Module) -> Iterator[Suspect]:
    """The pools that nobody shuts down."""
    return suspects(module, _made(module))


def _made(module: Module) -> Iterator[Made]:
    for call in module.calls:
        name = last_name(call.func)
        if name in _EXECUTORS:
            if name not in module.classes and not module.dotted(call.func).startswith("self."):
                yield Made(call=call, noun=_NOUNS[name], closing="shuts it down")
        elif name in {"Pool", "ThreadPool"}:
            # A context has pools too: `multiprocessing.get_context("spawn").Pool()`.
            callee = module.dotted(call.func).replace(".get_context()", "")
            if callee in _POOLS:
                noun = "a thread pool" if name == "ThreadPool" else "a process pool"
                yield Made(call=call, noun=noun, closing="shuts it down")


_NOUNS: Final = {
    "ThreadPoolExecutor": "a thread pool",
    "ProcessPoolExecutor": "a process pool",
    "InterpreterPoolExecutor": "a pool of interpreters",
}
