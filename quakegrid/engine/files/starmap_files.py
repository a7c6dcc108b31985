"""The files of a driver's Starmaps: begins the epoch of each, and says it in the payloads of its tasks.

Belongs to the driver's main thread. Does nothing until a worker says that it does not see the files.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quakegrid.engine.files import closures, epochs
from quakegrid.engine.files.closures import FindDatastore
from quakegrid.files.library import Library
from quakegrid.files.rules import tables
from quakegrid.files.server import FileServer
from quakegrid.files.sources import EpochSource, FileGoneError

log = logging.getLogger("quakegrid.session")


class StarmapFiles:
    """The epochs of the Starmaps of one session after the other.

    Args:
        find: looks up the datastore of a calculation.
    """

    def __init__(self, find: FindDatastore = closures.find_datastore) -> None:
        self._find = functools.cache(find)
        self._library = Library()
        self._server: FileServer | None = None
        self._open: dict[int, Any] = {}  # Starmaps, by the port of their channel
        self._tables: dict[int, bytes] = {}
        self._sources: dict[int, EpochSource] = {}
        self._known_inputs: dict[str, Any] = {}

    def start(self, library: Library, server: FileServer) -> None:
        """A session begins."""
        self._library, self._server = library, server

    def close(self) -> None:
        """The session ends."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._tables.clear()
        self._sources.clear()
        self._known_inputs = {}

    def for_task(self, starmap: Any) -> bytes:
        """What a task is told of its files; empty if all workers see them."""
        port = starmap.socket.port
        if port not in self._open:
            self._open[port] = starmap
        if self._server is None or not self._server.is_wanted:
            return b""
        table = self._tables.get(port)
        return self._begin(port, starmap) if table is None else table

    def take_turn(self) -> None:
        """The main thread is about to wait: begin what a worker wants of Starmaps that run already."""
        if self._server is not None and self._server.is_wanted and len(self._tables) < len(self._open):
            for port, starmap in self._open.items():
                if port not in self._tables:
                    self._begin(port, starmap)

    def end(self, port: int) -> None:
        """A Starmap has ended; its epoch is over when the next one begins."""
        self._open.pop(port, None)
        self._tables.pop(port, None)
        self._sources.pop(port, None)

    def _begin(self, port: int, starmap: Any) -> bytes:
        """Begin the epoch of a Starmap."""
        self._tables[port] = b""
        if starmap.calc_id is None:  # it has a temporary file in place of a datastore, which no task reads
            return b""
        h5 = starmap.h5
        try:
            real, source = epochs.make(h5)
        except (OSError, FileGoneError) as exc:
            log.warning("no_epoch file=%s reason=%r", h5.filename, exc)
            return b""
        parents = list(closures.parents(h5, self._find))
        still_open = list(self._sources.values())
        self._sources[port] = source
        datastores = {str(Path(path).resolve()) for path in parents} | {real}
        self._library.begin(datastores, {real: source}, still_open, self._new_inputs(h5))
        table = tables.dump(filter(None, map(self._library.epoch, _names(h5.filename, parents))))
        self._tables[port] = table
        assert self._server is not None, "files are served"
        self._server.begun()
        return table

    def _new_inputs(self, h5: Any) -> Callable[[], set[str]] | None:
        """Finds the inputs of a job that were not looked for yet."""
        named = closures.named_inputs(h5)
        if named == self._known_inputs:
            return None
        self._known_inputs = named
        return functools.partial(closures.inputs, named)


def _names(own: str, parents: list[str]) -> list[str]:
    """Datastores, and their temporary ones, as tasks name them."""
    return [name for path in (own, *parents) for name in (path, f"{path.removesuffix('.hdf5')}_tmp.hdf5")]
