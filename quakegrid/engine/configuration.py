"""The engine's configuration in this process: read from `openquake.cfg` in a driver, sent to its workers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openquake.baselib
from openquake.baselib import config

from quakegrid.engine import this_process
from quakegrid.machine import temporary_folders
from quakegrid.settings import config as quakegrid_config

CONVERTERS = {
    "limit": int,
    "soft_mem_limit": int,
    "hard_mem_limit": int,
    "port": int,
    "serialize_jobs": openquake.baselib.positiveint,
    "strict": openquake.baselib.positiveint,
}
_configured = {"custom_tmp": ""}  # before `take_temporary_folder` changes it


def read(environ: Mapping[str, str]) -> None:
    """Read `openquake.cfg` as the engine does, with the embedded cluster's file below the user's.

    A key named `code` is not executed.
    """
    base = config.paths[0]
    ours = quakegrid_config.config_paths(this_process.settings().state_dir, environ)
    config.paths[:] = [base, *map(str, ours)]
    config.read(**CONVERTERS)
    _adapt()


def take_over(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the configuration of a driver, as `exported` returned it there, in place of this process's own."""
    config.clear()
    for name, section in sections.items():
        config[name] = openquake.baselib.DotDict(section)
    _adapt()


def exported() -> dict[str, dict[str, Any]]:
    """The configuration of this process for its workers.

    It is without the authkey, and workers make temporary folders of their own.
    """
    sections = {name: dict(section) for name, section in config.items()}
    sections["dbserver"].pop("authkey", None)
    sections["directory"]["custom_tmp"] = _configured["custom_tmp"]
    return sections


def take_temporary_folder() -> None:
    """Put this process's temporary files where the agent finds and removes them when it has ended."""
    try:
        folder = temporary_folders.make(this_process.settings().state_dir)
    except OSError as exc:
        print(f"temporary files will stay in {tempfile.gettempdir()}: {exc}", file=sys.stderr)
        return
    config.directory.custom_tmp = str(folder)  # upstream asks for it beside `tempfile`


def extend_path(python_path: str) -> None:
    """Import from the caller's PYTHONPATH too, as a fresh interpreter would: models of the user's own."""
    sys.path[:0] = [str(Path(item).absolute()) for item in python_path.split(os.pathsep) if item]


def _adapt() -> None:
    _configured["custom_tmp"] = config.directory.custom_tmp
    config.dbserver.receiver_host = quakegrid_config.LOOPBACK  # results come over the lane
    config.distribution.oq_distribute = "zmq"
    if config.directory.custom_tmp:
        os.environ["TMPDIR"] = config.directory.custom_tmp
    tempfile.tempdir = None
