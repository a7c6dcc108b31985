"""The files that a driver serves: which paths belong to its jobs, and the epoch of each.

The driver's main thread begins epochs of the files that grow; the thread of the file server looks up paths
and reads. Knows neither HDF5 nor sockets.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from quakegrid.files.rules.job_paths import JobPaths
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.sources import (
    EpochSource,
    FileGoneError,
    Identity,
    StableSource,
    WholeSource,
    identity,
    opened,
)

# Files up to this size are kept whole, as long as there are not too many of them.
WHOLE_BYTES = 16 << 20
MOST_WHOLE_BYTES = 512 << 20
# Files that were looked up since the last Starmap began; a job has some thousand.
MOST_FOUND = 100_000

# The real paths of the inputs of the jobs; called once, in the file server's thread.
FindInputs = Callable[[], Collection[str]]


class RefusedPathError(Exception):
    """A worker asked for a file that is not one of the session's jobs."""


@dataclass(frozen=True, slots=True)
class _Stable:
    """A file that does not grow, and what it was when it was looked up."""

    source: EpochSource
    known: Identity


class Library:
    """The files of one session; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths = JobPaths()
        self._find_inputs: list[FindInputs] = []
        self._growing: dict[str, EpochSource] = {}
        self._open: tuple[EpochSource, ...] = ()
        self._stable: dict[str, _Stable] = {}
        self._whole_bytes = 0
        self._by_id: dict[bytes, EpochSource] = {}
        self.has_begun = False  # a Starmap has; before that nobody knows which files there are

    # --- the driver's main thread

    def begin(
        self,
        datastores: Collection[str],
        growing: Mapping[str, EpochSource],
        still_open: Collection[EpochSource] = (),
        inputs: FindInputs | None = None,
    ) -> None:
        """A Starmap begins; epochs that are named no more are over.

        Args:
            datastores: real paths of all of its jobs.
            growing: the epochs that begin now, of files that the driver writes, by real path.
            still_open: epochs of Starmaps that have not ended.
            inputs: finds inputs that these jobs name, beside those that were found before.
        """
        with self._lock:
            self._paths = self._paths.extended(datastores)
            self._find_inputs += [inputs] if inputs else []
            before, self._open = self._open, (*growing.values(), *still_open)
            self._growing = dict(growing)
            if len(self._stable) > MOST_FOUND or self._whole_bytes > MOST_WHOLE_BYTES:
                self._stable, self._whole_bytes = {}, 0
            found = (*self._open, *(each.source for each in self._stable.values()))
            self._by_id = {source.epoch_id: source for source in found}
            self.has_begun = True
        kept = set(map(id, self._open))
        for source in before:
            if id(source) not in kept:
                source.close()

    def epoch(self, path: str) -> FileEpoch | None:
        """The epoch of a file of the jobs, under the name given; None if there is no such file."""
        try:
            return self.find(path)
        except (OSError, FileGoneError, RefusedPathError):
            return None

    # --- the file server's thread

    def find(self, path: str) -> FileEpoch:
        """The present epoch of a file.

        Args:
            path: as a worker names it.
        Raises:
            RefusedPathError: it is no file of the session's jobs.
            FileGoneError: it is no regular file.
            OSError: it cannot be opened; most often it does not exist.
        """
        if not path.startswith("/") or "\0" in path:
            raise RefusedPathError(path)
        real = os.path.realpath(path)
        if not self._paths.has(real) and not self._is_input(real):
            raise RefusedPathError(path)
        with self._lock:
            source = self._growing.get(real)
        source = source or self._find_stable(real)
        return FileEpoch(path, source.epoch_id, source.byte_count)

    def read(self, epoch_id: bytes, offset: int, byte_count: int) -> bytes:
        """Bytes of an epoch.

        Raises:
            FileGoneError: it is over, or does not have these bytes.
        """
        with self._lock:
            source = self._by_id.get(epoch_id)
        if source is None or offset < 0 or byte_count < 0 or offset + byte_count > source.byte_count:
            raise FileGoneError
        return source.read(offset, byte_count)

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            for source in self._open:
                source.close()
            self._open, self._growing, self._by_id, self._stable = (), {}, {}, {}

    def _is_input(self, real: str) -> bool:
        """Look through inputs of jobs that were not looked for yet."""
        with self._lock:
            finders, self._find_inputs = self._find_inputs, []
        if not finders:
            return False
        found = {os.path.realpath(path) for find in finders for path in find()}
        with self._lock:
            self._paths = self._paths.extended((), found)
        return self._paths.has(real)

    def _find_stable(self, real: str) -> EpochSource:
        with opened(real) as fd:
            now = identity(fd)
            with self._lock:
                known = self._stable.get(real)
                is_room = self._whole_bytes + now[2] <= MOST_WHOLE_BYTES
            if known is not None and known.known == now:
                return known.source
            source = _take_in(fd, real, now, is_room=is_room)
        with self._lock:
            self._stable[real] = _Stable(source, now)
            self._by_id[source.epoch_id] = source
            self._whole_bytes += source.byte_count if isinstance(source, WholeSource) else 0
        return source


def _take_in(fd: int, real: str, now: Identity, *, is_room: bool) -> EpochSource:
    """A file that does not grow: copied if it is small."""
    byte_count = now[2]
    if is_room and byte_count <= WHOLE_BYTES:
        content = os.pread(fd, byte_count, 0)
        if len(content) == byte_count and identity(fd) == now:
            return WholeSource(content)
    return StableSource(real, now)
