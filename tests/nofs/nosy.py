"""A module for `[agent] preload` whose workers also ask for files that are none of their job.

Each worker does so before its first task, in the ways that the engine opens files, and straight over its
connection. It says in the job's log what became of each path of `NOSY_PATHS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from openquake.baselib import hdf5
from openquake.hazardlib import nrml

from quakegrid.engine.files.opened_files import OpenedFiles
from quakegrid.files.sources import FileGoneError

PATHS = tuple(os.environ["NOSY_PATHS"].split(":"))
# Nobody has told this worker of such an epoch.
GUESSED_EPOCH_ID = bytes(16)


def _try(what: str, ask: Callable[[], Any]) -> None:
    try:
        found = ask()
    except (OSError, FileGoneError) as exc:
        found = type(exc).__name__
    print(f"nosy worker: {what}: {found}", file=sys.stderr, flush=True)


def _asking_first(begin_task: Callable[[OpenedFiles, bytes], None]) -> Callable[[OpenedFiles, bytes], None]:
    asked: set[int] = set()

    def begin(files: OpenedFiles, table: bytes) -> None:
        begin_task(files, table)
        if os.getpid() in asked:
            return
        asked.add(os.getpid())
        for path in PATHS:
            _try(f"asks for {path}", lambda path=path: files.reader.find(path))  # type: ignore[misc]
            _try(f"reads {path} as a model", lambda path=path: nrml.read(path))  # type: ignore[misc]
            _try(f"opens {path}", lambda path=path: hdf5.File(path, "r"))  # type: ignore[misc]
        _try("reads a guessed epoch", lambda: files.reader.read(GUESSED_EPOCH_ID, 0, 16))

    return begin


OpenedFiles.begin_task = _asking_first(OpenedFiles.begin_task)  # type: ignore[method-assign]
