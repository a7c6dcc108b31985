"""The engine's tasks as they travel to workers, and the setup that each worker runs first.

Both are pickled callables; unpickling them is what makes a worker import this package.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex

from openquake.baselib import parallel

from quakegrid.blobs.table import BLOB_BYTES
from quakegrid.engine import configuration
from quakegrid.engine.files.told import ToldFiles
from quakegrid.engine.tasks import shared_arrays, worker_process


class ArgumentFrame(Protocol):
    """A received frame."""

    @property
    def buffer(self) -> memoryview:
        """Its content, without a copy."""


@dataclass(frozen=True, slots=True)
class LargeArgument:
    """A large argument that upstream has pickled: travels in a frame of its own, shared by many tasks.

    Stands in for upstream's `Pickled`, of which a task uses `unpickle` only.
    """

    content: Any
    is_compressed: bool

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return LargeArgument, (pickle.PickleBuffer(self.content), self.is_compressed)

    def unpickle(self) -> Any:
        """The argument."""
        content = parallel.decompress(self.content) if self.is_compressed else self.content
        return pickle.loads(content)  # noqa: S301 - from our driver


@dataclass(frozen=True, slots=True)
class EngineTask:
    """One task of a Starmap; `call` is the pickle of what upstream's `submit` passes.

    `jobs` are rows of jobs that the worker may not know, pickled; empty if there are none. `files` tells the
    epochs of the files that it reads; empty if all workers see the job's files.
    """

    call: bytes
    jobs: bytes = b""
    files: bytes = b""

    def __call__(self, *frames: ArgumentFrame) -> list[bytes]:
        """Run it the engine's way; returns the pickled `Result`s, the last one its end.

        Args:
            *frames: its large arguments.
        """
        call = pickle.loads(self.call, buffers=[frame.buffer for frame in frames])  # noqa: S301
        return worker_process.collect_results(lambda: parallel.safely_call(*call), self.jobs, self.files)


def dump_task(
    func: Callable[..., Any], args: Any, task_no: int, monitor: Any, jobs: bytes = b"", files: bytes = b""
) -> list[bytes | memoryview]:
    """The payload of a task.

    Args:
        func: of the engine.
        args: its arguments, pickled by upstream.
        task_no: number in its Starmap.
        monitor: of the Starmap.
        jobs: see `EngineTask`.
        files: see there, too.
    """
    buffers: list[pickle.PickleBuffer] = []
    call = (func, [_lift(arg) for arg in args], task_no, shared_arrays.travelling(monitor))
    data = pickle.dumps(call, 5, buffer_callback=buffers.append)
    return [pickle.dumps(EngineTask(data, jobs, files), 5), *(buffer.raw() for buffer in buffers)]


def _lift(arg: Any) -> Any:
    if isinstance(arg, parallel.Pickled) and len(arg) >= BLOB_BYTES:
        return LargeArgument(arg.pik, arg.compressed)
    return arg


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """Makes a forked worker a worker of the engine, with the driver's configuration."""

    config: Mapping[str, Mapping[str, Any]]
    environ: Mapping[str, str]
    python_path: str
    driver_host: str
    # Rows by id.
    jobs: Mapping[int, Any]
    files: ToldFiles

    def __call__(self) -> None:
        """Take over the driver's settings; runs once, before the first task."""
        os.environ.update(self.environ)
        configuration.extend_path(self.python_path)
        worker_process.become_worker(self.config, self.driver_host, self.jobs, self.files)
