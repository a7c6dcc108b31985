"""The files of a driver's session: what its workers are told, and their server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from openquake.baselib import config
from openquake.commonlib import logs

from quakegrid.engine.files.starmap_files import StarmapFiles
from quakegrid.engine.files.told import ToldFiles
from quakegrid.files.library import Library
from quakegrid.files.proofs import NonceFiles
from quakegrid.files.server import FileServer
from quakegrid.session.session import Session


class SessionFileServing:
    """Of one session at a time; belongs to the driver's main thread."""

    def __init__(self) -> None:
        self.of_starmaps = StarmapFiles()
        self._nonces = NonceFiles()

    def told(self) -> ToldFiles:
        """What the workers of a new session are told; writes nonces where files may be shared."""
        datadir = logs.get_datadir()
        with contextlib.suppress(OSError):  # the engine will say so
            Path(datadir).mkdir(parents=True, exist_ok=True)
        return ToldFiles(self._nonces.write((datadir, config.directory.shared_dir)), datadir)

    def serve(self, session: Session, warn: Callable[[str], None]) -> None:
        """The session is admitted: serve its files.

        Args:
            session: that has joined its lane.
            warn: tells people of what a worker must not have.
        """
        assert session.door is not None, "it is admitted"
        library = Library()
        server = FileServer(session.door, library, session.wake, warn)
        self.of_starmaps.start(library, server)

    def close(self) -> None:
        """The session ends: serve no more, and remove the nonces."""
        self.of_starmaps.close()
        self._nonces.close()
