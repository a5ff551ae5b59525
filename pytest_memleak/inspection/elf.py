"""Addresses of exported functions: the dynamic symbol table of an ELF file, which stripping does not remove."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

_PT_LOAD: Final = 1
_SHT_DYNSYM: Final = 11
_PAGE: Final = 4096

_MOST_BYTES: Final = 64_000_000
"""Of a symbol or string table: libpython's are 0.1 MB."""


class ElfError(Exception):
    """Not a 64-bit little-endian ELF file, or one without a table of dynamic symbols."""


def exported(path: Path, names: Collection[str]) -> dict[str, int]:
    """Where these symbols are, relative to the address at which the file's first byte is mapped.

    Absolute addresses for an executable that is not relocatable. Raises ElfError and OSError.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            raise ElfError(f"{path} is not a 64-bit little-endian ELF file")
        kind = struct.unpack_from("<H", head, 16)[0]
        shift = 0 if kind == 2 else _first_address(file, head)
        wanted = {name.encode() for name in names}
        try:
            return {name.decode(): value - shift for name, value in _symbols(file, head) if name in wanted}
        except (struct.error, ValueError, IndexError):
            raise ElfError(f"{path} has a table of symbols that cannot be read") from None


def is_fixed(path: Path) -> bool:
    """Whether it is an executable that is always mapped at the same addresses."""
    with path.open("rb") as file:
        head = file.read(18)
    return len(head) == 18 and bool(struct.unpack_from("<H", head, 16)[0] == 2)


def _first_address(file: BinaryIO, head: bytes) -> int:
    """The address for which the file's first byte was linked: nearly always 0."""
    offset = struct.unpack_from("<Q", head, 32)[0]
    size, count = struct.unpack_from("<HH", head, 54)
    for index in range(count):
        entry = _read(file, offset + index * size, 56)
        if struct.unpack_from("<I", entry)[0] == _PT_LOAD:
            file_offset, address = struct.unpack_from("<QQ", entry, 8)
            return int(address - file_offset) // _PAGE * _PAGE
    raise ElfError(f"{file.name} has nothing to load")


def _symbols(file: BinaryIO, head: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and values of all dynamic symbols that are defined."""
    offset = struct.unpack_from("<Q", head, 40)[0]
    size, count = struct.unpack_from("<HH", head, 58)
    sections = [struct.unpack("<IIQQQQIIQQ", _read(file, offset + index * size, 64)) for index in range(count)]
    for section in sections:
        if section[1] != _SHT_DYNSYM:
            continue
        strings = sections[section[6]]
        table, names = _read(file, section[4], section[5]), _read(file, strings[4], strings[5])
        for at in range(0, len(table) - 23, 24):
            name, _, _, index, value = struct.unpack_from("<IBBHQ", table, at)
            if index:  # 0: defined elsewhere
                yield names[name : names.index(b"\0", name)], value
        return
    raise ElfError(f"{file.name} has no table of dynamic symbols")


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MOST_BYTES:
        raise ElfError(f"{file.name} has a table of {size} bytes")
    file.seek(offset)
    return file.read(size)
