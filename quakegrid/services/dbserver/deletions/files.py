"""Removes the datastores of deleted jobs, and notes those that only their owners may remove.

Where calculations run as people, their folders are closed to this process. It depends on no agent, so it
keeps a list. The web service of the master removes what is on it as the accounts of the owners.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from quakegrid.services.dbserver.store.database import DoomedFile, SqlSession
from quakegrid.services.dbserver.store.writer import Writer

logger = logging.getLogger("dbserver")
# Of the list; what does not fit is named in the log. Each is a file of one deleted job.
MOST_NOTED = 100_000
_NOTE = """INSERT OR REPLACE INTO quakegrid_left_file (path, user_name, noted_s)
SELECT ?x, ?x, ?x WHERE (SELECT count(*) FROM quakegrid_left_file) < ?x"""


def remove(files: Sequence[DoomedFile], writer: Writer) -> list[str]:
    """Remove files, as far as they are there and this process may; the paths of those that it had to note."""
    left = [(path, owner) for path, owner in files if not _is_gone(path)]
    if left:
        writer.run(lambda session: _note(session, left))
    return [path for path, _owner in left]


def _is_gone(path: str) -> bool:
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as exc:
        logger.info("file_left path=%s reason=%s", path, exc.strerror)
        return False
    return True


def _note(session: SqlSession, files: Sequence[DoomedFile]) -> None:
    for path, owner in files:
        session.execute(_NOTE, path, owner, time.time(), MOST_NOTED)
