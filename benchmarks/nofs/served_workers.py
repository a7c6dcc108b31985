"""A module for `[agent] preload`: workers that prove nothing, so that they are served on this machine, too.

Each answer to them is written to a file (`BYTES`), and comes later by `DELAY_S`, as over a slower line.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.nofs.environ_names import BYTES, DELAY_S
from quakegrid.files import proofs
from quakegrid.files.reader import FileReader

_delay_s = float(os.environ.get(DELAY_S, "0"))
_fd = os.open(os.environ[BYTES], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_find, _read = FileReader.find, FileReader.read


def _note(byte_count: int) -> None:
    time.sleep(_delay_s)
    os.write(_fd, f"{byte_count}\n".encode())


def _finding(self: FileReader, path: str) -> Any:
    _note(0)
    return _find(self, path)


def _reading(self: FileReader, epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
    _note(byte_count)
    return _read(self, epoch_id, offset, byte_count)


FileReader.find, FileReader.read = _finding, _reading  # type: ignore[method-assign]
proofs.Proofs.shared_folders = lambda _self: ()  # type: ignore[method-assign]
