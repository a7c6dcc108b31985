"""Failures of the engine, in words for people."""

from __future__ import annotations

import os
import re
import shutil
import socket
from typing import Any

from openquake.baselib import config, parallel
from openquake.commonlib import logs

from quakegrid import errors

MIN_FREE_BYTES = 1 << 20
# How h5py, the engine's datastore and Python's own errors name a file.
FILE_NAMES = re.compile(r"'(/[^']+)'|(?:: | in )(/.+)$")


def one_line(exc: BaseException) -> str:
    """An exception for people, on one line; our own need no class name."""
    kind, text = type(exc).__name__, str(exc).strip()
    if '  File "' in text:  # the engine repeats a task's traceback; the error is its last line
        text = text.rpartition("\n")[2]
    text = " ".join(text.split()).removeprefix(f"{kind}: ")
    return text if isinstance(exc, errors.QuakeGridError) else f"{kind}: {text}"


def disk_hint() -> str:
    """What the engine's errors seldom say: HDF5 reports a full disk in many words, none of them clear."""
    datadir = logs.get_datadir()
    try:
        free_bytes = shutil.disk_usage(datadir).free
    except OSError:
        return ""
    return f"; the disk of {datadir} is full (No space left)" if free_bytes < MIN_FREE_BYTES else ""


def with_missing_mount(result: Any) -> Any:
    """A failed task's result; if it failed for a file that this node does not see, it says so.

    Args:
        result: of upstream, with a traceback; its exception is what the driver will raise.
    """
    exc = result.pik.unpickle()
    path = _unseen_file(exc) if isinstance(exc, OSError) else ""
    if not path:
        return result
    words = f"node {socket.gethostname()} does not see {path}: {_remedy(path, config.directory.shared_dir)}"
    return parallel.Result(errors.StateError(words), result.mon, result.tb_str, result.msg)


def _remedy(path: str, shared_dir: str) -> str:
    if not shared_dir:
        return (
            "[directory] shared_dir must name a folder that is mounted on all nodes, and the file lie in it"
        )
    if not path.startswith(f"{shared_dir.rstrip('/')}/"):
        return f"it must lie in shared_dir {shared_dir}, which all nodes see"
    return f"shared_dir {shared_dir} must be mounted there (`quakegrid doctor` names nodes where it is not)"


def _unseen_file(exc: OSError) -> str:
    """The file that an error names, if there is none here."""
    found = [exc.filename] if isinstance(exc.filename, str) else []
    found += [quoted or last for quoted, last in FILE_NAMES.findall(str(exc))]
    return next((path for path in found if path.startswith("/") and not os.path.lexists(path)), "")
