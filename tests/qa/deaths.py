"""A module for `[agent] preload`: in each calculation a worker dies at its first task, or its node does.

The first worker that is about to run a task of a calculation writes a file: its name is the id of the
calculation, its text how the worker dies. All others go on. How depends on the id alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from openquake.baselib import parallel

from quakegrid.engine import this_process
from quakegrid.engine.tasks.worker_process import WorkerProcess

FOLDER = "deaths"
# Into a task, or as long as it lasts; a task that is shorter ends, and its worker dies a little later.
LATER_S = 0.05


class Death(StrEnum):
    """How."""

    BEFORE = "the worker, before its task"
    IN_TASK = "the worker, 0.05 s into its task"
    AFTER = "the worker, after its task, of which nobody has heard"
    NODE = "the node, before its task"


def death_of(job_id: int) -> Death:
    """How a calculation's first worker dies."""
    return list(Death)[job_id % len(Death)]


def _claim(job_id: int) -> Death | None:
    """The death that this worker shall die; None if it is another's, or was."""
    path = this_process.settings().state_dir.parent / FOLDER / str(job_id)
    death = death_of(job_id)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(death)
    except FileExistsError:
        return None
    return death


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_later() -> None:
    time.sleep(LATER_S)  # the length of the fault, not a wait for something
    _die()


def _kill_node() -> None:
    """Kill agent and template, and this worker; the template's other children die with it."""
    template = os.getppid()
    stat = Path(f"/proc/{template}/stat").read_text(encoding="utf-8")
    agent = int(stat.rpartition(")")[2].split()[1])
    for pid in (agent, template, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def _dying(original: Callable[..., Any]) -> Callable[..., Any]:
    def safely_call(func: Any, args: Any, task_no: int, mon: Any) -> Any:
        is_worker = isinstance(this_process.current(), WorkerProcess)
        death = _claim(mon.calc_id) if is_worker else None
        if death is Death.NODE:
            _kill_node()
        elif death is Death.BEFORE:
            _die()
        elif death is Death.IN_TASK:
            threading.Thread(target=_die_later, daemon=True).start()
        result = original(func, args, task_no, mon)
        if death is Death.AFTER:
            _die()
        return result

    return safely_call


parallel.safely_call = _dying(parallel.safely_call)
