"""The folder of a program's own cluster, which is removed when the program and its services are gone.

A small process of its own waits for that, so it does not matter how they end. Does not depend on the files in
the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from quakegrid.machine import own_cluster
from quakegrid.settings import config

# This process outlives the terminal and the program's process group.
_REMOVER = 'trap "" HUP INT TERM; read -r _; exec rm -rf -- "$1"'


class OwnFolder:
    """A new private folder, and the process that will remove it.

    `hold_fd` is to be inherited by those who work in the folder: it stays as long as one of them lives.
    """

    def __init__(self) -> None:
        self.path = _make_folder()
        reader, self.hold_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._remover = subprocess.Popen(
                ["/bin/sh", "-c", _REMOVER, "quakegrid-remover", str(self.path)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self.hold_fd)
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        finally:
            os.close(reader)

    def remove(self) -> None:
        """Remove the folder now, whoever still holds it."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed the remover
            os.write(self.hold_fd, b"\n")
        os.close(self.hold_fd)
        self._remover.wait()
        shutil.rmtree(self.path, ignore_errors=True)


def _make_folder() -> Path:
    """A private folder whose path is short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="quakegrid-"))
    if len(os.fsencode(config.agent_socket(folder))) <= own_cluster.MAX_SOCKET_PATH_BYTES:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="quakegrid-", dir="/tmp"))
