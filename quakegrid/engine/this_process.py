"""What this process is to the engine: the template, a driver or a worker.

The engine calls us by attributes of its own modules (`seams`). These calls get no argument that leads to a
driver or a worker, so it stands here. Three functions set it, each once in a process:

    preload.preload                      the settings, in the template; its children inherit them. A template
                                         that could not load the engine sets them, too
    driver.main.main                     a `DriverProcess`
    tasks.worker_process.become_worker   a `WorkerProcess`
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from quakegrid.settings.config import Settings


class EngineProcess(Protocol):
    """What a driver or a worker does with the calls of the engine."""

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        """Send a task of a Starmap away."""

    def open_socket(self, end_point: str, socket_type: int, mode: str, timeout: int) -> Any:
        """A socket as `parallel` uses them."""

    def dbcmd(self, action: str, *args: Any) -> Any:
        """Run a database action."""

    def worker_master(self) -> Any:
        """The object that stands in for upstream's WorkerMaster."""


class _Own:
    """The values of this process."""

    settings: Settings | None = None
    is_warm = False
    template_uid: int | None = None
    process: EngineProcess | None = None


def is_prepared() -> bool:
    """Whether this is a template that has loaded the engine, with its seams, or one of its children."""
    return _Own.is_warm


def prepare(settings: Settings, *, is_warm: bool = True) -> None:
    """Keep the settings of the cluster for this process and its children.

    Args:
        settings: of the cluster.
        is_warm: whether the engine is loaded.
    """
    _Own.settings, _Own.is_warm = settings, is_warm
    if _Own.template_uid is None:
        _Own.template_uid = os.getuid()


def is_of_another_user() -> bool:
    """Whether this driver or worker runs as another user than its template."""
    return _Own.template_uid not in (None, os.getuid())


def settings() -> Settings:
    """The settings of the cluster."""
    assert _Own.settings is not None, "prepare() was not called"
    return _Own.settings


def become(process: EngineProcess) -> None:
    """Make this process a driver or a worker, for good."""
    assert _Own.process is None, "a process is a driver or a worker once"
    _Own.process = process


def current() -> EngineProcess:
    """The driver or worker that this process is.

    Raises:
        RuntimeError: this process is the template.
    """
    if _Own.process is None:
        raise RuntimeError("the template runs no calculation")
    return _Own.process
