"""Epochs of a datastore beside a writer that flushes and deletes without end: no failure, no wrong read."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from quakegrid.files.block_stores import EpochBlocks
from quakegrid.files.rules.overlays import Overlay
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.sources import LiveSource
from quakegrid.files.views import FileView
from tests.nofs.hostile_writer import GROUPS, SITES, group

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The writer at work."""
    command = [sys.executable, "-m", "tests.nofs.hostile_writer", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        assert process.poll() is None
        process.kill()


def epochs(writer: subprocess.Popen[bytes], path: Path, count: int) -> Iterator[tuple[LiveSource, int]]:
    """Epochs, one after the other; each with the size of the file at its end."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    for _ in range(count):
        writer.stdin.write(b"\n")
        writer.stdin.flush()
        ranges, byte_count = pickle.load(writer.stdout)
        fd = os.open(path, os.O_RDONLY)
        source = LiveSource(fd, Overlay(ranges), byte_count)
        os.close(fd)
        yield source, byte_count
        source.close()


def read_some(source: LiveSource, chosen: random.Random) -> None:
    """What a task reads: some groups and the sites, through nothing that remembers an earlier read."""
    epoch = FileEpoch("/data/calc_1.hdf5", source.epoch_id, source.byte_count)

    def fetch(_epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
        return memoryview(source.read(offset, byte_count))

    with h5py.File(FileView(epoch, EpochBlocks(epoch, (), fetch)), "r") as h5:
        for number in chosen.sample(range(GROUPS), 5):
            assert np.array_equal(h5[f"_csm/{number}"][:], group(number))
        assert np.array_equal(h5["sitecol"][:], np.arange(SITES))


@pytest.mark.parametrize(
    ("epoch_count", "open_count"), [(2, 25), pytest.param(20, 50, marks=pytest.mark.full)]
)
def test_epochs_of_a_hostile_writer_are_read_whole(
    writer: subprocess.Popen[bytes], tmp_path: Path, epoch_count: int, open_count: int
) -> None:
    """The file has grown far beyond each epoch meanwhile."""
    path, chosen, has_grown = tmp_path / "calc_1.hdf5", random.Random(7), 0

    for source, byte_count in epochs(writer, path, epoch_count):
        for _ in range(open_count):
            read_some(source, chosen)
        has_grown += path.stat().st_size > byte_count

    assert has_grown == epoch_count
