"""The setup that a worker of an executor runs before its first call."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Lets a worker import and open the same files as its client, as far as both see them.

    Args:
        python_path: absolute folders of the client's `sys.path`.
        directory: the client's working directory.
    """

    python_path: tuple[str, ...]
    directory: str

    def __call__(self) -> None:
        """Add the folders that exist here behind the worker's own, and go to the directory."""
        sys.path += [entry for entry in self.python_path if entry not in sys.path and Path(entry).exists()]
        with contextlib.suppress(OSError):
            os.chdir(self.directory)
