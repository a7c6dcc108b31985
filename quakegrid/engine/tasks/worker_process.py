"""The engine's side of a worker: a task's results go to an outbox, and it finds jobs that its driver knows.

`engine_task` enters here: `become_worker` before the first task, `collect_results` for each one.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self

from openquake.baselib import zeromq

from quakegrid.engine import configuration, kernel_caches, this_process
from quakegrid.engine.files.opened_files import OpenedFiles
from quakegrid.engine.files.told import ToldFiles, folders_of
from quakegrid.engine.tasks import failures, known_jobs


class _ResultBox:
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
    """What the engine's calls do in a worker.

    Args:
        driver_host: name of the node where the driver is.
        jobs: rows of the jobs that tasks may look up, by id.
        files: of the job, if this node does not see all of them.
    """

    def __init__(self, driver_host: str, jobs: Mapping[int, Any], files: OpenedFiles | None = None) -> None:
        self._is_abroad = driver_host != socket.gethostname()
        self._box = _ResultBox(is_abroad=self._is_abroad)
        self._files = files
        self._take(dict(jobs))

    def learn(self, jobs: bytes) -> None:
        """Take rows of jobs that the driver has looked up since this worker was set up."""
        self._take(pickle.loads(jobs))  # noqa: S301 - from our driver

    def _take(self, jobs: dict[int, Any]) -> None:
        self._jobs = jobs
        if self._files is not None:
            self._files.add_roots(folders_of(row.ds_calc_dir for row in jobs.values()))

    def collect(self, run: Callable[[], None], files: bytes = b"") -> list[bytes]:
        """Run a task and return what it sent, in order; `files` tells the epochs that it reads."""
        if self._files is not None:
            self._files.begin_task(files)
        self._box = _ResultBox(is_abroad=self._is_abroad)
        run()
        return self._box.frames

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:  # noqa: ARG002
        """Refuse: a task cannot start a Starmap."""
        raise RuntimeError("a task cannot submit tasks of its own; yield (function, *args) instead")

    def open_socket(self, end_point: str, socket_type: int, mode: str, timeout: int) -> Any:
        """The box for results; a real socket for anything else."""
        if socket_type == zeromq.zmq.PUSH:
            return self._box
        return zeromq.Socket(end_point, socket_type, mode, timeout)

    def dbcmd(self, action: str, *args: Any) -> Any:
        """Find a job that the driver knows; tasks look up parent calculations."""
        return known_jobs.find(self._jobs, action, args)

    def worker_master(self) -> Any:
        """Refuse."""
        raise RuntimeError("a worker does not control workers")


def become_worker(
    sections: Mapping[str, Mapping[str, Any]], driver_host: str, jobs: Mapping[int, Any], told: ToldFiles
) -> None:
    """Make this process a worker of the engine, with the driver's configuration, known jobs and files."""
    if not this_process.is_prepared():  # the node is cold: its template could not load the engine
        from quakegrid.engine import seams  # noqa: PLC0415 - it imports the driver, which imports this

        this_process.prepare(this_process.settings())
        seams.install(seams.OF_TASKS)
    configuration.take_over(sections)
    configuration.take_temporary_folder()
    kernel_caches.use_own_folder()
    this_process.become(WorkerProcess(driver_host, jobs, told.open_here(socket.gethostname())))


def collect_results(run: Callable[[], None], jobs: bytes = b"", files: bytes = b"") -> list[bytes]:
    """Run a task in this worker and return what it sent, in order.

    Args:
        run: the task.
        jobs: what its driver has learnt of jobs since this worker was set up; empty for nothing.
        files: the epochs that it reads; empty for none.
    """
    worker = this_process.current()
    assert isinstance(worker, WorkerProcess), "results are collected in workers"
    if jobs:
        worker.learn(jobs)
    return worker.collect(run, files)
