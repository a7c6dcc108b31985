"""The blocks of a file on a node: fetched once, kept where there is room, and read without any."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from quakegrid.files import block_stores
from quakegrid.files.block_stores import MOST_IN_MEMORY, EpochBlocks
from quakegrid.files.rules.blocks import BLOCK_BYTES, block_count
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.views import FileView

CONTENT = os.urandom(12 * BLOCK_BYTES + 77)
EPOCH = FileEpoch("/data/calc_7.hdf5", b"e" * 16, len(CONTENT))


class Driver:
    """Gives bytes of the file, and counts how often."""

    def __init__(self) -> None:
        self.fetched: list[int] = []

    def fetch(self, epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
        """Bytes of the epoch."""
        assert epoch_id == EPOCH.epoch_id
        self.fetched.append(offset // BLOCK_BYTES)
        return memoryview(CONTENT)[offset : offset + byte_count]


def view(driver: Driver, *folders: Path) -> FileView:
    """The file as one worker has it."""
    return FileView(EPOCH, EpochBlocks(EPOCH, folders, driver.fetch))


def test_workers_of_a_node_fetch_each_block_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only those that they read. There is room, however full this machine's disk is."""
    monkeypatch.setattr(block_stores, "FREE_PART", 0.0)
    driver = Driver()
    first, second = view(driver, tmp_path / "files"), view(driver, tmp_path / "files")
    first.seek(BLOCK_BYTES - 3)

    assert first.read(6) == CONTENT[BLOCK_BYTES - 3 : BLOCK_BYTES + 3]
    assert second.readall() == CONTENT
    assert first.seek(0) == 0
    assert first.readall() == CONTENT
    assert sorted(driver.fetched) == list(range(block_count(len(CONTENT))))


def test_file_is_read_to_its_end_and_not_beyond(tmp_path: Path) -> None:
    """As any file."""
    file = view(Driver(), tmp_path / "files")

    assert file.seek(-5, os.SEEK_END) == len(CONTENT) - 5
    assert file.read(100) == CONTENT[-5:]
    assert file.read(1) == b""
    assert file.seek(10, os.SEEK_CUR) == file.tell() == len(CONTENT) + 10
    assert file.read(1) == b""
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    assert repr(file) == file.name == EPOCH.path


def test_without_room_blocks_go_to_the_next_folder_and_then_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in memory is bounded."""
    driver = Driver()
    full, spare = tmp_path / "full", tmp_path / "spare"
    room = {full: 0, spare: 3 * BLOCK_BYTES}

    def fstatvfs(fd: int) -> SimpleNamespace:
        folder = Path(f"/proc/self/fd/{fd}").readlink().parent
        used = sum(path.stat().st_blocks * 512 for path in folder.glob("*.data"))
        return SimpleNamespace(f_bavail=max(0, room[folder] - used), f_frsize=1, f_blocks=0)

    monkeypatch.setattr(block_stores.os, "fstatvfs", fstatvfs)
    file = view(driver, full, spare)

    assert file.readall() == CONTENT
    assert file.seek(0) == 0
    assert file.readall() == CONTENT
    count = block_count(len(CONTENT))
    assert driver.fetched[:count] == list(range(count))
    assert 3 <= 2 * count - len(driver.fetched) <= 3 + MOST_IN_MEMORY
    assert not [path for path in full.glob("*.data") if path.stat().st_blocks]


def test_without_any_folder_a_file_is_read_all_the_same(tmp_path: Path) -> None:
    """A folder that cannot be made, or is none."""
    (tmp_path / "file").write_bytes(b"")
    driver = Driver()

    assert view(driver, tmp_path / "file" / "x", tmp_path / "no" / "such").readall() == CONTENT


def test_empty_file_has_no_bytes() -> None:
    """Nothing is fetched for it."""
    assert FileView(FileEpoch("/x", b"0" * 16, 0), None).readall() == b""


def test_blocks_of_an_epoch_that_is_over_are_removed_and_readers_keep_theirs(tmp_path: Path) -> None:
    """Their room is free when the last reader has closed them."""
    file = view(Driver(), tmp_path / "files")
    file.read(10)
    block_stores.remove([tmp_path / "files", tmp_path / "none"], [EPOCH.epoch_id])

    assert list((tmp_path / "files").iterdir()) == []
    assert file.readall() == CONTENT[10:]
