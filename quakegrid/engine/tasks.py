"""What travels to workers: the engine's tasks and the setup that each worker runs first.

Both are pickled callables; unpickling them is what makes a worker import this package.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openquake.baselib import parallel

from quakegrid.engine import seams


@dataclass(frozen=True, slots=True)
class EngineTask:
    """One task of a Starmap, as upstream's `submit` passes it."""

    func: Callable[..., Any]
    args: Any
    task_no: int
    monitor: Any

    def __call__(self) -> list[bytes]:
        """Run it the engine's way; returns the pickled `Result`s, the last one its end."""
        return seams.collect_results(
            lambda: parallel.safely_call(self.func, self.args, self.task_no, self.monitor)
        )


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """Makes a forked worker a worker of the engine, with the driver's configuration."""

    config: Mapping[str, Mapping[str, Any]]
    environ: Mapping[str, str]
    python_path: str

    def __call__(self) -> None:
        """Take over the driver's settings; runs once, before the first task."""
        os.environ.update(self.environ)
        seams.extend_path(self.python_path)
        seams.become_worker(self.config)
