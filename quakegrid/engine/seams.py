"""The attributes of the engine that QuakeGrid replaces, and what stands behind them.

`install` runs once, in the template, before the engine's commands are imported. Each replaced attribute
asks `_process` what this process is: nothing yet (the template), a driver, or a worker.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import openquake.baselib
from openquake.baselib import config, parallel, workerpool, zeromq
from openquake.commonlib import datastore, logs

from quakegrid.engine import attributes
from quakegrid.engine.database.dbcmd import Database
from quakegrid.engine.tasks import failures
from quakegrid.engine.tasks.cluster_master import ClusterMaster
from quakegrid.engine.tasks.shared_arrays import SharedArray
from quakegrid.machine import temporary_folders
from quakegrid.settings import config as quakegrid_config
from quakegrid.settings.config import Settings

DotDict = openquake.baselib.DotDict
CONVERTERS = {
    "limit": int,
    "soft_mem_limit": int,
    "hard_mem_limit": int,
    "port": int,
    "serialize_jobs": openquake.baselib.positiveint,
    "strict": openquake.baselib.positiveint,
}


class Process(Protocol):
    """What a driver or worker puts behind the seams."""

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        """Send a task of a Starmap away."""

    def open_socket(self, end_point: str, socket_type: int, mode: str, timeout: int) -> Any:
        """A socket as `parallel` uses them."""

    def dbcmd(self, action: str, *args: Any) -> Any:
        """Run a database action."""

    def worker_master(self) -> Any:
        """What stands in for upstream's WorkerMaster."""


_settings: Settings | None = None
_process: Process | None = None
_custom_tmp = ""  # as configured


def settings() -> Settings:
    """The settings that the template was started with."""
    assert _settings is not None, "install() was not called"
    return _settings


def become(process: Process) -> None:
    """Put a driver or a worker behind the seams of this process."""
    global _process  # noqa: PLW0603 - the engine's own seams are module attributes
    _process = process


def process() -> Process:
    """What this process is."""
    if _process is None:
        raise RuntimeError("the template runs no calculation")
    return _process


def install(template_settings: Settings) -> None:
    """Replace the engine's attributes; must run before its commands are imported."""
    global _settings  # noqa: PLW0603
    _settings = template_settings
    parallel.submit["zmq"] = _submit
    parallel.submit["processpool"] = _submit_to_pool(parallel.submit["processpool"])
    attributes.replace(parallel, "Socket", _open_socket)
    attributes.replace(parallel, "SharedArray", SharedArray)
    parallel.host_cores[:] = []  # no polling of the nodes' memory over ports that nobody serves
    attributes.replace(workerpool, "WorkerMaster", _worker_master)
    attributes.replace(logs, "dbcmd", _dbcmd)
    attributes.replace(datastore, "dbcmd", _dbcmd)


def _submit(starmap: Any, func: Any, args: Any, monitor: Any) -> None:
    process().submit(starmap, func, args, monitor)


def _open_socket(end_point: str, socket_type: int, mode: str, timeout: int = 60) -> Any:
    return process().open_socket(end_point, socket_type, mode, timeout)


def _dbcmd(action: str, *args: Any) -> Any:
    for arg in args:
        if type(arg) not in logs.SIMPLE_TYPES:
            raise TypeError(f"{arg} is not a simple type")  # upstream's own words
    if action.startswith("workers_"):
        return getattr(process().worker_master(), action[8:])()
    return process().dbcmd(action, *args)


def _worker_master(zworkers: Any = None, receiver_ports: Any = None) -> Any:  # noqa: ARG001
    """A job gives its number and controls its own workers; `oq workers` gives a section and means all."""
    return ClusterMaster(settings()) if isinstance(zworkers, dict) else process().worker_master()


