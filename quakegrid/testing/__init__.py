"""What tests of QuakeGrid, and of programs built on it, need to start a cluster of their own.

Free ports away from the standard ones, an `openquake.cfg` that puts everything of a cluster under one
directory, an environment that no user's settings reach, and calculations that come with the engine.
Starts nothing, imports nothing of a service and not the engine. `fake_broker.py` and `fake_lane.py` stand in
for what a driver talks to.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from quakegrid import errors
from quakegrid.machine.temporary_clusters import free_port_range, free_ports, write_cluster_config

__all__ = [
    "copy_engine_case",
    "end_worker",
    "fail_task",
    "free_port_range",
    "free_ports",
    "isolated_environ",
    "write_cluster_config",
]


def isolated_environ(home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a program that shall see no settings and no calculations of the user.

    The user's caches stay in use: recompiling the engine's numerical kernels takes more than a minute.
    Python may write its bytecode, as it would for a user, and the engine does not ask its web site for
    newer versions.

    Args:
        home: an existing directory, the new HOME.
        environ: what to start from.
    """
    foreign = ("OQ_", "QUAKEGRID_", "XDG_STATE_HOME", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in environ.items() if not key.startswith(foreign)}
    cache_dir = environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": cache_dir, "CI": "1"}


def copy_engine_case(folder: str, directory: Path) -> Path:
    """Copy one of the engine's own quality tests, so that running it writes nothing among installed files.

    Args:
        folder: its place below `openquake/qa_tests_data`, such as "classical/case_01".
        directory: the copy; must not exist.
    Returns:
        `directory`.
    Raises:
        EngineMissingError: openquake.engine is not installed.
    """
    spec = importlib.util.find_spec("openquake")
    for root in spec.submodule_search_locations or () if spec else ():
        source = Path(root, "qa_tests_data", folder)
        if source.is_dir():
            shutil.copytree(source, directory)
            return directory
    raise errors.EngineMissingError(f"openquake.engine is not installed, or lacks qa_tests_data/{folder}")


def end_worker(signal_number: int) -> int:
    """A task that ends the worker that runs it, by a signal; for trying what the cluster does then."""
    os.kill(os.getpid(), signal_number)
    return signal_number


def fail_task(message: str) -> str:
    """A task that raises `ValueError(message)`."""
    raise ValueError(message)
