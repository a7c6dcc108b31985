"""What a worker that does not see its job's files does in place of opening them.

It intercepts three functions of its process: `h5py.File`, `os.path.exists` and the engine's `nrml.read`. Only
workers that do not see all files of their driver install this. A path counts if it is in a folder where the
job has datastores, or a source model; other paths are this node's own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
from openquake.hazardlib import nrml

from quakegrid.files import block_stores
from quakegrid.files.block_stores import EpochBlocks
from quakegrid.files.reader import FileReader, RefusedFileError
from quakegrid.files.rules import tables
from quakegrid.files.rules.job_paths import is_below
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.sources import FileGoneError
from quakegrid.files.views import FileView

# Epochs whose blocks a worker has open at once; of those beyond the oldest is closed.
MOST_OPEN = 64


class OpenedFiles:
    """The files of the job, for one worker.

    Args:
        connect: makes the connection to the driver, when it is first needed.
        shared: folders that this node sees as its driver does, real paths.
        own: the temporary folder of this process, a real path.
        stores: folders for blocks, the one that the node's workers share first.
    """

    def __init__(
        self,
        connect: Callable[[], FileReader],
        shared: Sequence[str],
        own: str,
        stores: Sequence[Path],
    ) -> None:
        self._connect, self._here, self._stores = connect, (*shared, own), stores
        self._reader: FileReader | None = None
        self._roots: tuple[str, ...] = ()
        self._table = b""
        self._told: dict[str, FileEpoch] = {}
        self._found: dict[str, FileEpoch | None] = {}
        self._inputs: set[str] = set()
        self._blocks: dict[bytes, EpochBlocks] = {}

    @property
    def reader(self) -> FileReader:
        """The connection to the driver."""
        if self._reader is None:
            self._reader = self._connect()
        return self._reader

    def add_roots(self, folders: Iterable[str]) -> None:
        """Folders in which all files are the driver's."""
        self._roots = tuple(sorted({*self._roots, *folders}))

    def begin_task(self, table: bytes) -> None:
        """A task begins; `table` tells the epochs that it reads. It is empty before the driver knew of us."""
        if table and table == self._table:
            return
        before = {epoch.epoch_id for epoch in (*self._told.values(), *self._found.values()) if epoch}
        self._table, self._told, self._found = table, tables.load(table), {}
        if not table:
            return
        self.add_roots(os.path.dirname(path) for path in self._told)  # noqa: PTH120 - texts
        over = before - {epoch.epoch_id for epoch in self._told.values()}
        for epoch_id in over & self._blocks.keys():
            self._blocks.pop(epoch_id).close()
        block_stores.remove(self._stores, over)

    def is_served(self, path: Any) -> bool:
        """Whether a path names a file that the driver serves: one of the job's, not seen here."""
        if not isinstance(path, str) or not path.startswith("/"):
            return False
        if path not in self._inputs and not is_below(path, self._roots):
            return False
        return not self._is_here(path)

    def exists(self, path: str) -> bool:
        """Whether a file of the job is there for the driver."""
        try:
            return path in self._roots or self._find(path) is not None
        except RefusedFileError:
            return False

    def open(self, path: str) -> FileView:
        """A file of the job.

        Raises:
            FileNotFoundError: there is none.
            PermissionError: it is no file of the job.
        """
        epoch = self._find(path)
        if epoch is None:
            raise FileNotFoundError(errno.ENOENT, "the driver's node has no such file", path)
        return FileView(epoch, self._blocks_of(epoch) if epoch.byte_count else None)

    def open_input(self, path: str) -> FileView | None:
        """A source model; None if it is seen here. The HDF5 file beside it is an input, too."""
        if self._is_here(path):
            return None
        self._inputs.add(f"{os.path.splitext(path)[0]}.hdf5")  # noqa: PTH122 - a text, as the engine makes it
        return self.open(path)

    def _is_here(self, path: str) -> bool:
        real = os.path.realpath(path)
        return is_below(real, self._here)

    def _find(self, path: str) -> FileEpoch | None:
        if (epoch := self._told.get(path)) is not None:
            return epoch
        if path not in self._found:
            self._found[path] = self.reader.find(path)
        return self._found[path]

    def _blocks_of(self, epoch: FileEpoch) -> EpochBlocks:
        blocks = self._blocks.get(epoch.epoch_id)
        if blocks is None:
            if len(self._blocks) >= MOST_OPEN:
                self._blocks.pop(next(iter(self._blocks))).close()
            blocks = EpochBlocks(epoch, self._stores, self._fetch)
            self._blocks[epoch.epoch_id] = blocks
        return blocks

    def _fetch(self, epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
        try:
            return self.reader.read(epoch_id, offset, byte_count)
        except FileGoneError as exc:
            raise OSError(errno.ESTALE, f"a file of the job cannot be read any more: {exc}") from exc


def install(files: OpenedFiles) -> None:
    """Let this process open the files of its job in the driver's node."""
    h5py.File.__init__ = _opening(h5py.File.__init__, files)
    os.path.exists = _existing(os.path.exists, files)  # type: ignore[assignment]
    nrml.read = _reading(nrml.read, files)


def _opening(original: Callable[..., None], files: OpenedFiles) -> Callable[..., None]:
    def init(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
        if mode == "r" and files.is_served(name):
            original(self, files.open(name), "r")  # HDF5's own ways to read, such as SWMR, need a real file
        else:
            original(self, name, mode, *args, **options)

    return init


def _existing(original: Callable[[Any], bool], files: OpenedFiles) -> Callable[[Any], bool]:
    def exists(path: Any) -> bool:
        return files.exists(path) if files.is_served(path) else original(path)

    return exists


def _reading(original: Callable[..., Any], files: OpenedFiles) -> Callable[..., Any]:
    def read(source: Any, stop: str | None = None) -> Any:
        view = files.open_input(source) if isinstance(source, str) and source.startswith("/") else None
        return original(source if view is None else view, stop)

    return read
