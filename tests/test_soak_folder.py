"""The folder of a run: whole lines only, nothing lost while the disk is full, and one sentence for what is wrong."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_memleak.soak import folder as folders
from pytest_memleak.soak.folder import READINGS, REPORT, RESULT, RUN, FolderError, RunFolder, read_plan, records


def numbered(number: int) -> dict[str, Any]:
    return {"kind": "reading", "n": number}


def read(path: Path) -> list[int]:
    return [record["n"] for record in records(path)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder.create(tmp_path / "run", {"app": "shop:app"})
    yield folder
    folder.close()


class Disk:
    """A disk with so much room, in bytes: the write that passes it is cut short, the next ones fail."""

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self.room = 1_000_000
        self._write = write

    def write(self, file: int, line: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = line[: self.room]
        self.room -= len(part)
        return self._write(file, part)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(os.write)
    monkeypatch.setattr(os, "write", made.write)
    return made


def test_what_is_appended_is_there_at_once_in_its_order(made: RunFolder) -> None:
    for number in range(100):
        made.append(numbered(number))
        assert read(made.path) == list(range(number + 1))
    assert (made.waiting, made.lost, made.was_full) == (0, 0, False)


def test_the_plan_is_written_before_any_reading(made: RunFolder) -> None:
    assert read_plan(made.path) == {"app": "shop:app"}
    assert read(made.path) == []


@pytest.mark.parametrize("half", [b'{"kind":"reading","n":7', b"{", b"\0" * 4096], ids=["record", "brace", "zeros"])
def test_half_a_line_at_the_end_is_left_out_and_dropped_when_the_run_goes_on(tmp_path: Path, half: bytes) -> None:
    folder = RunFolder.create(tmp_path, {})
    folder.append(numbered(0))
    folder.append(numbered(1))
    folder.close()
    whole = (tmp_path / READINGS).read_bytes()
    (tmp_path / READINGS).write_bytes(whole + half)
    assert read(tmp_path) == [0, 1]
    again = RunFolder.reopen(tmp_path)
    again.append(numbered(2))
    again.close()
    assert read(tmp_path) == [0, 1, 2]
    assert (tmp_path / READINGS).read_bytes() == whole + json.dumps(numbered(2), separators=(",", ":")).encode() + b"\n"


def test_half_a_line_longer_than_a_block_is_dropped_too(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, {}).close()
    whole = b'{"kind":"reading","n":0}\n'
    (tmp_path / READINGS).write_bytes(whole + b"x" * 200_000)
    RunFolder.reopen(tmp_path).close()
    assert (tmp_path / READINGS).read_bytes() == whole


def test_readings_without_a_single_whole_line_begin_anew(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, {}).close()
    (tmp_path / READINGS).write_bytes(b"x" * 100_000)
    again = RunFolder.reopen(tmp_path)
    again.append(numbered(0))
    again.close()
    assert read(tmp_path) == [0]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"kind":"reading","n":\n',
        b"\0\0\0\0\n",
        b"\xff\xfe{}\n",
        b"[1, 2]\n",
        b'"reading"\n',
        b'{"n":5}\n',
        b'{"kind":5,"n":5}\n',
        b"\n",
    ],
)
def test_a_damaged_line_in_the_middle_is_skipped(tmp_path: Path, damaged: bytes) -> None:
    first, last = (json.dumps(numbered(number)).encode() + b"\n" for number in (0, 1))
    (tmp_path / READINGS).write_bytes(first + damaged + last)
    assert read(tmp_path) == [0, 1]


def test_a_folder_without_readings_has_no_records(tmp_path: Path) -> None:
    assert list(records(tmp_path)) == []


@pytest.mark.parametrize("room", [0, 1, 23, 24, 30, 70])
def test_a_full_disk_loses_nothing_and_keeps_the_order(made: RunFolder, disk: Disk, room: int) -> None:
    disk.room = room
    for number in range(10):
        made.append(numbered(number))
        lines = (made.path / READINGS).read_bytes()
        assert not lines or lines.endswith(b"\n"), "half a line stayed in the file"
    assert made.was_full
    assert made.waiting == 10 - len(read(made.path))
    disk.room = 1_000_000
    made.append(numbered(10))
    assert read(made.path) == list(range(11))
    assert (made.waiting, made.lost) == (0, 0)


def test_what_waits_for_the_disk_is_bounded_and_the_oldest_is_given_up(
    made: RunFolder, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_MOST_WAITING", 5)
    disk.room = 0
    for number in range(12):
        made.append(numbered(number))
        assert made.waiting <= 5
    assert made.lost == 7
    disk.room = 1_000_000
    made.append(numbered(12))
    assert read(made.path) == [7, 8, 9, 10, 11, 12]
    assert made.lost == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_device_that_is_always_full_is_no_error(made: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    file, made._file = made._file, full
    made.append(numbered(0))
    assert (made.was_full, made.waiting) == (True, 1)
    made._file = file
    os.close(full)
    made.append(numbered(1))
    assert read(made.path) == [0, 1]


@pytest.mark.parametrize("left", [RUN, READINGS])
def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("{}\n")
    with pytest.raises(FolderError, match="holds a run already: name another folder, or go on with it by --resume"):
        RunFolder.create(tmp_path, {})
    assert (tmp_path / left).read_text() == "{}\n"


def test_two_harnesses_do_not_write_to_one_run(made: RunFolder) -> None:
    pytest.importorskip("fcntl")
    with pytest.raises(FolderError, match="is being written by a soak that still runs"):
        RunFolder.reopen(made.path)


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(FolderError, match=r"cannot be written \(.*\): name another folder$") as caught:
            RunFolder.create(path, {})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "holds no run: expects the folder that `memleak soak` made"),
        ("{", "cannot be read"),
        ("\udcff", "cannot be read"),
        ("[]", "is not the plan of a run"),
    ],
)
def test_a_folder_without_a_plan_is_refused_in_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / RUN).write_text(text, encoding="utf-8", errors="surrogateescape")
    for act in (read_plan, RunFolder.reopen):
        with pytest.raises(FolderError, match=sentence) as caught:
            act(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="is a file: expects the folder"):
        read_plan(tmp_path / "file")


def test_a_result_is_written_in_one_step(made: RunFolder) -> None:
    assert made.write_result({"outcome": "CLEAN"}, "CLEAN shop") == ""
    assert json.loads((made.path / RESULT).read_text()) == {"outcome": "CLEAN"}
    assert (made.path / REPORT).read_text() == "CLEAN shop\n"
    assert not list(made.path.glob(".*"))


def test_a_result_that_cannot_be_written_leaves_the_one_before(
    made: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write_result({"outcome": "CLEAN"}, "CLEAN shop")

    def fail(path: Path, text: str, **_options: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fail)
    said = made.write_result({"outcome": "LEAK"}, "LEAK shop")
    assert said == f"{made.path / RESULT} could not be written (No space left on device)"
    assert json.loads((made.path / RESULT).read_text()) == {"outcome": "CLEAN"}
    assert not list(made.path.glob(".*"))


def test_a_report_with_a_path_that_is_no_text_is_written(made: RunFolder) -> None:
    assert made.write_result({}, "kept at /tmp/\udcff") == ""
    assert "\\udcff" in (made.path / REPORT).read_text()
