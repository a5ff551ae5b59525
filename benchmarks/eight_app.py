"""Eight endpoints, five that leak in five ways and three that do not: the subject of two benchmarks."""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from fastapi import FastAPI

LEAKS: Final = ("a", "c", "d", "f", "f2")
ENDPOINTS: Final = ("a", "b", "c", "d", "e", "f", "f2", "ok")

_CACHE_ENTRIES: Final = 500
_NATIVE_BYTES: Final = 1_000

_SOURCE: Final = """
#include <stdlib.h>
#include <string.h>
void keep(size_t size) { char *piece = malloc(size); if (piece) memset(piece, 1, size); }
"""

app = FastAPI()

kept: list[dict[str, Any]] = []
cache: dict[int, str] = {}
files: list[IO[str]] = []
tasks: set[asyncio.Task[None]] = set()
numbers = iter(range(10**12))


@app.get("/a")
async def dict_kept() -> dict[str, bool]:
    kept.append({"text": "x" * 1_000 + str(next(numbers))})
    return {"ok": True}


@app.get("/b")
async def bounded_cache() -> dict[str, bool]:
    if len(cache) >= _CACHE_ENTRIES:
        del cache[next(iter(cache))]
    cache[next(numbers)] = "x" * 500 + str(next(numbers))
    return {"ok": True}


@app.get("/c")
async def task_without_end() -> dict[str, bool]:
    tasks.add(asyncio.get_running_loop().create_task(_wait_for_ever()))
    return {"ok": True}


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


@app.get("/d")
async def file_kept() -> dict[str, bool]:
    files.append(Path(__file__).open(encoding="utf-8"))  # noqa: SIM115 - the leak itself
    return {"ok": True}


class _Node:
    def __init__(self) -> None:
        self.itself = self
        self.text = "x" * 1_000


@app.get("/e")
async def cycle() -> dict[str, bool]:
    _Node()
    return {"ok": True}


libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]


@app.get("/f")
async def malloc_through_ctypes() -> dict[str, bool]:
    libc.malloc(_NATIVE_BYTES)
    return {"ok": True}


# Kept as long as the process runs: a native trace reads the library's symbols from its file.
_folder = tempfile.TemporaryDirectory(prefix="memleak-eight-")


def compiled() -> Callable[[int], None] | None:
    """`keep(size)` of a C library that is built now; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = Path(_folder.name) / "keep.c", Path(_folder.name) / "libkeep.so"
    source.write_text(_SOURCE, encoding="utf-8")
    subprocess.run([compiler, "-g", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    keep = ctypes.CDLL(str(library)).keep
    keep.argtypes, keep.restype = [ctypes.c_size_t], None
    return keep


keep = compiled()


@app.get("/f2")
async def malloc_in_library() -> dict[str, bool]:
    assert keep is not None, "no C compiler: leave out /f2"
    keep(_NATIVE_BYTES)
    return {"ok": True}


@app.get("/ok")
async def clean() -> dict[str, bool]:
    return {"ok": True}
