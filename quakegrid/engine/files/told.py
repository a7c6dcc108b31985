"""What a driver tells its workers of the files of its job, in their setup: never to be guessed from paths."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quakegrid.engine.files import opened_files
from quakegrid.engine.files.opened_files import OpenedFiles
from quakegrid.files.lane_doors import LaneDoor, OfThisWorker
from quakegrid.files.proofs import Proofs
from quakegrid.files.reader import FileReader
from quakegrid.files.rules.job_paths import is_below


@dataclass(frozen=True, slots=True)
class ToldFiles:
    """Where the files of the job are, and how a node finds out whether it sees them.

    Args:
        proofs: of what is shared.
        datadir: where the engine has its datastores.
    """

    proofs: Proofs
    datadir: str

    def open_here(self, node: str) -> OpenedFiles | None:
        """The files as this worker gets them; None if it sees all that its driver does.

        Args:
            node: name of this node, for people.
        """
        door, shared = OfThisWorker.door, self.proofs.shared_folders()
        if door is None or shared == ("/",):
            return None
        own = os.path.realpath(tempfile.gettempdir())
        stores = [Path(folder, "files") for folder in (door.blob_dir, own) if folder]
        files = OpenedFiles(lambda: FileReader(door), shared, own, stores)
        files.add_roots([self.datadir])
        opened_files.install(files)
        if not is_below(os.path.realpath(self.datadir), shared):
            files.reader.announce()
            _tell(node, self.datadir, door)
        return files


def _tell(node: str, datadir: str, door: LaneDoor) -> None:
    """Say in the job's log that this node is served; one of its workers for all."""
    try:
        os.close(os.open(Path(door.blob_dir, "served"), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError:  # no room: said by each worker
        pass
    words = f"node {node} does not share {datadir} with the driver; it gets the job's files over the lane"
    print(words, file=sys.stderr, flush=True)


def folders_of(datastores: Iterable[str]) -> list[str]:
    """The folders of datastores that are named without their suffix, as rows of jobs do."""
    return [os.path.dirname(path) for path in datastores if path.startswith("/")]  # noqa: PTH120 - texts