def _submit_to_pool(original: Callable[..., None]) -> Callable[..., None]:
    """Upstream runs a few operations in a pool of its own; they answer over a real local socket."""

    def submit(starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        monitor.backurl = starmap.socket.open_locally()
        original(starmap, func, args, monitor)

    return submit


# --- configuration


def read_config(environ: Mapping[str, str]) -> None:
    """Read `openquake.cfg` as the engine does, with the embedded cluster's file below the user's.

    A key named `code` is not executed.
    """
    base = config.paths[0]
    config.paths[:] = [base, *map(str, quakegrid_config.config_paths(settings().state_dir, environ))]
    config.read(**CONVERTERS)
    _adapt_config()


def _adapt_config() -> None:
    global _custom_tmp  # noqa: PLW0603
    _custom_tmp = config.directory.custom_tmp
    config.dbserver.receiver_host = quakegrid_config.LOOPBACK  # results come over the lane
    config.distribution.oq_distribute = "zmq"
    if config.directory.custom_tmp:
        os.environ["TMPDIR"] = config.directory.custom_tmp
    tempfile.tempdir = None


def take_temporary_folder() -> None:
    """Put this process's temporary files where the agent finds them when it has ended."""
    try:
        folder = temporary_folders.make(settings().state_dir)
    except OSError as exc:
        print(f"temporary files will stay in {tempfile.gettempdir()}: {exc}", file=sys.stderr)
        return
    config.directory.custom_tmp = str(folder)  # upstream asks for it beside `tempfile`


def extend_path(python_path: str) -> None:
    """Import from the caller's PYTHONPATH too, as a fresh interpreter would: models of the user's own."""
    sys.path[:0] = [str(Path(item).absolute()) for item in python_path.split(os.pathsep) if item]


def exported_config() -> dict[str, dict[str, Any]]:
    """This process's configuration for the workers, without the secret and with their own folders."""
    sections = {name: dict(section) for name, section in config.items()}
    sections["dbserver"].pop("authkey", None)
    sections["directory"]["custom_tmp"] = _custom_tmp
    return sections


# --- the worker's side


class _Outbox:
    """Stands in for a worker's PUSH socket: keeps what a task sends until the task has ended.

    Args:
        is_abroad: whether the driver is on another node, and so may see files that are not here.
    """

    def __init__(self, *, is_abroad: bool) -> None:
        self.frames: list[bytes] = []
        self._is_abroad = is_abroad

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def send(self, result: Any) -> None:
        if result.tb_str and self._is_abroad:
            result = failures.with_missing_mount(result)
        self.frames.append(pickle.dumps(result, pickle.HIGHEST_PROTOCOL))


class WorkerProcess:
    """Behind the seams of a worker: outputs go to the outbox, database calls to the dbserver.

    Args:
        driver_host: name of the node where the driver is.
    """

    def __init__(self, driver_host: str) -> None:
        self.is_abroad = driver_host != socket.gethostname()
        self.outbox = _Outbox(is_abroad=self.is_abroad)
        self._database: Database | None = None

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:  # noqa: ARG002
        """Refuse: a task cannot start a Starmap."""
        raise RuntimeError("a task cannot submit tasks of its own; yield (function, *args) instead")

    def open_socket(self, end_point: str, socket_type: int, mode: str, timeout: int) -> Any:
        """The outbox for results, the real thing for anything else."""
        if socket_type == zeromq.zmq.PUSH:
            return self.outbox
        return zeromq.Socket(end_point, socket_type, mode, timeout)

    def dbcmd(self, action: str, *args: Any) -> Any:
        """Call the dbserver, connecting the first time; workers look up parent calculations."""
        if self._database is None:
            self._database = Database(settings(), lambda _event: None)
        return self._database.call(action, *args)

    def worker_master(self) -> Any:
        """Refuse."""
        raise RuntimeError("a worker does not control workers")


def become_worker(sections: Mapping[str, Mapping[str, Any]], driver_host: str) -> None:
    """Make this process a worker of the engine with the driver's configuration."""
    if _settings is None:  # the node is cold: its template could not load the engine
        install(quakegrid_config.load_settings())
    config.clear()
    for name, section in sections.items():
        config[name] = DotDict(section)
    _adapt_config()
    take_temporary_folder()
    become(WorkerProcess(driver_host))


def collect_results(run: Callable[[], None]) -> list[bytes]:
    """Run a task in a worker and return what it sent, in order."""
    worker = process()
    assert isinstance(worker, WorkerProcess), "results are collected in workers"
    worker.outbox = _Outbox(is_abroad=worker.is_abroad)
    run()
    return worker.outbox.frames
