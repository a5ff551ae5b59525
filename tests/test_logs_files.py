"""Which files are read, in which order, and what of them is refused in words."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from pytest_memleak.watch.log_files import BLOCK, LogError, LogFile, blocks, expand


def names(files: list[LogFile]) -> list[tuple[str, str]]:
    return [(file.log, Path(file.path).name) for file in files]


def make(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).write_text("RSS: 5 MB\n")


def test_rotated_files_come_oldest_first(tmp_path: Path) -> None:
    make(tmp_path, "app.log", "app.log.1", "app.log.2.gz", "app.log.10.gz", "other.log")
    assert names(expand([str(tmp_path / "*")])) == [
        ("app.log", "app.log.10.gz"),
        ("app.log", "app.log.2.gz"),
        ("app.log", "app.log.1"),
        ("app.log", "app.log"),
        ("other.log", "other.log"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        ("app.log-20251230.gz", "app.log-20251231", "app.log"),
        ("app.log.2025-12-30", "app.log.2025-12-31", "app.log"),
        ("app.log.2025-12-31_09-00", "app.log.2025-12-31_10-00", "app.log"),
        ("app-2025-12-30.log", "app-2025-12-31.log.zst", "app.log"),
        ("app.2.log", "app.1.log", "app.log"),
        ("app.log.1767139200", "app.log.1767225600", "app.log"),
    ],
)
def test_names_of_rotation(tmp_path: Path, files: tuple[str, ...]) -> None:
    make(tmp_path, *files)
    assert names(expand([str(tmp_path / name) for name in reversed(files)])) == [("app.log", name) for name in files]


def test_a_file_is_read_once_and_logs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make(tmp_path / folder, "app.log")
    files = expand([str(tmp_path / "*" / "app.log"), str(tmp_path / "a" / "app.log")])
    assert [file.log for file in files] == [str(tmp_path / "a" / "app.log"), str(tmp_path / "b" / "app.log")]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there is no such file"):
        expand([str(tmp_path / "none.log")])
    with pytest.raises(LogError, match="no file matches"):
        expand([str(tmp_path / "*.log")])
    with pytest.raises(LogError, match="is a directory: name its files"):
        expand([str(tmp_path)])


def read(path: Path) -> bytes:
    return b"".join(blocks(LogFile(path=str(path), log="x")))


TEXT = b"RSS: 5 MB\n" * (BLOCK // 5)


def test_gzip_zstd_and_utf_16(tmp_path: Path) -> None:
    packed = {"a.gz": gzip.compress(TEXT[: BLOCK + 7]) + gzip.compress(TEXT[BLOCK + 7 :])}
    packed["c.log"] = "RSS: 5 MB\r\n".encode("utf-16")
    if sys.version_info < (3, 14):
        zstandard = pytest.importorskip("zstandard")
        compress = zstandard.ZstdCompressor().compress
        packed["b.zst"] = compress(TEXT[:1000]) + compress(TEXT[1000:])
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
    assert read(tmp_path / "c.log") == b"RSS: 5 MB\r\n"
    assert all(read(tmp_path / name) == TEXT for name in packed if name != "c.log")


@pytest.mark.parametrize("data", [b"\0\1\2\3" * 1000, b"\x7fELF\2\1\1\0" + bytes(100), b"RSS: 5 MB\n\0\0"])
def test_binary_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(LogError, match=r"x is no text \(binary\)"):
        read(tmp_path / "x")


def test_zeros_that_rotation_left_are_no_binary(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100_000) + b"RSS: 5 MB\n")
    assert read(tmp_path / "x").endswith(b"RSS: 5 MB\n")


def test_what_is_packed_otherwise_or_damaged_is_said(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"BZh91AY")
    with pytest.raises(LogError, match="compressed with bzip2: unpack it"):
        read(tmp_path / "x")
    (tmp_path / "x").write_bytes(gzip.compress(TEXT)[:-20])
    with pytest.raises(LogError, match="is damaged"):
        read(tmp_path / "x")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(TEXT))))
    (file,) = expand(["-", "-"])
    assert file.log == "standard input"
    assert b"".join(blocks(file)) == TEXT


def test_an_empty_file_has_no_blocks_with_bytes(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "x").write_bytes(b"")
    assert read(tmp_path / "x") == b""
