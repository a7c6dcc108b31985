"""Failures of the engine, in words for people."""

from __future__ import annotations

import shutil
from typing import Any

from openquake.baselib import config, parallel
from openquake.commonlib import logs

from quakegrid import errors
from quakegrid.engine.tasks import missing_mounts

MIN_FREE_BYTES = 1 << 20


def disk_hint() -> str:
    """A hint at a full disk: HDF5 reports it in many words, none of them clear."""
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
    words = missing_mounts.describe(exc, config.directory.shared_dir) if isinstance(exc, OSError) else ""
    return (
        parallel.Result(errors.StateError(words), result.mon, result.tb_str, result.msg) if words else result
    )
